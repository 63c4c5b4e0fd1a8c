package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// measureSize weighs the binary.
func (b *bench) measureSize() error {
	info, err := os.Stat(b.server)
	if err != nil {
		return err
	}
	b.report.atMost("binary", float64(info.Size())/1e6, "MB", 40, "static, stripped: -trimpath -ldflags \"-s -w\"")
	return nil
}

// idleFor is how long a server is left alone before its memory is weighed.
const idleFor = 5 * time.Second

// measureStart starts the server on an empty directory again and again, makes
// keys and schema each time, and weighs one that was left alone.
func (b *bench) measureStart() error {
	var took []time.Duration
	for n := range b.starts {
		dir := filepath.Join(b.dir, fmt.Sprintf("start-%d", n))
		s, err := b.startServer(dir, "")
		if err != nil {
			return err
		}
		took = append(took, s.startup)
		if n == b.starts-1 {
			select {
			case <-b.ctx.Done():
			case <-time.After(idleFor):
			}
			rss, pss := memoryOf(s.pid(), "status", "VmRSS"), memoryOf(s.pid(), "smaps_rollup", "Pss")
			b.report.atMost("start to ready, empty SQLite directory", millis(median(took)), "ms", 500, "median of %d, %.0f to %.0f",
				len(took), millis(slices.Min(took)), millis(slices.Max(took)))
			b.report.atMost("resident memory, idle", float64(rss)/mib, "MiB", 40, "%s after its start, on SQLite; Pss %.1f MiB", idleFor, float64(pss)/mib)
		}
		s.stop()
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
