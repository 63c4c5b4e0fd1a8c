package e2e

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // of vacuumInto

	"example.com/authserver/test/pgcluster"
)

// restored is what the people of a restore test hold: tokens from before and
// after the instant that the database goes back to.
type restored struct {
	ada, spent string // ada's newest token, and one she had swapped for it
	bob        string // a token of a session that was ended
}

// before is what happens before the backup's instant.
func (n *node) before() (r restored) {
	n.t.Helper()
	r.spent = n.person("ada@example.com").Field("refresh_token")
	r.bob = n.person("bob@example.com").Field("refresh_token")
	return r
}

// after is what the restore loses: a rotation that was acknowledged, and a
// logout.
func (n *node) after(r restored) restored {
	n.t.Helper()
	r.ada = n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": r.spent}).Field("refresh_token")
	r.ada = n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": r.ada}).Field("refresh_token")
	n.must(204, "POST", "/v1/logout", map[string]string{"refresh_token": r.bob})
	if a := n.must(401, "POST", "/v1/refresh", map[string]string{"refresh_token": r.bob}); a.Field("code") != "refresh_revoked" {
		n.t.Fatalf("before the restore: %s", a)
	}
	return r
}

// closes shows, on the restored database, that what was over has come back to
// life and that the command of docs/restore.md closes it.
func (n *node) closes(r restored) {
	n.t.Helper()
	n.start()
	for who, token := range map[string]string{"a session that was ended": r.bob, "a token that was swapped": r.spent} {
		if a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token}); err != nil || a.Status != 200 {
			n.t.Errorf("%s has not come back to life (%v %s), so this test shows nothing", who, err, a)
		}
	}
	n.terminate()

	n.mustCLI("", "sessions", "revoke", "--issued-before", "now", "--yes")
	n.start()
	for who, token := range map[string]string{"the session that was ended": r.bob, "the token that was swapped": r.spent, "the newest token": r.ada} {
		if a := n.must(401, "POST", "/v1/refresh", map[string]string{"refresh_token": token}); a.Field("code") != "refresh_revoked" {
			n.t.Errorf("%s after the command: %s; want refresh_revoked", who, a)
		}
	}
	again := n.logIn("ada@example.com").Field("refresh_token")
	n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": again})
	audit(n.t, n)
}

// A database that went back in time brings ended sessions and swapped tokens
// back; one command closes that.
func TestRestore_whatWasOverComesBackAndOneCommandClosesIt(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		pg := pgcluster.New(t)
		pg.Stop()
		archive := filepath.Join(pg.Dir, "archive")
		pg.Mkdir(archive)
		pg.Configure(pg.Data(), "archive_mode = on", fmt.Sprintf("archive_command = 'cp %%p %s/%%f'", archive))
		pg.Start()
		n := newNode(t, "DATABASE_URL="+pg.URL(), "MASTER_KEY="+masterKey, "LOG_LEVEL=error").start()
		n.must(201, "POST", "/v1/users", map[string]string{"email": "first@example.com", "password": goodPassword})
		base := filepath.Join(pg.Dir, "base")
		if out, err := pg.Run("pg_basebackup", "-h", "127.0.0.1", "-p", pg.Port, "-U", "tester", "-D", base, "-c", "fast"); err != nil {
			t.Fatalf("pg_basebackup: %v\n%s", err, out)
		}

		r := n.before()
		conn, err := pgx.Connect(t.Context(), pg.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var instant time.Time
		if err := conn.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&instant); err != nil {
			t.Fatal(err)
		}
		r = n.after(r)
		// The last segment has to be in the archive: everything is there when a
		// later one is.
		var segment string
		if err := conn.QueryRow(t.Context(), `SELECT pg_walfile_name(pg_switch_wal())`).Scan(&segment); err != nil {
			t.Fatal(err)
		}
		until(t, "the archive to hold "+segment, func() bool {
			_, err := os.Stat(filepath.Join(archive, segment))
			return err == nil
		})
		n.terminate()
		pg.Stop()

		if err := os.RemoveAll(pg.Data()); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(base, pg.Data()); err != nil {
			t.Fatal(err)
		}
		pg.Configure(pg.Data(), fmt.Sprintf("restore_command = 'cp %s/%%f %%p'", archive),
			fmt.Sprintf("recovery_target_time = '%s'", instant.Format("2006-01-02 15:04:05.999999-07:00")),
			"recovery_target_action = promote", "archive_mode = off")
		if err := os.WriteFile(filepath.Join(pg.Data(), "recovery.signal"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		pg.Start()
		until(t, "the end of the recovery", func() bool {
			over, err := pg.Recovered()
			return err == nil && over
		})
		n.closes(r)
	})
	for name, backUp := range map[string]func(n *node, to string){
		"sqlite, copied while stopped": func(n *node, to string) {
			n.terminate()
			copyFiles(n.t, n.Dir, to)
			n.start()
		},
		"sqlite, while it runs": vacuumInto,
	} {
		t.Run(name, func(t *testing.T) { restoreSQLite(t, backUp) })
	}
}

func restoreSQLite(t *testing.T, backUp func(n *node, to string)) {
	n := newNode(t, "LOG_LEVEL=error").start()
	r := n.before()
	backup := t.TempDir()
	backUp(n, backup)
	r = n.after(r)
	n.terminate()
	for _, file := range databaseFiles(t, n.Dir) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	copyFiles(t, backup, n.Dir)
	n.closes(r)
}

// vacuumInto makes the backup that docs/restore.md recommends for a server that
// runs, beside refreshes that go on without a pause.
func vacuumInto(n *node, to string) {
	n.t.Helper()
	token := n.person("eve@example.com").Field("refresh_token")
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token})
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("a refresh beside the backup: %d %s", a.Status, a)
			}
			if err != nil {
				stopped <- err
				return
			}
			token = a.Field("refresh_token")
		}
	}()
	db, err := sql.Open("sqlite", filepath.Join(n.Dir, "authserver.db"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(n.t.Context(), `VACUUM INTO ?`, filepath.Join(to, "authserver.db")); err != nil {
		n.t.Error(err)
	}
	close(stop)
	if err := <-stopped; err != nil {
		n.t.Error(err)
	}
}

// databaseFiles are the database and what SQLite keeps beside it.
func databaseFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "authserver.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database in %s: %v", dir, err)
	}
	return files
}

func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	for _, file := range databaseFiles(t, from) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(file)), text, fs.FileMode(0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
