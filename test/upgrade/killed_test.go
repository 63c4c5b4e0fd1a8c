package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

// A migration that is killed in the middle leaves nothing of itself and all of
// the one before, and the next run completes it.
func TestUpgrade_aKilledMigrationCompletesOnRerun(t *testing.T) {
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
		must(t, n.Start(ctx))
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		storm.Stop()
		if err := storm.Violations(); err != nil {
			t.Error(err)
		}
		must(t, n.Stop())
		audited(t, n)
	})
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
