package main

import (
	"fmt"
	"path/filepath"
	"time"
)

// sqliteFamilies are enough that no client meets the same one soon.
const sqliteFamilies = 100_000

// measureSQLite refreshes on the engine that needs nothing installed. There is
// no rival and no target: it is for information.
func (b *bench) measureSQLite() error {
	dir := filepath.Join(b.dir, "sqlite")
	f, err := seedSQLite(b.ctx, dir, min(sqliteFamilies, b.families), 0)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	s, err := b.startServer(dir, "")
	if err != nil {
		return err
	}
	defer s.stop()
	for _, clients := range []int{64, 1} {
		run := func(seconds int) (tally, error) {
			callers := refreshers(f, s.public, clients)
			t, err := drive(b.ctx, s.public, callers, seconds, 0, func() time.Duration { return cpuOf(s.pid()) })
			if err == nil {
				_, err = verifySamples(b.ctx, s, callers)
			}
			return t, err
		}
		t, err := run(b.seconds)
		if err != nil {
			return err
		}
		b.report.note("refresh on SQLite, "+inWords(clients), t.rate(), "/s", "p50 %.2f ms, p99 %.2f ms; CPU each: server %.0f us, load generator %.0f us; %d families",
			millis(quantile(t.latencies, 0.5)), millis(quantile(t.latencies, 0.99)), t.each(t.cpu[0]), t.each(t.load), len(f.ids))
		err = b.profile(s, fmt.Sprintf("sqlite-%d", clients), func(seconds int) error {
			_, err := run(seconds)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
