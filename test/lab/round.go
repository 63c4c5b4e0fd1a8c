package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/test/rig"
)

// lab is one run.
type lab struct {
	options
	dir      string
	postgres string // directory of PostgreSQL's programs
	binary   string
	master   string
}

// measure runs one mode from empty disks to the audit. The report holds what
// was found so far also when it fails.
func (l *lab) measure(ctx context.Context, synchronous bool, rounds int) (r *report, err error) {
	r = &report{synchronous: synchronous}
	dir := filepath.Join(l.dir, r.mode())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return r, err
	}
	say("%s: starting three machines ...", r.mode())
	c, err := startCluster(ctx, dir, l.postgres, synchronous)
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.mode(), err)
	}
	defer c.stop()
	nodes, err := l.startServers(ctx, dir, c)
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.Stop())
		}
	}()
	if err != nil {
		return r, err
	}
	storm, err := rig.Gather(ctx, l.clients, 40*time.Millisecond, nodes[0].URL, nodes[1].URL)
	if err != nil {
		return r, err
	}
	storm.Start(ctx)
	guest, leave, err := l.invite(ctx, nodes)
	if err != nil {
		storm.Stop()
		return r, err
	}
	for n := range rounds {
		f := l.faults[n%len(l.faults)]
		found, err := l.round(ctx, c, storm, f)
		if err != nil {
			storm.Stop()
			r.tally, r.violations = storm.Tally(), errors.Join(storm.Violations(), leave())
			err = fmt.Errorf("%s, round %d, %s: %w", r.mode(), n+1, f.name, err)
			if ctx.Err() == nil {
				err = errors.Join(err, errors.New(c.logs()))
			}
			return r, err
		}
		r.rounds = append(r.rounds, found)
		say("  %s", found)
	}
	// Every client goes on from what it was answered last.
	err = storm.AwaitAnswers(ctx, time.Now(), time.Minute)
	storm.Stop()
	r.tally, r.violations = storm.Tally(), errors.Join(storm.Violations(), leave())
	var text string
	var failed, unsaid error
	r.ended, r.revived, unsaid = guest.Revived(ctx)
	err = errors.Join(err, unsaid)
	r.audit, text, failed = nodes[0].Audit(ctx)
	r.audited = failed == nil
	if r.audit > 0 {
		say("audit: %s", text)
	}
	return r, errors.Join(err, failed)
}

// invite has somebody log in and out until leave is called, which tells what was refused.
func (*lab) invite(ctx context.Context, nodes []*rig.Node) (g *rig.Guest, leave func() error, err error) {
	visits := 0
	g = &rig.Guest{
		HTTP: &http.Client{}, Email: "guest@example.com", Password: rig.Password, Pause: 100 * time.Millisecond,
		Node: func() string {
			visits++
			return nodes[visits%len(nodes)].URL
		},
	}
	if err := rig.Register(ctx, g.HTTP, nodes[0].URL, g.Email); err != nil {
		return nil, nil, err
	}
	over, left := make(chan struct{}), make(chan error, 1)
	go func() { left <- g.Stay(ctx, over) }()
	return g, func() error {
		close(over)
		return <-left
	}, nil
}

