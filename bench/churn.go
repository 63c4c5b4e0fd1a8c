package main

import (
	"errors"
	"fmt"
	"time"
)

// measureChurn rotates a hundred times each of a small number of families and
// looks at what became of their table.
func (b *bench) measureChurn() error { return b.wearOut(b.postgresBed, b.churn/100, b.churn) }

// measureChurnSQLite does the same on SQLite with a tenth of both.
func (b *bench) measureChurnSQLite() error {
	return b.wearOut(b.sqliteBed, b.churn/1000, b.churn/10)
}

func (b *bench) wearOut(lay layBed, families, rotations int) (err error) {
	d, err := lay("churn", families, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	s, err := d.start()
	if err != nil {
		return err
	}
	defer s.stop()
	before, err := d.size(b.ctx)
	if err != nil {
		return err
	}
	callers := refreshers(d.fleet, s.public, 64)
	t, err := drive(b.ctx, s.public, callers, 0, rotations)
	if err != nil {
		return err
	}
	rotated := 0
	for _, c := range callers {
		rotated += c.(*refresher).answers
	}
	after, err := d.size(b.ctx)
	if err != nil {
		return err
	}
	what := map[string]string{"Postgres": "table", "SQLite": "database"}[d.engine]
	b.report.atMost(fmt.Sprintf("%s, %s after %d rotations / before", d.engine, what, rotations), float64(after)/float64(before), "", 1.5,
		"%d families, %d to %d MiB; %.0f/s, p99 %.2f ms", families, before/mib, after/mib, t.rate(), millis(quantile(t.latencies, 0.99)))
	if err := b.auditBed(d); err != nil || d.wear == nil {
		return err
	}
	updated, inPage, err := d.wear(b.ctx)
	// Idle backends tell their counters within ten seconds.
	for deadline := time.Now().Add(20 * time.Second); err == nil && updated < int64(rotated); updated, inPage, err = d.wear(b.ctx) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d rotations were answered, and Postgres has counted %d updates", rotated, updated)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	b.report.atLeast(fmt.Sprintf("%s, rotations that are HOT updates", d.engine), 100*float64(inPage)/float64(updated), "%", 90,
		"%d of %d updates over %d families", inPage, updated, families)
	return nil
}
