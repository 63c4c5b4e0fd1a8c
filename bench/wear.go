package main

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// measureWear rotates a million times and looks at what that did to the
// database: updates within the page, size of the table, write-ahead log.
func (b *bench) measureWear() error {
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
		return err
	}
	before, err := b.readWear()
	if err != nil {
		return err
	}
	watched, stop := context.WithCancel(b.ctx)
	defer stop()
	rss := watchRSS(watched, s.pid())
	callers := refreshers(b.fleet, s.public, 64)
	t, err := drive(b.ctx, s.public, callers, 0, b.rotations)
	if err != nil {
		return err
	}
	rotated := 0
	for _, c := range callers {
		rotated += c.(*refresher).answers
	}
	after, err := b.wearAfter(before, rotated)
	if err != nil {
		return err
	}
	updated, inPage := after.updated-before.updated, after.inPage-before.inPage
	b.report.atLeast("rotations that are HOT updates", 100*float64(inPage)/float64(updated), "%", 90,
		"pg_stat_user_tables: %d of %d updates", inPage, updated)
	b.report.atMost("table after the rotations / before", float64(after.table)/float64(before.table), "", 1.2,
		"%d rotations of random rows of %d: %d to %d MiB; with indexes %.2f", rotated, b.families, before.table/mib, after.table/mib,
		float64(after.whole)/float64(before.whole))
	records, images, err := b.logBetween(before.lsn, after.lsn)
	if err != nil {
		return err
	}
	b.report.atMost("write-ahead log of a rotation", float64(records)/float64(rotated), "bytes", 350,
		"pg_waldump: all records of that time, commits and pruning too; full page images came to %.0f bytes more each", float64(images)/float64(rotated))
	b.report.note("wear run, 64 clients", t.rate(), "/s", "p99 %.2f ms; most resident memory of the server %d MiB", millis(quantile(t.latencies, 0.99)), rss.Load()/mib)
	return nil
}

// wear is a reading of the database's counters.
type wear struct {
	updated, inPage int64
	table, whole    int64 // bytes without and with indexes
	lsn             string
}

func (b *bench) readWear() (w wear, err error) {
	err = b.cluster.conn.QueryRow(b.ctx, `-- name: bench.wear
		SELECT n_tup_upd, n_tup_hot_upd, pg_table_size(relid), pg_total_relation_size(relid), pg_current_wal_insert_lsn()::text
		FROM pg_stat_user_tables WHERE relname = 'families'`).Scan(&w.updated, &w.inPage, &w.table, &w.whole, &w.lsn)
	return w, err
}

// wearAfter waits until the idle backends have told their counters, which takes
// them up to ten seconds; the log's position is that of the first look.
func (b *bench) wearAfter(before wear, rotated int) (wear, error) {
	w, err := b.readWear()
	end := w.lsn
	for deadline := time.Now().Add(20 * time.Second); err == nil && w.updated-before.updated < int64(rotated); w, err = b.readWear() {
		if time.Now().After(deadline) {
			return w, fmt.Errorf("%d rotations were answered, and Postgres has counted %d updates", rotated, w.updated-before.updated)
		}
		time.Sleep(200 * time.Millisecond)
	}
	w.lsn = end
	return w, err
}

// totalLine is the last one of pg_waldump --stats: number of records, their
// bytes, bytes of full page images, both together.
var totalLine = regexp.MustCompile(`(?m)^Total\s+\d+\s+(\d+) \[[^]]*\]\s+(\d+)`)

func (b *bench) logBetween(from, to string) (records, images int64, err error) {
	dump := b.cluster.program("pg_waldump", "--stats", "-p", filepath.Join(b.cluster.dir, "pg_wal"), "-s", from, "-e", to)
	out, err := dump.Output()
	found := totalLine.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, 0, fmt.Errorf("pg_waldump from %s to %s: %w:\n%s", from, to, err, out)
	}
	records, err = strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		return 0, 0, err
	}
	images, err = strconv.ParseInt(string(found[2]), 10, 64)
	return records, images, err
}