// startServers starts one server that finds the primary by itself and one that HAProxy leads
// to it.
func (l *lab) startServers(ctx context.Context, dir string, c *cluster) (nodes []*rig.Node, err error) {
	for _, server := range []struct{ name, database string }{{"server-a", c.urlOfAll()}, {"server-b", c.urlThroughDoor()}} {
		n, err := rig.NewNode(server.name, l.binary, dir, "DATABASE_URL="+server.database, "MASTER_KEY="+l.master, "DRAIN_DELAY=0s", "LOG_LEVEL=warn")
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
		if err := n.Start(ctx); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// calm is how long the storm goes on between two faults.
const calm = 2 * time.Second

// round strikes once and waits until all is well again.
func (l *lab) round(ctx context.Context, c *cluster, storm *rig.Storm, f fault) (r round, err error) {
	r.fault = f.name
	primary, err := c.awaitSteady(ctx, 3*time.Minute)
	if err != nil {
		return r, err
	}
	before, err := c.eventsAhead(ctx, primary)
	if err != nil {
		return r, err
	}
	if err := wait(ctx, calm); err != nil {
		return r, err
	}
	storm.Watch()
	struck := time.Now()
	if err := f.strike(ctx, c, primary); err != nil {
		return r, err
	}
	// Held from here to the comparison: what half of the clients were answered
	// is then exactly what the new primary must have. The others go on.
	held := make(chan struct{})
	go func() {
		storm.Hold()
		close(held)
	}()
	defer storm.Release()
	if f.lasts > 0 {
		err := r.sitOut(ctx, c, storm, f, primary, struck, held)
		return r, errors.Join(err, r.countHealed(ctx, c, before))
	}
	_, conn, err := c.awaitSuccessor(ctx, primary, 2*time.Minute)
	if err != nil {
		<-held
		return r, err
	}
	r.successor = time.Since(struck)
	defer conn.Close(ctx)
	// Compared at once, before the clients that go on have healed anything, and
	// once more when all of the held ones stand still.
	first, err := compare(ctx, conn, storm.Clients)
	<-held
	second, again := compare(ctx, conn, storm.Clients)
	if err := errors.Join(err, again); err != nil {
		return r, err
	}
	r.lost = max(first, second)
	storm.Release()
	if err := storm.AwaitAnswers(ctx, time.Now(), 2*time.Minute); err != nil {
		return r, err
	}
	r.outage, r.slowest = storm.Gaps()
	if err := f.repair(ctx, c, primary); err != nil {
		return r, err
	}
	if _, err := c.awaitSteady(ctx, 3*time.Minute); err != nil {
		return r, fmt.Errorf("%s does not come back: %w", primary, err)
	}
	r.whole = time.Since(struck)
	return r, r.countHealed(ctx, c, before)
}

// sitOut waits for the end of a fault in which no other machine takes over, and compares
// then.
func (r *round) sitOut(ctx context.Context, c *cluster, storm *rig.Storm, f fault, primary string, struck time.Time, held <-chan struct{}) error {
	defer func() { <-held }()
	if err := wait(ctx, f.lasts); err != nil {
		return err
	}
	if err := f.repair(ctx, c, primary); err != nil {
		return err
	}
	leader, err := c.awaitSteady(ctx, 3*time.Minute)
	if err != nil {
		return err
	}
	r.whole = time.Since(struck)
	if leader != primary {
		r.successor = r.whole // Patroni may elect another one when etcd is back
	}
	conn, err := c.connect(ctx, leader, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	<-held
	if r.lost, err = compare(ctx, conn, storm.Clients); err != nil {
		return err
	}
	storm.Release()
	err = storm.AwaitAnswers(ctx, time.Now(), 2*time.Minute)
	r.outage, r.slowest = storm.Gaps()
	return err
}

// countHealed notes how many tokens from above the head were met since there were so many.
func (r *round) countHealed(ctx context.Context, c *cluster, before int) error {
	leader, err := c.awaitSteady(ctx, time.Minute)
	if err != nil {
		return err
	}
	after, err := c.eventsAhead(ctx, leader)
	r.healed = after - before
	return err
}

// wait returns when d has passed, or with an error when ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compare counts the rotations that clients were answered and the database does
// not know. What a client was answered is read first: the database may be ahead
// of it, never behind.
func compare(ctx context.Context, conn *pgx.Conn, clients []*rig.Client) (lost int, err error) {
	acked := make(map[[16]byte]uint32, len(clients))
	for _, c := range clients {
		acked[c.Family] = c.Acked()
	}
	rows, err := conn.Query(ctx, `-- name: lab.generations
		SELECT id, generation FROM families`)
	if err != nil {
		return 0, err
	}
	var family [16]byte
	var generation uint32
	_, err = pgx.ForEachRow(rows, []any{&family, &generation}, func() error {
		if has, ok := acked[family]; ok && has > generation {
			lost += int(has - generation)
		}
		delete(acked, family)
		return nil
	})
	if err == nil && len(acked) > 0 {
		err = fmt.Errorf("%d families are gone", len(acked))
	}
	return lost, err
}

// eventsAhead counts the tokens from above the head that a server was shown.
func (c *cluster) eventsAhead(ctx context.Context, primary string) (n int, err error) {
	conn, err := c.connect(ctx, primary, database)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `-- name: lab.ahead
		SELECT count(*) FROM audit_events WHERE kind = 'refresh.ahead_of_store'`).Scan(&n)
	return n, err
}
