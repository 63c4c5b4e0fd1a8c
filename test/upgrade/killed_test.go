package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/pgcluster"
	"example.com/authserver/test/rig"
)

// A migration that is killed in the middle leaves nothing of itself and all of
// the one before, and the next run completes it.
func TestUpgrade_aKilledMigrationCompletesOnRerun(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		b, url, ctx := binaries(t), storetest.Postgres(t), t.Context()
		old := newNode(t, "old", b.released, url)
		must(t, old.Start(ctx))
		storm := gather(t, 8, old.URL)

		conn, err := pgx.Connect(ctx, url)
		must(t, err)
		defer conn.Close(context.WithoutCancel(ctx))
		_, err = conn.Exec(ctx, `SELECT pg_advisory_lock(`+pausedAt+`)`)
		must(t, err)
		process := start(t, newNode(t, "migrator", b.later, url))
		must(t, rig.Poll(ctx, time.Minute, func() error {
			var waiting int
			err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting)
			if err == nil && waiting == 0 {
				err = errors.New("the migration has not come to its middle")
			}
			return err
		}))
		process.Kill()
		// Its backend learns of that when it gets the lock and finds nobody to tell.
		_, err = conn.Exec(ctx, `SELECT pg_advisory_unlock(`+pausedAt+`)`)
		must(t, err)
		must(t, rig.Poll(ctx, time.Minute, func() error {
			var left int
			err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%upgrade_%' AND pid <> pg_backend_pid() AND state <> 'idle'`).Scan(&left)
			if err == nil && left > 0 {
				err = errors.New("a backend still works on the killed migration")
			}
			return err
		}))
		var first, before bool
		must(t, conn.QueryRow(ctx, `SELECT to_regclass('upgrade_first') IS NOT NULL, to_regclass('upgrade_before') IS NOT NULL`).Scan(&first, &before))
		if !first || before {
			t.Errorf("after the kill the first migration is there: %t, half of the second: %t; want true and false", first, before)
		}

		again := newNode(t, "again", b.later, url)
		_, err = again.Run(ctx, "migrate") // once the lease of the dead one has run out
		must(t, err)
		var after bool
		must(t, conn.QueryRow(ctx, `SELECT to_regclass('upgrade_after') IS NOT NULL`).Scan(&after))
		if !after {
			t.Error("the second run left the migration undone")
		}
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		storm.Stop()
		if tally := storm.Tally(); tally.Retries > 0 || storm.Violations() != nil {
			t.Errorf("%d refreshes failed: %v; want none", tally.Retries, storm.Violations())
		}
		audited(t, again)
	})
	t.Run("sqlite", func(t *testing.T) {
		b, ctx := binaries(t), t.Context()
		n := newNode(t, "one", b.released, "")
		must(t, n.Start(ctx))
		storm := gather(t, 4, n.URL)
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		must(t, n.Stop())

		n.Binary = b.later
		process := start(t, n)
		log := filepath.Join(n.Dir, "authserver.db-wal")
		must(t, rig.Poll(ctx, time.Minute, func() error {
			info, err := os.Stat(log)
			if err == nil && info.Size() < 5<<20 {
				err = fmt.Errorf("the write-ahead log has %d bytes", info.Size())
			}
			return err
		}))
		process.Kill()
		if plan := migrate(t, n, "--plan"); len(plan.Pending) != 1 {
			t.Errorf("after the kill %v are pending; want the second of the two migrations", plan.Pending)
		}
		if again := migrate(t, n); len(again.Applied) != 1 || len(again.Pending) != 0 {
			t.Errorf("the second run applied %v and left %v; want one applied and none left", again.Applied, again.Pending)
		}
		goesOn(t, n, storm)
	})
}

