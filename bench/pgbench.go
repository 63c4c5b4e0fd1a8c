package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// updates runs pgbench with so many clients. The tally has no latencies.
func (b *bench) updates(clients int) (tally, error) {
	script := filepath.Join(b.dir, "update.sql")
	if err := os.WriteFile(script, []byte(oneRowUpdate), 0o644); err != nil {
		return tally{}, err
	}
	cmd := b.cluster.program("pgbench", "-h", b.cluster.host, "-p", b.cluster.port, "-U", "postgres", "-n", "-M", "prepared",
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(2, clients)), "-T", strconv.Itoa(b.seconds),
		"-D", fmt.Sprintf("families=%d", b.families), "-f", script, database)
	var out bytes.Buffer
	cmd.Stdout = &out
	before, busy := b.cluster.cpu(), busyTime()
	c, err := startChild(cmd, "pgbench", filepath.Join(b.dir, "pgbench.log"), syscall.SIGKILL, b.cluster.owner)
	if err != nil {
		return tally{}, err
	}
	select {
	case <-c.done:
	case <-b.ctx.Done():
		c.stop(syscall.SIGTERM, time.Second)
		return tally{}, b.ctx.Err()
	case <-time.After(time.Duration(b.seconds)*time.Second + time.Minute):
		c.stop(syscall.SIGTERM, time.Second)
		return tally{}, fmt.Errorf("pgbench went on a minute longer than told: %s", tail(c.log))
	}
	found := tpsLine.FindSubmatch(out.Bytes())
	if c.err != nil || found == nil {
		return tally{}, fmt.Errorf("pgbench: %w:\n%s\n%s", c.err, out.Bytes(), tail(c.log))
	}
	tps, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		return tally{}, err
	}
	return tally{
		n: int(tps * float64(b.seconds)), elapsed: time.Duration(b.seconds) * time.Second,
		cpu:  []time.Duration{b.cluster.cpu() - before},
		busy: busyTime() - busy,
		load: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
	}, nil
}
