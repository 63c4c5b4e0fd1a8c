package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store/storetest"
)

func openHere(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "authserver.db"), Server: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func (db *DB) enroll(t *testing.T, name string) (refresh.Family, error) {
	t.Helper()
	email, err := account.ParseEmail(name + "@example.com")
	if err != nil {
		t.Fatal(err)
	}
	u, err := db.Accounts().Create(t.Context(), account.NewUser{ID: id.NewUser(), Email: email, Hash: "$h", Scheme: "s", Actor: "user"})
	if err != nil {
		return refresh.Family{}, err
	}
	s := id.NewSession()
	return db.Logins().Open(t.Context(), login.Opening{
		Session: s, Kind: session.Browser, AbsoluteTTL: time.Hour, CredentialVersion: u.CredentialVersion, Actor: "user",
		Family: refresh.Family{
			ID: id.NewFamily(u.ID), Session: s, User: u.ID, Client: "first-party", Audience: []string{"a"}, AMR: []string{"pwd"},
			Transport: refresh.InBody, Rotates: true, IdleTTL: time.Hour, Generation: 1, HeadKey: 1,
		},
	})
}

func mustEnroll(t *testing.T, db *DB, name string) refresh.Family {
	t.Helper()
	f, err := db.enroll(t, name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func attempt(f refresh.Family, generation int32) refresh.Call {
	return refresh.Call{
		Policy: refresh.Policy{IdleTTL: time.Hour, RetryWindow: time.Minute},
		Attempt: refresh.Attempt{
			Family: f.ID, Generation: generation, Key: 1, NewKey: 1, SecretHash: f.SecretHash, Client: f.Client,
			Transport: f.Transport, RequestID: "r",
		},
	}
}

// on runs statements on the writing connection, outside of any transaction.
func (db *DB) on(t *testing.T, statements ...string) {
	t.Helper()
	c, err := db.takeWriter(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { db.writer <- c }()
	for _, s := range statements {
		if _, err := c.raw.ExecContext(t.Context(), s, nil); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestWrite_aFullDiskLosesNothingAndHealsByItself(t *testing.T) {
	db := openHere(t)
	f := mustEnroll(t, db, "first")
	db.on(t, "PRAGMA max_page_count=60")
	var acknowledged []refresh.Family
	var full error
	for i := 0; i < 1000 && full == nil; i++ {
		var more refresh.Family
		if more, full = db.enroll(t, fmt.Sprint("user", i)); full == nil {
			acknowledged = append(acknowledged, more)
		}
	}
	if full == nil || len(acknowledged) == 0 {
		t.Fatalf("%d logins fit into 60 pages", len(acknowledged))
	}
	if errors.Is(full, login.ErrRefused) || errors.Is(full, account.ErrEmailTaken) || isRefusal(full) || isBusy(full) {
		t.Errorf("the full disk is told as %v", full)
	}
	// A reader and a verdict that writes nothing do not need the disk.
	out, err := db.Families().Redeem(t.Context(), attempt(refresh.Family{ID: id.NewFamily(f.User)}, 1), time.Second)
	if err != nil || out.Verdict != refresh.Unknown {
		t.Errorf("a verdict that writes nothing, on a full disk: %s, %v", out.Verdict, err)
	}
	// A batch that does not fit, because a token's sender grew, is trouble and not a refusal.
	big := attempt(f, 1)
	big.Attempt.UserAgent = string(make([]byte, 100_000))
	if _, err := db.Families().RotateBatch(t.Context(), []refresh.Call{attempt(acknowledged[0], 1), big}); err == nil || errors.Is(err, refresh.ErrRefused) {
		t.Errorf("a batch on a full disk: %v; want trouble", err)
	}

	db.on(t, "PRAGMA max_page_count=1000000")
	for _, f := range acknowledged {
		out, err := db.Families().RotateBatch(t.Context(), []refresh.Call{attempt(f, 1)})
		if err != nil || out[0] == nil || out[0].Next.Generation != 2 {
			t.Fatalf("an acknowledged login after the disk has room again: %v, %v", out, err)
		}
	}
	mustEnroll(t, db, "later")
	if v, err := db.AuditSessions(t.Context()); err != nil || len(v) > 0 {
		t.Errorf("afterwards: %v, %v", v, err)
	}
}

func TestRedeem_aLockedFileIsTroubleOfTheWriterAlone(t *testing.T) {
	db := openHere(t)
	f := mustEnroll(t, db, "ada")
	stranger, err := dial(db.dsn(), nil) // another process in the middle of a write
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.close()
	if _, err := stranger.exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Families().Redeem(t.Context(), attempt(f, 1), 20*time.Millisecond); !errors.Is(err, refresh.ErrLocked) {
		t.Errorf("a rotation: %v; want ErrLocked", err)
	}
	wrong := attempt(f, 1)
	wrong.Attempt.Client = "shop"
	if out, err := db.Families().Redeem(t.Context(), wrong, 20*time.Millisecond); err != nil || out.Verdict != refresh.Unknown {
		t.Errorf("a verdict that writes nothing: %s, %v", out.Verdict, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := db.Families().RotateBatch(ctx, []refresh.Call{attempt(f, 1)}); err == nil || errors.Is(err, refresh.ErrRefused) {
		t.Errorf("a batch: %v; want trouble", err)
	}
	if _, err := stranger.exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if out, err := db.Families().Redeem(t.Context(), attempt(f, 1), 20*time.Millisecond); err != nil || out.Verdict != refresh.Rotated {
		t.Errorf("afterwards: %s, %v", out.Verdict, err)
	}
}

func TestRedeem_theWriterInUseIsALockToo(t *testing.T) {
	db := openHere(t)
	f := mustEnroll(t, db, "ada")
	c, err := db.takeWriter(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Families().Redeem(t.Context(), attempt(f, 1), 10*time.Millisecond); !errors.Is(err, refresh.ErrLocked) {
		t.Errorf("%v; want ErrLocked", err)
	}
	db.writer <- c
	if out, err := db.Families().Redeem(t.Context(), attempt(f, 1), time.Second); err != nil || out.Verdict != refresh.Rotated {
		t.Errorf("afterwards: %s, %v", out.Verdict, err)
	}
}

// Who waited for the writer hears of keys that changed meanwhile.
func TestRedeem_aRootKeyRevokedWhileItWaits(t *testing.T) {
	db := openHere(t)
	f := mustEnroll(t, db, "ada")
	db.on(t, `INSERT INTO server_state (one, issuer, master_id, ring_revision) VALUES (1, 'http://localhost', x'0102030405060708', 7)`)
	c, err := db.takeWriter(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	call := attempt(f, 1)
	call.Keys = 7
	done := make(chan error, 1)
	go func() {
		_, err := db.Families().Redeem(t.Context(), call, time.Minute)
		done <- err
	}()
	time.Sleep(300 * time.Millisecond) // in which it reads; if it has not, it is stale then
	_, err = c.exec(`UPDATE server_state SET ring_revision = 8, roots_revision = 8`)
	db.writer <- c
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, refresh.ErrStaleKeys) {
		t.Errorf("%v; want ErrStaleKeys", err)
	}
	call.Keys = 8
	if out, err := db.Families().Redeem(t.Context(), call, time.Second); err != nil || out.Verdict != refresh.Rotated || out.Next.Generation != 2 {
		t.Errorf("afterwards: %s, %v", out.Verdict, err)
	}
}

func TestWrite_aPanicRollsBackAndLeavesAHealthyWriter(t *testing.T) {
	db := openHere(t)
	f := mustEnroll(t, db, "ada")
	func() {
		defer func() { recover() }()
		db.write(t.Context(), "test", func(t *tx) error {
			t.exec("DELETE FROM families")
			panic("half-way")
		})
	}()
	if out, err := db.Families().Redeem(t.Context(), attempt(f, 1), time.Second); err != nil || out.Verdict != refresh.Rotated {
		t.Errorf("afterwards: %s, %v", out.Verdict, err)
	}
	if p := db.Pool(); p.Busy != 0 || p.Open > p.Max {
		t.Errorf("pool %+v", p)
	}
}

func TestRead_aBrokenReaderIsReplaced(t *testing.T) {
	db := openHere(t)
	for range 3 * readersMax {
		err := db.read(t.Context(), "test", func(c *conn) error {
			c.exec("BEGIN") // and never ended
			return errors.New("gave up")
		})
		if err == nil {
			t.Fatal("no error")
		}
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.read(t.Context(), "test", func(c *conn) error {
		_, err := c.exec("DELETE FROM users")
		return err
	}); err == nil {
		t.Error("a reader can write")
	}
}

func TestClose_laterCallsSaySo(t *testing.T) {
	db := openHere(t)
	db.Close()
	db.Close()
	if err := db.Ping(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("ping: %v", err)
	}
	if _, err := db.Leases().Hold(t.Context(), "a", "b", time.Minute); !errors.Is(err, errClosed) {
		t.Errorf("write: %v", err)
	}
}

func TestSchema_aDatabaseOfALaterBinary(t *testing.T) {
	db := openHere(t)
	db.on(t, "UPDATE schema_info SET compatible_from = 9", "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9, 1)")
	s, err := db.Schema(t.Context())
	if err != nil || s.Applied != 9 || s.CompatibleFrom != 9 || s.Newest >= 9 || s.Check() == nil {
		t.Errorf("%+v, %v", s, err)
	}
	if applied, err := db.Migrate(t.Context()); err != nil || len(applied) > 0 {
		t.Errorf("migrate: %v, %v", applied, err)
	}
}

func TestAuditSessions_findsEveryBrokenInvariant(t *testing.T) {
	for name, breaking := range map[string][]string{
		"family_has_session":                  {"DELETE FROM sessions"},
		"family_has_user":                     {"DELETE FROM users"},
		"family_and_session_have_one_user":    {"UPDATE sessions SET user_id = zeroblob(16)"},
		"family_id_carries_user_tag":          {"UPDATE families SET id = x'00000000000000000000000000000001'"},
		"ended_session_has_no_living_family":  {"UPDATE sessions SET ended_at = 1, end_reason = 'x'"},
		"disabled_user_has_no_living_family":  {"UPDATE users SET disabled_at = 1"},
		"family_ends_within_session":          {"UPDATE families SET absolute_end = absolute_end + 1"},
		"generation_from_one":                 {"UPDATE families SET generation = 0"},
		"ended_with_reason":                   {"UPDATE families SET ended_at = 1"},
		"refused_with_reason":                 {"UPDATE families SET refused_as = 'idle'"},
		"fresh_key_is_kept":                   {"UPDATE families SET key_fresh = 1"},
		"unbound_family_rotates":              {"UPDATE families SET rotates = 0"},
		"streak_within_bounds":                {"UPDATE families SET foreign_streak = 3"},
		"head_used_after_birth":               {"UPDATE families SET head_born = used_at + 1"},
		"head_born_after_family":              {"UPDATE families SET head_born = head_born - 1"},
		"authenticated_before_birth":          {"UPDATE families SET auth_time = auth_time + 86400000001"},
		"ended_after_birth":                   {"UPDATE families SET ended_at = 1, end_reason = 'x'"},
		"head_key_is_known":                   {"INSERT INTO keys (purpose, algorithm, number, kid, published_at, signs_for) VALUES ('refresh', 'a', 2, 'k', 0, 0)"},
		"session_has_user":                    {"DELETE FROM users"},
		"session_has_family":                  {"DELETE FROM families"},
		"living_session_has_living_family":    {"UPDATE families SET ended_at = 1, end_reason = 'x'"},
		"disabled_user_has_no_living_session": {"UPDATE users SET disabled_at = 1"},
		"session_ended_with_reason":           {"UPDATE sessions SET end_reason = 'x'"},
		"session_ended_after_birth":           {"UPDATE sessions SET ended_at = 1, end_reason = 'x'"},
	} {
		t.Run(name, func(t *testing.T) {
			db := openHere(t)
			mustEnroll(t, db, "ada")
			if v, err := db.AuditSessions(t.Context()); err != nil || len(v) > 0 {
				t.Fatalf("before: %v, %v", v, err)
			}
			db.on(t, append([]string{"PRAGMA foreign_keys=OFF", "PRAGMA ignore_check_constraints=ON"}, breaking...)...)
			v, err := db.AuditSessions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, one := range v {
				names = append(names, one.Invariant)
				if one.Subject == "" || one.Detail == "" {
					t.Errorf("%+v does not say which row and what", one)
				}
			}
			if !slices.Contains(names, name) {
				t.Errorf("found %v, want %s among them", names, name)
			}
		})
	}
}

// A sweep goes over a table of many steps once, in the order in which the rows
// lie, wherever it begins.
func TestSweep_walksTheTable(t *testing.T) {
	const families, dead = 3000, 300
	now := time.Now()
	db := openHere(t)
	mother := mustEnroll(t, db, "ada")
	if err := db.write(t.Context(), "clones", func(tx *tx) error {
		for _, sql := range []string{`CREATE TEMP TABLE s AS SELECT * FROM sessions`, `CREATE TEMP TABLE f AS SELECT * FROM families`} {
			if _, err := tx.exec(sql); err != nil {
				return err
			}
		}
		for i := range families - 1 {
			end := now.Add(time.Hour)
			if i%10 == 0 {
				end = now.Add(-8 * 24 * time.Hour)
			}
			born, sid := end.Add(-time.Hour), id.NewSession()
			for sql, args := range map[string][]any{
				`UPDATE s SET id = ?, created_at = ?, absolute_end = ?`:                           {sid, born, end},
				`UPDATE f SET id = ?, session_id = ?, born_at = ?, used_at = ?, absolute_end = ?`: {id.NewFamily(mother.User), sid, born, born, end},
			} {
				if _, err := tx.exec(sql, args...); err != nil {
					return err
				}
			}
			for _, sql := range []string{`INSERT INTO sessions SELECT * FROM s`, `INSERT INTO families SELECT * FROM f`} {
				if _, err := tx.exec(sql); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	deleted, steps, greatest := storetest.SweepAround(t, db.Families(), 100, refresh.Policy{IdleTTL: time.Hour}, time.Now().Add(-7*24*time.Hour))
	if greatest > 1 {
		t.Errorf("a step deleted %d, want at most one", greatest)
	}
	if deleted != dead || db.count(t, "families") != families-dead || db.count(t, "sessions") != families-dead {
		t.Errorf("%d deleted, %d families and %d sessions left; want %d, and the others", deleted, db.count(t, "families"), db.count(t, "sessions"), dead)
	}
	if least, most := dead, dead+2*(families/sweepRows+2); steps < least || steps > most {
		t.Errorf("%d steps, want between %d and %d", steps, least, most)
	}
}

func (db *DB) count(t *testing.T, table string) (n int) {
	t.Helper()
	if err := db.read(t.Context(), "count", func(c *conn) error {
		_, err := c.one("SELECT count(*) FROM "+table, nil, func(r *row) { n = int(r.integer()) })
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFolder_hasASQLiteWithoutTheResetBug(t *testing.T) {
	db := openHere(t)
	var version string
	if err := db.read(t.Context(), "version", func(c *conn) error {
		_, err := c.one("SELECT sqlite_version()", nil, func(r *row) { version = r.text() })
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	if major*1_000_000+minor*1000+patch < 3_051_003 {
		t.Errorf("SQLite %s; a checkpoint beside a writer needs 3.51.3", version)
	}
}

// While somebody goes on reading an old state the log cannot begin anew; when he
// has gone it does, and everything is in the file.
func TestFolder_beginsTheLogAnewAfterALongReader(t *testing.T) {
	db := openHere(t)
	db.on(t, "CREATE TABLE bulk (n INTEGER PRIMARY KEY, filler BLOB)")
	write := func(pages int) { t.Helper(); db.fill(t, pages) }
	length := func() int { t.Helper(); return db.logLength(t) }
	release, reading, read := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		read <- db.snapshot(context.Background(), "long", func(c *conn) error {
			_, err := c.one("SELECT count(*) FROM bulk", nil, func(*row) {})
			close(reading)
			<-release
			return err
		})
	}()
	<-reading
	write(3 * logPages)
	if n := length(); n < 3*logPages {
		t.Errorf("the log has %d pages while somebody reads the first of them; want all %d", n, 3*logPages)
	}
	close(release)
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	// It shrinks when it begins anew beyond logKept.
	deadline := time.Now().Add(10 * time.Second)
	for length() > logKept/4120+foldPages {
		if time.Now().After(deadline) {
			t.Fatalf("the log still has %d pages long after the reader has gone", length())
		}
		write(foldPages)
	}
	db.Close()
	if _, err := os.Stat(db.path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log after the last one has left: %v; want it gone", err)
	}
}

// fill writes so many pages to the table bulk.
func (db *DB) fill(t *testing.T, pages int) {
	t.Helper()
	for range pages / 10 {
		if err := db.write(t.Context(), "bulk", func(t *tx) error {
			_, err := t.exec(`INSERT INTO bulk (filler) VALUES (zeroblob(40000))`) // ten pages
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// logLength is how many pages the file of the log has room for.
func (db *DB) logLength(t *testing.T) int {
	t.Helper()
	info, err := os.Stat(db.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size() / 4120)
}

// The next sync after one that failed says that all is well. So the log, which has
// every page, never begins anew after it.
func TestFolder_keepsTheLogAfterASyncThatFailed(t *testing.T) {
	db := openHere(t)
	db.on(t, "CREATE TABLE bulk (n INTEGER PRIMARY KEY, filler BLOB)")
	disk, other, err := os.Pipe() // which cannot be synced
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	defer disk.Close()
	synced.Lock()
	synced.files[db.path] = disk
	synced.Unlock()
	for deadline := time.Now().Add(10 * time.Second); ; {
		db.fill(t, foldPages)
		select {
		case <-db.folder.done:
		default:
			if time.Now().After(deadline) {
				t.Fatal("the folder goes on after its sync failed")
			}
			continue
		}
		break
	}
	var told error
	db.OnTrouble(func(err error) { told = err })
	if !errors.Is(told, errUnsynced) {
		t.Errorf("who listens was told %v", told)
	}
	before := db.logLength(t)
	db.fill(t, logPages)
	command, err := Open(t.Context(), Options{Path: db.path})
	if err != nil {
		t.Fatal(err)
	}
	command.fill(t, 2*logPages) // SQLite folds its commits
	command.Close()
	db.Close()
	if n := db.logLength(t); n < before+3*logPages {
		t.Errorf("the log has %d pages, and had %d before %d more were written; want all of them kept", n, before, 3*logPages)
	}
}
