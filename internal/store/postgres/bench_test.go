package postgres_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store/postgres"
)

// BenchmarkRotateBatch rotates 100,000 families in random order, in batches of
// several sizes, as many at once as the store likes. One operation is one
// rotation.
func BenchmarkRotateBatch(b *testing.B) {
	const families = 100_000
	url := migrated(b)
	ids := seeded(b, url, families)
	db := open(b, postgres.Options{URL: secret.NewText(url), MaxConns: 12})
	admin := connect(b, url)
	var generation [families]int32
	var next int
	var mu sync.Mutex
	take := func(n int) (from int) { // families from, from+1, ... are this batch's
		mu.Lock()
		defer mu.Unlock()
		if next+n > families {
			next = 0
		}
		from, next = next, next+n
		return from
	}
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			var before, after string
			if err := admin.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&before); err != nil {
				b.Fatal(err)
			}
			cpu := backendCPU(b, admin)
			turns := make(chan int)
			var flights sync.WaitGroup
			for range db.Families().BatchLimits().InFlight {
				flights.Go(func() {
					for n := range turns {
						from := take(n)
						calls := make([]refresh.Call, n)
						for i := range calls {
							calls[i] = present(ids[from+i], generation[from+i]+1)
						}
						outcomes, err := db.Families().RotateBatch(b.Context(), calls)
						if err != nil {
							b.Error(err)
							return
						}
						for i, out := range outcomes {
							if out == nil {
								b.Errorf("family %s at generation %d was not rotated", ids[from+i], generation[from+i]+1)
								continue
							}
							generation[from+i]++
						}
					}
				})
			}
			for left := b.N; left > 0; left -= size {
				turns <- min(size, left)
			}
			close(turns)
			flights.Wait()
			var wal float64
			err := admin.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn()::text, (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::float8", before).Scan(&after, &wal)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((backendCPU(b, admin)-cpu).Microseconds())/float64(b.N), "postgres-us/op")
			b.ReportMetric(wal/float64(b.N), "walB/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rotations/s")
		})
	}
}

// backendCPU is the CPU time that the connections of this database have taken,
// as the kernel of this machine tells it; zero where it does not.
func backendCPU(b *testing.B, admin *pgx.Conn) (sum time.Duration) {
	b.Helper()
	rows, err := admin.Query(b.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	if err != nil {
		b.Fatal(err)
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		b.Fatal(err)
	}
	for _, pid := range pids {
		var cpu time.Duration
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)); err == nil {
			_, _ = fmt.Sscan(string(text), &cpu)
		}
		sum += cpu
	}
	return sum
}

// BenchmarkSweep deletes expired families with their sessions in batches of several
// sizes, nobody else being there. One operation is one family; run it with
// -benchtime=20000x, because the dead are counted: 100,000.
func BenchmarkSweep(b *testing.B) {
	url := migrated(b)
	seeded(b, url, 100_000)
	db := open(b, postgres.Options{URL: secret.NewText(url), MaxConns: 12})
	admin := connect(b, url)
	for _, statement := range []string{
		`UPDATE families SET used_at = now() - interval '100 days', head_born = now() - interval '100 days',
			born_at = now() - interval '101 days', auth_time = now() - interval '101 days'`,
		`VACUUM FULL families`, // as they were born: side by side
		`VACUUM ANALYZE families`,
		`CHECKPOINT`,
	} {
		if _, err := admin.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	policy := refresh.Policy{IdleTTL: 720 * time.Hour}
	before := time.Now().Add(-7 * 24 * time.Hour)
	place := refresh.Edge
	for _, size := range []int{5, 10, 25, 100, 400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var start string
			if err := admin.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&start); err != nil {
				b.Fatal(err)
			}
			cpu := backendCPU(b, admin)
			for left := b.N; left > 0; {
				next, deleted, err := db.Families().Sweep(b.Context(), place, min(size, left), policy, before)
				if err != nil {
					b.Fatal(err)
				}
				if next == refresh.Edge {
					b.Fatal("no dead family is left: run it with -benchtime=20000x")
				}
				place = next
				left -= deleted
			}
			var wal float64
			if err := admin.QueryRow(b.Context(), "SELECT (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::float8", start).Scan(&wal); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64((backendCPU(b, admin)-cpu).Microseconds())/float64(b.N), "postgres-us/op")
			b.ReportMetric(wal/float64(b.N), "walB/op")
		})
	}
}
