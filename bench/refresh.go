package main

import (
	"fmt"
	"slices"
	"time"
)

// measureRefresh lets refreshes over HTTP and pgbench's updates take turns, at
// 64 clients and at one.
func (b *bench) measureRefresh() error {
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	meters := []func() time.Duration{func() time.Duration { return cpuOf(s.pid()) }, b.cluster.cpu}
	checked := 0
	refreshes := func(clients, seconds int) (tally, error) {
		if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
			return tally{}, err
		}
		callers := refreshers(b.fleet, s.public, clients)
		t, err := drive(b.ctx, s.public, callers, seconds, 0, meters...)
		if err != nil {
			return t, err
		}
		n, err := verifySamples(b.ctx, s, callers)
		checked += n
		return t, err
	}
	updates := func(clients int) (tally, error) {
		if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
			return tally{}, err
		}
		return b.updates(clients)
	}

	for _, contest := range []struct {
		clients int
		target  float64
	}{{64, 0.8}, {1, 0.4}} {
		var ours, theirs []tally
		for round := range b.rounds {
			var o, t tally
			var err error
			turns := []func() error{
				func() error { o, err = refreshes(contest.clients, b.seconds); return err },
				func() error { t, err = updates(contest.clients); return err },
			}
			first := round % 2 // who begins has the table as the other one left it
			for _, turn := range []int{first, 1 - first} {
				if err := turns[turn](); err != nil {
					return err
				}
			}
			say("  %s, round %d: %.0f refreshes/s, %.0f updates/s; others took %.0f and %.0f %% of the machine",
				inWords(contest.clients), round+1, o.rate(), t.rate(), 100*o.others(), 100*t.others())
			ours, theirs = append(ours, o), append(theirs, t)
		}
		b.reportRefresh(contest.clients, contest.target, ours, theirs)
		err := b.profile(s, fmt.Sprintf("refresh-%d", contest.clients), func(seconds int) error {
			t, err := refreshes(contest.clients, seconds)
			if err == nil {
				say("  %s, profiled: %.0f refreshes/s, CPU of the server %.0f us each", inWords(contest.clients), t.rate(), t.each(t.cpu[0]))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	b.report.note("access tokens verified through the key set", float64(checked), "", "and every refresh token compared with the one that must come")
	return nil
}

func (b *bench) reportRefresh(clients int, target float64, ours, theirs []tally) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i].rate() / theirs[i].rate()
	}
	who := inWords(clients)
	b.report.atLeast("refresh / pgbench update, "+who, median(ratios), "", target, "median of %d rounds, %s; others took %.0f %% of the machine", len(ratios), spread(ratios),
		100*medianOf(append(slices.Clone(ours), theirs...), tally.others))
	b.report.note("refresh, "+who, medianOf(ours, tally.rate), "/s", "p50 %.2f ms, p99 %.2f ms",
		medianOf(ours, func(t tally) float64 { return millis(quantile(t.latencies, 0.50)) }),
		medianOf(ours, func(t tally) float64 { return millis(quantile(t.latencies, 0.99)) }))
	b.report.note("pgbench update, "+who, medianOf(theirs, tally.rate), "/s", "CPU each: Postgres %.0f us, pgbench %.0f us",
		medianOf(theirs, func(t tally) float64 { return t.each(t.cpu[0]) }), medianOf(theirs, func(t tally) float64 { return t.each(t.load) }))
	server := medianOf(ours, func(t tally) float64 { return t.each(t.cpu[0]) })
	postgres := medianOf(ours, func(t tally) float64 { return t.each(t.cpu[1]) })
	load := medianOf(ours, func(t tally) float64 { return t.each(t.load) })
	update := medianOf(theirs, func(t tally) float64 { return t.each(t.cpu[0] + t.load) })
	b.report.note("CPU of an update / of a refresh, "+who, update/(server+postgres+load), "", "what the ratio comes to where CPU is the ceiling of both")
	b.report.note("CPU of a refresh, "+who, server+postgres+load, "us", "server %.0f us, Postgres %.0f us, load generator %.0f us", server, postgres, load)
	if clients == 64 {
		b.report.atMost("CPU of the server for a refresh, "+who, server, "us", 110, "")
		b.report.atMost("CPU of Postgres for a refresh, "+who, postgres, "us", 25, "")
		b.report.atMost("refresh p99, "+who, medianOf(ours, func(t tally) float64 { return millis(quantile(t.latencies, 0.99)) }), "ms", 15, "")
	}
}

func medianOf(list []tally, value func(tally) float64) float64 {
	values := make([]float64, len(list))
	for i, t := range list {
		values[i] = value(t)
	}
	return median(values)
}

func inWords(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", clients)
}

func spread(values []float64) string {
	return fmt.Sprintf("%.2f to %.2f", slices.Min(values), slices.Max(values))
}