// The same of every migration that there is: killed while it waits, half-way, for
// something that somebody holds.
func TestUpgrade_ourOwnMigrationsCompleteOnRerun(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		b, url, ctx := binaries(t), storetest.Postgres(t), t.Context()
		old := newNode(t, "old", b.released, url)
		must(t, old.Start(ctx))
		storm := gather(t, 4, old.URL)
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		storm.Stop()
		must(t, old.Stop())

		conn, err := pgx.Connect(ctx, url)
		must(t, err)
		defer conn.Close(context.WithoutCancel(ctx))
		whole := len(migrate(t, newNode(t, "plan", b.current, url), "--plan").Pending)
		for _, stop := range []struct {
			at, hold string
			done     int // migrations after 0.1.0
		}{
			{"users", `LOCK TABLE users IN ACCESS SHARE MODE`, 0},
			{"the name of an index", `CREATE TABLE verifiers_fetched_at ()`, 1},
			{"families", `LOCK TABLE families IN ACCESS SHARE MODE`, 2},
			{"server_state", `LOCK TABLE server_state IN ACCESS SHARE MODE`, 3},
			{"an index", `ALTER INDEX families_absolute_end SET (fillfactor = 90)`, 4},
			{"sessions", `LOCK TABLE sessions IN ROW EXCLUSIVE MODE`, 5},
			{"the feed", `LOCK TABLE revocations IN SHARE MODE`, 6},
		} {
			tx, err := conn.Begin(ctx)
			must(t, err)
			_, err = tx.Exec(ctx, stop.hold)
			must(t, err)
			process := start(t, newNode(t, "killed at "+stop.at, b.current, url))
			must(t, rig.Poll(ctx, time.Minute, func() error {
				var waiting int
				err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`).Scan(&waiting)
				if err == nil && waiting == 0 {
					err = errors.New("no migration waits for " + stop.at)
				}
				return err
			}))
			process.Kill()
			must(t, tx.Rollback(ctx))
			must(t, rig.Poll(ctx, time.Minute, func() error {
				var left int
				err := conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&left)
				if err == nil && left > 0 {
					err = errors.New("a backend still works on the killed migration")
				}
				return err
			}))
			if plan := migrate(t, newNode(t, "plan", b.current, url), "--plan"); whole != 7 || len(plan.Pending) != whole-stop.done {
				t.Errorf("killed while it waited for %s: %v are pending; want the last %d", stop.at, plan.Pending, whole-stop.done)
			}
		}
		n := newNode(t, "again", b.current, url)
		if last := migrate(t, n); len(last.Pending) != 0 || len(last.Applied) != 1 {
			t.Errorf("the last run applied %v and left %v", last.Applied, last.Pending)
		}
		must(t, n.Start(ctx))
		must(t, n.Stop())
		audited(t, n)
	})
	t.Run("sqlite", func(t *testing.T) {
		if _, err := exec.LookPath("strace"); err != nil {
			t.Skip("this test needs strace; scripts/ensure strace installs it")
		}
		b, ctx := binaries(t), t.Context()
		n := newNode(t, "old", b.released, "")
		must(t, n.Start(ctx))
		storm := gather(t, 4, n.URL)
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		must(t, visitOnce(n.URL))
		must(t, n.Stop())

		n.Binary = b.current
		whole := len(migrate(t, n, "--plan").Pending)
		const stride = 4 // every one of some eighty writes would take a minute
		kills, missed, done := 0, 0, map[int]int{}
		for nth := 1; missed < 3; nth += stride {
			c := newNode(t, fmt.Sprintf("killed at write %d", nth), b.current, "")
			must(t, os.CopyFS(c.Dir, os.DirFS(n.Dir)))
			if !killedAtWrite(t, c, nth) {
				missed++ // there are no more, or they were spread over threads
				continue
			}
			kills, missed = kills+1, 0
			pending := migrate(t, c, "--plan").Pending
			done[whole-len(pending)]++
			if again := migrate(t, c); !slices.Equal(again.Applied, pending) || len(again.Pending) != 0 {
				t.Errorf("%s: the second run applied %v and left %v; want %v applied", c.Name, again.Applied, again.Pending, pending)
			}
			audited(t, c)
		}
		t.Logf("%d kills; after so many of %d migrations: %v", kills, whole, done)
		// A migration of few writes may be passed over.
		if whole != 5 || len(done) < 2 {
			t.Errorf("the kills came after %v of %d migrations; want some within several of five", done, whole)
		}
		// The clients go on where the killed one has been completed by `serve` itself.
		if !killedAtWrite(t, n, 1+kills*stride/2) {
			t.Log("the last migration went through before it was killed")
		}
		goesOn(t, n, storm)
	})
}

// goesOn starts the node and wants every client of the storm to keep its session.
func goesOn(t *testing.T, n *rig.Node, storm *rig.Storm) {
	t.Helper()
	must(t, n.Start(t.Context()))
	must(t, storm.AwaitAnswers(t.Context(), time.Now(), time.Minute))
	storm.Stop()
	if err := storm.Violations(); err != nil {
		t.Error(err)
	}
	must(t, n.Stop())
	audited(t, n)
}

// killedAtWrite runs the node's `migrate` until a thread of it writes to a file at a
// place, as SQLite does, for the nth time, and says whether it came to that.
func killedAtWrite(t *testing.T, n *rig.Node, nth int) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64",
		"-e", fmt.Sprintf("inject=pwrite64:signal=KILL:when=%d", nth), n.Binary, "migrate")
	cmd.Dir, cmd.Env = n.Dir, n.Environment()
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "Operation not permitted") {
		t.Skipf("this test needs to watch system calls: %s", out)
	}
	if end := cmd.ProcessState.Sys().(syscall.WaitStatus); end.Signaled() && end.Signal() == syscall.SIGKILL {
		return true // strace ends as whom it ran
	}
	if err != nil {
		t.Fatalf("migrate under strace: %v\n%s", err, out)
	}
	return false
}

// start runs the node's `migrate` in the background.
func start(t *testing.T, n *rig.Node) *rig.Process {
	t.Helper()
	cmd := exec.Command(n.Binary, "migrate")
	cmd.Dir, cmd.Env = n.Dir, n.Environment()
	p, err := rig.Start(cmd, "migrate", filepath.Join(n.Dir, "migrate.log"))
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// An automatic vacuum that goes through a large table is in the way of a migration.
// PostgreSQL sends it away, but to none who waits for less than deadlock_timeout.
func TestUpgrade_sendsAnAutomaticVacuumAway(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		pg := pgcluster.New(t)
		b, ctx := binaries(t), t.Context()
		old := newNode(t, "old", b.released, pg.URL())
		must(t, old.Start(ctx))
		storm := gather(t, 4, old.URL)
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		conn, err := pgx.Connect(ctx, pg.URL())
		must(t, err)
		defer conn.Close(context.WithoutCancel(ctx))
		for _, statement := range []string{
			`ALTER SYSTEM SET autovacuum_naptime = '1s'`,
			`SELECT pg_reload_conf()`,
			`INSERT INTO users (id, email, email_key, created_at)
				SELECT gen_random_uuid(), 'u' || n || '@example.org', 'u' || n || '@example.org', now() FROM generate_series(1, 50000) n`,
			`UPDATE users SET email = upper(email) WHERE email LIKE '%.org'`,
			// A page and a tenth of a second: longer than any migration waits.
			`ALTER TABLE users SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_scale_factor = 0)`,
		} {
			_, err := conn.Exec(ctx, statement)
			must(t, err)
		}
		vacuums := func() (n int) {
			must(t, conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'users'::regclass`).Scan(&n))
			return n
		}
		must(t, rig.Poll(ctx, time.Minute, func() error {
			if vacuums() == 0 {
				return errors.New("no automatic vacuum of users has begun")
			}
			return nil
		}))
		begun := time.Now()
		m := migrate(t, newNode(t, "migrator", b.current, pg.URL()))
		took := time.Since(begun)
		if len(m.Pending) > 0 || took > time.Minute {
			t.Errorf("the migration took %s and left %v", took, m.Pending)
		}
		storm.Stop()
		if err := storm.Violations(); err != nil {
			t.Error(err)
		}
		t.Logf("behind an automatic vacuum it took %s; %+v", took.Round(100*time.Millisecond), storm.Tally())
		audited(t, newNode(t, "auditor", b.current, pg.URL()))
	})
}
