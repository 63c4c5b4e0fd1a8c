package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// oneRowUpdate is the rival: the same table with the same indexes, one row of a
// million at random, one commit each, prepared. It does what every server does
// that rotates without group commit, and nothing else: no HTTP, no signature,
// no join with the user.
//
// The id is computed, not looked up: see fleet.
const oneRowUpdate = `\set i random(1, :families)
UPDATE families SET generation = generation + 1, used_at = now(), head_born = now() WHERE id = md5(:i)::uuid RETURNING generation;
`

var tpsLine = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)

// updates runs pgbench with so many clients, each as fast as it can. The tally
// has no latencies.
func (b *bench) updates(clients int) (tally, error) {
	out, t, err := b.pgbench(clients)
	if err != nil {
		return tally{}, err
	}
	found := tpsLine.FindSubmatch(out)
	if found == nil {
		return tally{}, fmt.Errorf("pgbench does not say its rate:\n%s", out)
	}
	tps, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		return tally{}, err
	}
	t.n = int(tps * float64(b.seconds))
	return t, nil
}

// updatesAt runs pgbench at a fixed rate, for its latencies: from when an update
// was sent until it was answered.
func (b *bench) updatesAt(clients, perSecond int) (tally, error) {
	dir, err := b.cluster.scratch(b.dir)
	if err != nil {
		return tally{}, err
	}
	defer os.RemoveAll(dir)
	_, t, err := b.pgbench(clients, "-R", strconv.Itoa(perSecond), "-l", "--log-prefix="+filepath.Join(dir, "update"))
	if err != nil {
		return tally{}, err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return tally{}, err
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return tally{}, err
		}
		for line := range bytes.Lines(text) {
			// Client, number, microseconds since it was due, script, when, when, and
			// those of the microseconds that pgbench itself was late.
			var client, number, took, script, at, us, late int64
			if _, err := fmt.Sscan(string(line), &client, &number, &took, &script, &at, &us, &late); err != nil {
				return tally{}, fmt.Errorf("pgbench wrote %q: %w", line, err)
			}
			t.latencies = append(t.latencies, time.Duration(took-late)*time.Microsecond)
		}
	}
	slices.Sort(t.latencies)
	if t.n = len(t.latencies); t.n == 0 {
		return tally{}, errors.New("pgbench wrote no latencies")
	}
	return t, nil
}

// pgbench runs the update for the length of a measurement and returns what it
// printed, and a tally without a number.
func (b *bench) pgbench(clients int, more ...string) ([]byte, tally, error) {
	script := filepath.Join(b.dir, "update.sql")
	if err := os.WriteFile(script, []byte(oneRowUpdate), 0o644); err != nil {
		return nil, tally{}, err
	}
	args := append([]string{
		"-h", b.cluster.host, "-p", b.cluster.port, "-U", "postgres", "-n", "-M", "prepared",
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)), "-T", strconv.Itoa(b.seconds),
		"-D", fmt.Sprintf("families=%d", b.families), "-f", script,
	}, more...)
	cmd := b.cluster.program("pgbench", append(args, database)...)
	var out bytes.Buffer
	cmd.Stdout = &out
	before, busy := b.cluster.cpu(), busyTime()
	c, err := startChild(cmd, "pgbench", filepath.Join(b.dir, "pgbench.log"), syscall.SIGKILL, b.cluster.owner)
	if err != nil {
		return nil, tally{}, err
	}
	select {
	case <-c.done:
	case <-b.ctx.Done():
		c.stop(syscall.SIGTERM, time.Second)
		return nil, tally{}, b.ctx.Err()
	case <-time.After(time.Duration(b.seconds)*time.Second + time.Minute):
		c.stop(syscall.SIGTERM, time.Second)
		return nil, tally{}, fmt.Errorf("pgbench went on a minute longer than told: %s", tail(c.log))
	}
	if c.err != nil {
		return nil, tally{}, fmt.Errorf("pgbench: %w:\n%s\n%s", c.err, out.Bytes(), tail(c.log))
	}
	return out.Bytes(), tally{
		elapsed: time.Duration(b.seconds) * time.Second,
		cpu:     []time.Duration{b.cluster.cpu() - before},
		busy:    busyTime() - busy,
		load:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
	}, nil
}
