package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/store/sqlite"
)

// BenchmarkRotateBatch counts rotations by one caller, who sends the next batch
// when the last one has committed.
func BenchmarkRotateBatch(b *testing.B) {
	for _, size := range []int{1, 16, 64, 128} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db := open(b, sqlite.Options{Path: file(b), Server: true})
			all := families(b, db, 1024)
			generations := make([]int32, len(all))
			batch := make([]refresh.Call, size)
			at := 0
			for b.Loop() {
				for i := range batch {
					generations[at]++
					batch[i] = call(all[at], generations[at])
					at = (at + 1) % len(all)
				}
				outcomes, err := db.Families().RotateBatch(b.Context(), batch)
				if err != nil || outcomes[0] == nil {
					b.Fatal(outcomes, err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "rotations/s")
		})
	}
}

// BenchmarkOpenMigrate is the first start: an empty directory to a schema.
func BenchmarkOpenMigrate(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		db, err := sqlite.Open(b.Context(), sqlite.Options{Path: filepath.Join(dir, fmt.Sprint(i), "authserver.db"), Server: true})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := db.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}
