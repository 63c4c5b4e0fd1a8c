package main

import (
	"errors"
	"fmt"
	"time"
)

// fewFamilies is what a great number of families is compared with.
const fewFamilies = 10_000

// measureScale compares refreshes among a great many families with refreshes
// among few, in one cluster, with two servers that take turns.
func (b *bench) measureScale() error {
	return b.compareSizes(b.postgresBed, b.scaleOf, fewFamilies)
}

// measureScaleSQLite does the same on SQLite with a tenth of both.
func (b *bench) measureScaleSQLite() error {
	return b.compareSizes(b.sqliteBed, b.scaleOf/10, fewFamilies/10)
}

// layBed is sqliteBed or postgresBed.
type layBed func(name string, families, expired int) (*bed, error)

func (b *bench) compareSizes(lay layBed, many, few int) (err error) {
	type rival struct {
		server *authserver
		fleet  *fleet
		p99    []float64 // at the fixed rate
		busy   []float64 // with 64 clients
		rate   []float64
	}
	var rivals []*rival
	engine := ""
	for _, size := range []int{few, many} {
		d, failed := lay(fmt.Sprintf("families_%d", size), size, 0)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, d.remove()) }()
		s, failed := d.start()
		if failed != nil {
			return failed
		}
		defer s.stop()
		rivals, engine = append(rivals, &rival{server: s, fleet: d.fleet}), d.engine
	}
	for round := range b.rounds {
		for turn := range rivals {
			r := rivals[(round+turn)%len(rivals)]
			callers := refreshers(r.fleet, r.server.public, 16)
			t, err := follow(b.ctx, r.server.public, callers, course{seconds: b.seconds, perSecond: b.rate})
			if err != nil {
				return err
			}
			r.p99 = append(r.p99, millis(quantile(t.latencies, 0.99)))
			if t, err = drive(b.ctx, r.server.public, refreshers(r.fleet, r.server.public, 64), b.seconds, 0); err != nil {
				return err
			}
			r.busy, r.rate = append(r.busy, millis(quantile(t.latencies, 0.99))), append(r.rate, t.rate())
			say("  round %d, %d families: p99 %.2f ms at %d/s; %.2f ms with 64 clients at %.0f/s",
				round+1, len(r.fleet.ids), r.p99[round], b.rate, r.busy[round], r.rate[round])
		}
	}
	low, high := rivals[0], rivals[1]
	name := fmt.Sprintf("%s, p99 among %d families / among %d", engine, many, few)
	b.report.atMost(name, median(high.p99)/median(low.p99), "", 1.2, "%d requests a second: %.2f and %.2f ms, medians of %d rounds",
		b.rate, median(high.p99), median(low.p99), b.rounds)
	b.report.note(name+", 64 clients", median(high.busy)/median(low.busy), "", "%.2f and %.2f ms, %.0f/s and %.0f/s; as fast as they can, right after a checkpoint",
		median(high.busy), median(low.busy), median(high.rate), median(low.rate))
	return nil
}

// purgeLoad is the least rate at which refreshes go on while rows are purged.
const purgeLoad = 500

// measurePurge lets the server's own cleanup delete rows that expired, under
// load, and compares the latency with that before.
func (b *bench) measurePurge() error { return b.purge(b.postgresBed, b.scaleOf/10, b.scaleOf/2) }

// measurePurgeSQLite does the same on SQLite with a tenth of everything.
func (b *bench) measurePurgeSQLite() error {
	return b.purge(b.sqliteBed, b.scaleOf/100, b.scaleOf/20)
}

func (b *bench) purge(lay layBed, living, expired int) (err error) {
	d, err := lay("purge", living, expired)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	if err := d.holdSweep(b.ctx); err != nil {
		return err
	}
	s, err := d.start()
	if err != nil {
		return err
	}
	defer s.stop()
	rate := max(b.rate, purgeLoad)
	load := func(c course) (tally, error) {
		c.perSecond = rate
		return follow(b.ctx, s.public, refreshers(d.fleet, s.public, 32), c)
	}
	before, err := load(course{seconds: max(60, b.seconds)})
	if err != nil {
		return err
	}
	deadlocks, err := b.deadlocks(d)
	if err != nil {
		return err
	}
	if err := d.freeSweep(b.ctx); err != nil {
		return err
	}
	begun, done := make(chan struct{}), make(chan struct{})
	go b.watchPurge(s, expired, begun, done)
	select {
	case <-begun: // within about a minute: that is the job's rhythm
	case <-time.After(3 * time.Minute):
		return errors.New("the cleanup has not begun")
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	during, err := load(course{until: done})
	if err != nil {
		return err
	}
	left, err := d.query(b.ctx, `SELECT count(*) FROM families`)
	if err != nil {
		return err
	}
	after, err := b.deadlocks(d)
	if err != nil {
		return err
	}
	p99 := func(t tally) float64 { return millis(quantile(t.latencies, 0.99)) }
	b.report.atMost(d.engine+", p99 while expired rows are purged / before", p99(during)/p99(before), "", 1.2,
		"%d requests a second: %.2f and %.2f ms; %d rows in %s, %d families left of %d", rate, p99(during), p99(before), expired,
		during.elapsed.Round(time.Second), left, living)
	if d.wear != nil {
		b.report.atMost(d.engine+", deadlocks while expired rows are purged", float64(after-deadlocks), "", 0, "pg_stat_database")
	}
	if int(left) != living {
		return fmt.Errorf("%d families are left; want %d", left, living)
	}
	return nil
}

// deadlocks are those that the database has counted; SQLite has none.
func (b *bench) deadlocks(d *bed) (int64, error) {
	if d.wear == nil {
		return 0, nil
	}
	return d.query(b.ctx, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
}

// watchPurge closes begun when the server has purged its first rows, and done
// when it has purged all of them, or cannot be asked any more.
func (b *bench) watchPurge(s *authserver, expired int, begun, done chan struct{}) {
	defer close(done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for started := false; ; {
		select {
		case <-b.ctx.Done():
			return
		case <-s.done:
			return
		case <-tick.C:
		}
		values, err := readMetrics(b.ctx, s)
		if err != nil {
			return
		}
		swept := values[`authserver_swept_rows_total{table="families"}`]
		if swept > 0 && !started {
			started = true
			close(begun)
		}
		if int(swept) >= expired {
			return
		}
	}
}
