package main

import (
	"context"
	"fmt"
	"time"

	"example.com/authserver/test/rig"
)

// measureCost refreshes with one client to many and says who spent which CPU
// time: server, database, load generator. Then it does so at a fixed rate, where
// nothing waits for a core.
func (b *bench) measureCost() error {
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
		return err
	}
	for _, clients := range []int{1, 8, 64, 256} {
		if err := b.costOf(s, fmt.Sprintf("whole system, %s", inWords(clients)), clients, 0); err != nil {
			return err
		}
	}
	// What the clients before left to be vacuumed is not this load's.
	if _, err := b.cluster.conn.Exec(b.ctx, `VACUUM ANALYZE families`); err != nil {
		return err
	}
	return b.costOf(s, fmt.Sprintf("whole system, %d requests a second", b.rate), 16, b.rate)
}

// costOf takes the rounds of one load. A round's figures belong together, so
// the round with the median rate, or p99 at a fixed rate, is the one reported.
func (b *bench) costOf(s *authserver, name string, clients, perSecond int) error {
	var p99s, bare, rates, server, postgres, load, mallocs, bytes []float64
	for range b.rounds {
		if perSecond > 0 { // the rival's turn
			t, err := b.updatesAt(clients, perSecond)
			if err != nil {
				return err
			}
			bare = append(bare, millis(quantile(t.latencies, 0.99)))
			if err := b.fleet.settle(b.ctx, b.cluster); err != nil { // it has moved the generations
				return err
			}
		}
		before, err := readMetrics(b.ctx, s)
		if err != nil {
			return err
		}
		callers := refreshers(b.fleet, s.public, clients)
		t, err := follow(b.ctx, s.public, callers, course{seconds: b.seconds, perSecond: perSecond},
			func() time.Duration { return cpuOf(s.pid()) }, b.cluster.cpu)
		if err != nil {
			return err
		}
		after, err := readMetrics(b.ctx, s)
		if err != nil {
			return err
		}
		answers := 0 // those of the warm-up allocate, too
		for _, c := range callers {
			answers += c.(*refresher).answers
		}
		each := func(metric string) float64 { return (after[metric] - before[metric]) / float64(answers) }
		rates, p99s = append(rates, t.rate()), append(p99s, millis(quantile(t.latencies, 0.99)))
		server, postgres, load = append(server, t.each(t.cpu[0])), append(postgres, t.each(t.cpu[1])), append(load, t.each(t.load))
		mallocs, bytes = append(mallocs, each("go_memstats_mallocs_total")), append(bytes, each("go_memstats_alloc_bytes_total"))
	}
	if perSecond > 0 {
		b.report.atMost(name+", p99", median(p99s), "ms", 2, "median of %d rounds, %s; %.0f were made a second", len(p99s), spread(p99s), median(rates))
		b.report.note(name+", p99 / that of a bare update", median(p99s)/median(bare), "", "pgbench at the same rate: %.2f ms, %s", median(bare), spread(bare))
	} else {
		b.report.note(name, median(rates), "/s", "p99 %.2f ms; median of %d rounds, %s", median(p99s), len(rates), spread(rates))
	}
	// A microsecond each is a millisecond for a thousand.
	whole := median(server) + median(postgres) + median(load)
	b.report.note(name+": CPU of a thousand refreshes", whole/1000, "s", "server %.3f, Postgres %.3f, load generator %.3f s; %.0f allocations of %.0f bytes for each refresh",
		median(server)/1000, median(postgres)/1000, median(load)/1000, median(mallocs), median(bytes))
	return nil
}

// readMetrics returns what a server says of itself, by name with labels.
func readMetrics(ctx context.Context, s *authserver) (map[string]float64, error) {
	text, err := fetch(ctx, "http://"+s.operations+"/metrics")
	if err != nil {
		return nil, err
	}
	return rig.Samples(text), nil
}
