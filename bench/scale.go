package main

import (
	"errors"
	"fmt"
	"slices"
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

// A p99 at a fixed rate is taken in many short slices, and their median counts: a
// neighbour on the machine that keeps the disk for ten seconds spoils some of
// them, and would spoil a whole long measurement.
const (
	sliceSeconds = 4
	sliceTurns   = 5 // of each rival in one round
)

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
		for turn := range sliceTurns * len(rivals) {
			r := rivals[(round+turn)%len(rivals)]
			p99, err := b.slice(r.fleet, r.server.public, 16, b.rate)
			if err != nil {
				return err
			}
			r.p99 = append(r.p99, p99)
		}
		for turn := range rivals {
			r := rivals[(round+turn)%len(rivals)]
			t, err := drive(b.ctx, r.server.public, refreshers(r.fleet, r.server.public, 64), b.seconds, 0)
			if err != nil {
				return err
			}
			r.busy, r.rate = append(r.busy, millis(quantile(t.latencies, 0.99))), append(r.rate, t.rate())
			say("  round %d, %d families: p99 %.2f ms at %d/s; %.2f ms with 64 clients at %.0f/s",
				round+1, len(r.fleet.ids), median(r.p99[len(r.p99)-sliceTurns:]), b.rate, r.busy[round], r.rate[round])
		}
	}
	low, high := rivals[0], rivals[1]
	name := fmt.Sprintf("%s, p99 among %d families / among %d", engine, many, few)
	b.report.atMost(name, median(high.p99)/median(low.p99), "", 1.2, "%d requests a second: %.2f and %.2f ms, medians of %d turns of %d s",
		b.rate, median(high.p99), median(low.p99), len(low.p99), sliceSeconds)
	b.report.note(name+", 64 clients", median(high.busy)/median(low.busy), "", "%.2f and %.2f ms, %.0f/s and %.0f/s; as fast as they can, right after a checkpoint",
		median(high.busy), median(low.busy), median(high.rate), median(low.rate))
	return nil
}

// slice returns the p99, in milliseconds, of sliceSeconds of a load of refreshes.
func (b *bench) slice(f *fleet, address string, clients, perSecond int) (p99 float64, err error) {
	t, err := follow(b.ctx, address, refreshers(f, address, clients), course{seconds: sliceSeconds, perSecond: perSecond})
	if err != nil {
		return 0, err
	}
	return millis(quantile(t.latencies, 0.99)), nil
}

// purgeLoad is the least rate at which refreshes go on while rows are purged.
const purgeLoad = 500

// The cleanup is held for purgeHeld slices of purgeRound and let go for the others,
// again and again: hours of a purge compared with the minutes before and after it
// would say how busy the neighbours were. It notices either within about a minute,
// which is its rhythm.
const (
	purgeRound = 150
	purgeHeld  = 20
)

// measurePurge lets the server's own cleanup delete rows that expired, under
// load, and compares the latency with that while it is held back.
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
	deadlocks, err := b.deadlocks(d)
	if err != nil {
		return err
	}
	rate := max(b.rate, purgeLoad)
	during, calm, took, err := b.slicesBesidePurge(d, s, rate, expired)
	if err != nil {
		return err
	}
	after, err := b.deadlocks(d)
	if err != nil {
		return err
	}
	left, err := d.query(b.ctx, `SELECT count(*) FROM families`)
	if err != nil {
		return err
	}
	b.report.atMost(d.engine+", p99 while expired rows are purged / while not", median(during)/median(calm), "", 1.2,
		"%d requests a second: %.2f and %.2f ms, medians of %d and %d slices of %d s that took turns; %d rows, %.0f a second, %d families left of %d",
		rate, median(during), median(calm), len(during), len(calm), sliceSeconds, expired, float64(expired)/took.Seconds(), left, living)
	slowest := func(p99 []float64) float64 { return quantile(slices.Sorted(slices.Values(p99)), 0.9) }
	b.report.note(d.engine+", the same of the slowest tenth of the slices", slowest(during)/slowest(calm), "",
		"from %.2f and %.2f ms on; at most %.2f and %.2f ms", slowest(during), slowest(calm), slices.Max(during), slices.Max(calm))
	if d.wear != nil {
		b.report.atMost(d.engine+", deadlocks while expired rows are purged", float64(after-deadlocks), "", 0, "pg_stat_database")
	}
	if int(left) != living {
		return fmt.Errorf("%d families are left; want %d", left, living)
	}
	return b.auditBed(d)
}

// slicesBesidePurge takes slices until all expired rows are gone: those in which
// the server deleted some, which took so long, and those in which it did not.
func (b *bench) slicesBesidePurge(d *bed, s *authserver, rate, expired int) (during, calm []float64, took time.Duration, err error) {
	swept := 0
	var seen struct{ during, calm int } // in the rounds before
	for taken := 1; swept < expired; taken++ {
		begun := time.Now()
		p99, err := b.slice(d.fleet, s.public, 32, rate)
		if err != nil {
			return nil, nil, 0, err
		}
		values, err := readMetrics(b.ctx, s)
		if err != nil {
			return nil, nil, 0, err
		}
		before := swept
		if swept = int(values[`authserver_swept_rows_total{table="families"}`]); swept > before {
			during = append(during, p99)
			took += time.Since(begun)
		} else {
			calm = append(calm, p99)
		}
		at := taken % purgeRound
		if at == 0 {
			if swept == 0 {
				return nil, nil, 0, errors.New("the cleanup has not begun")
			}
			say("  %d of %d rows are gone: p99 %.2f ms meanwhile, %.2f ms else; in this round %.2f and %.2f ms",
				swept, expired, median(during), median(calm), median(during[seen.during:]), median(calm[seen.calm:]))
			seen.during, seen.calm = len(during), len(calm)
		}
		switch {
		case at < purgeHeld:
			err = d.holdSweep(b.ctx)
		case at == purgeHeld:
			err = d.freeSweep(b.ctx)
		}
		if err != nil {
			return nil, nil, 0, err
		}
	}
	return during, calm, took, nil
}

// deadlocks are those that the database has counted; SQLite has none.
func (b *bench) deadlocks(d *bed) (int64, error) {
	if d.wear == nil {
		return 0, nil
	}
	return d.query(b.ctx, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
}
