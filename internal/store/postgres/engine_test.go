package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/storetest"
)

// Ten nodes that start at once on an empty database end with one schema, and
// one of them made it.
func TestMigrate_tenNodesAtOnce(t *testing.T) {
	for range 3 {
		url := storetest.Postgres(t)
		var nodes sync.WaitGroup
		var mu sync.Mutex
		var applied []string
		start := make(chan struct{})
		for n := range 10 {
			db := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8})
			nodes.Go(func() {
				<-start
				names, err := db.Migrate(t.Context())
				if err != nil {
					t.Errorf("node %d: %v", n, err)
				}
				schema, err := db.Schema(t.Context())
				if err != nil || len(schema.Pending) > 0 || schema.Applied != schema.Newest {
					t.Errorf("node %d goes on with %+v, %v", n, schema, err)
				}
				mu.Lock()
				applied = append(applied, names...)
				mu.Unlock()
			})
		}
		close(start)
		nodes.Wait()
		unique := slices.Compact(slices.Sorted(slices.Values(applied)))
		if len(applied) == 0 || len(unique) != len(applied) {
			t.Errorf("the nodes applied %q, want each migration once", applied)
		}
	}
}

func TestSchema_sayNewerButCompatible(t *testing.T) {
	url := migrated(t)
	admin := connect(t, url)
	db := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8})
	if _, err := admin.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, true)`); err != nil {
		t.Fatal(err)
	}
	schema, err := db.Schema(t.Context())
	if err != nil || schema.Applied != 9000 || schema.Check() != nil || len(schema.Pending) > 0 {
		t.Errorf("%+v, %v; want a newer schema that this binary may work on", schema, err)
	}
	if _, err := admin.Exec(t.Context(), `UPDATE schema_info SET compatible_from = 9000`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "9000") {
		t.Errorf("%v, want the binary refused with what it lacks", err)
	}
}

func TestOpen_refusesWhatCannotWork(t *testing.T) {
	url := storetest.Postgres(t)
	admin := connect(t, url)
	latin := strings.ToLower("latin_" + strings.ReplaceAll(t.Name(), "/", "_")[:8])
	if _, err := admin.Exec(t.Context(), `CREATE DATABASE `+latin+` ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := admin.Exec(ctx, `DROP DATABASE `+latin+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	at := strings.LastIndex(url, "/")
	tail := ""
	if q := strings.Index(url[at:], "?"); q >= 0 {
		tail = url[at+q:]
	}
	for name, c := range map[string]struct {
		url  string
		max  int32
		want string
	}{
		"a pool that is too small": {url, 3, "at least"},
		"another encoding":         {url[:at+1] + latin + tail, 0, "UTF8"},
		"no such database":         {url[:at+1] + "nowhere" + tail, 0, "nowhere"},
		"no URL":                   {"postgres://user:geheim@[", 0, "database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := postgres.Open(t.Context(), postgres.Options{URL: secret.NewText(c.url), MaxConns: c.max})
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%v; want it to name %q, and no password", err, c.want)
			}
		})
	}
}

func TestPool_countsBothPools(t *testing.T) {
	url := migrated(t)
	db := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 10})
	if err := db.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := db.Pool(); p.Max != 10 || p.Open < 1 || p.ServerMax < 10 {
		t.Errorf("%+v, want at most 10 connections, one of them open, and the server's limit", p)
	}
	if p := open(t, postgres.Options{URL: secret.NewText(url)}).Pool(); p.Max < 8 || p.Max > max(8, p.ServerMax/4) {
		t.Errorf("%+v by default, want a quarter of the server's connections at most", p)
	}
}

func TestDoctor_namesWhatCostsDataAndSpeed(t *testing.T) {
	b := newBench(t, 1)
	if found, err := b.db.Doctor(t.Context()); err != nil {
		t.Fatal(err)
	} else {
		for _, f := range found {
			// A test cluster may trade durability for speed; nothing else is wrong.
			if f.Setting != "fsync" && f.Setting != "full_page_writes" && f.Setting != "synchronous_commit" && f.Setting != "max_connections" {
				t.Errorf("on a sound database: %+v", f)
			}
		}
	}
	var name string
	if err := b.admin.QueryRow(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{
		"synchronous_commit = off", "statement_timeout = '3s'", "default_transaction_isolation = 'serializable'",
		"idle_session_timeout = '1h'", "default_transaction_read_only = on",
	} {
		b.exec(`ALTER DATABASE ` + name + ` SET ` + setting)
	}
	b.exec(`ALTER TABLE families SET (autovacuum_enabled = false)`)
	db := open(t, postgres.Options{URL: secret.NewText(newProxy(t, b.url, true).url), MaxConns: 12})
	found, err := db.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	grave := map[string]bool{}
	for _, f := range found {
		grave[f.Setting] = f.Grave
		if f.Seen == "" || f.Expected == "" || f.Hint == "" {
			t.Errorf("%+v does not say what was seen, what was expected and what to do", f)
		}
	}
	for setting, want := range map[string]bool{
		"synchronous_commit": true, "transaction_read_only": true, "statement_timeout": false,
		"default_transaction_isolation": false, "idle_session_timeout": false, "families.autovacuum_enabled": false, "pooler": false,
	} {
		if is, ok := grave[setting]; !ok || is != want {
			t.Errorf("%s: found %t, grave %t; want it found, grave %t", setting, ok, is, want)
		}
	}
}

func TestAuditSessions_findsWhatIsBroken(t *testing.T) {
	const families = 20
	b := newBench(t, families)
	if found, err := b.db.AuditSessions(t.Context()); err != nil || len(found) > 0 {
		t.Fatalf("on a sound database: %v, %v", found, err)
	}
	// Take the foreign keys away that would not let the rows be broken.
	b.exec(`ALTER TABLE families DROP CONSTRAINT families_session_id_fkey, DROP CONSTRAINT families_user_id_fkey`)
	b.exec(`INSERT INTO keys (purpose, algorithm, number, kid, sealed, master_id, published_at, signs_for)
		VALUES ('refresh', 'HS256', 1, 'refresh-1', '\x00', '\x0102030405060708', now(), '0')`)
	for i, broken := range []struct{ invariant, set string }{
		{"family_has_session", `session_id = gen_random_uuid()`},
		{"family_has_user", `user_id = gen_random_uuid()`},
		{"generation_from_one", `generation = 0`},
		{"ended_with_reason", `ended_at = now()`},
		{"fresh_key_is_kept", `key_fresh = true`},
		{"unbound_family_rotates", `rotates = false`},
		{"streak_within_bounds", `foreign_streak = 3`},
		{"head_used_after_birth", `used_at = head_born - interval '1 microsecond'`},
		{"head_born_after_family", `head_born = born_at - interval '2 days', used_at = born_at - interval '2 days'`},
		{"head_key_is_known", `head_key = 9`},
		{"family_ends_within_session", `absolute_end = absolute_end + interval '1 second'`},
		{"refused_with_reason", `refused_at = now()`},
		{"family_knows_its_user", `roles = '{admin}'`},
	} {
		f := b.families[i]
		b.exec(`UPDATE families SET `+broken.set+` WHERE id = $1`, [16]byte(f))
		found, err := b.db.AuditSessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range found {
			if v.Subject == "family "+f.String() {
				names = append(names, v.Invariant)
			}
		}
		if !slices.Contains(names, broken.invariant) {
			t.Errorf("%s: found %q, want %s", broken.set, names, broken.invariant)
		}
	}
	// The session's side.
	b.exec(`UPDATE sessions SET ended_at = now(), end_reason = 'user' WHERE id = (SELECT session_id FROM families WHERE id = $1)`, [16]byte(b.families[13]))
	b.exec(`UPDATE families SET ended_at = now(), end_reason = 'user' WHERE id = $1`, [16]byte(b.families[14]))
	b.exec(`UPDATE users SET disabled_at = now() WHERE id = (SELECT user_id FROM families WHERE id = $1)`, [16]byte(b.families[15]))
	found, err := b.db.AuditSessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range found {
		seen[v.Invariant] = true
	}
	for _, want := range []string{
		"ended_session_has_no_living_family", "living_session_has_living_family",
		"disabled_user_has_no_living_family", "disabled_user_has_no_living_session", "session_has_family", "family_id_carries_user_tag",
	} {
		if !seen[want] {
			t.Errorf("%s was not found", want)
		}
	}
}

// The passes over the whole table go on where they stopped and say 0 only when
// nothing is left.
func TestEndBelowFloor_inManySmallSteps(t *testing.T) {
	const families = 50
	b := newBench(t, families)
	if _, err := b.db.Sessions().RaiseFloor(t.Context(), time.Now().Add(time.Hour), "operator:x", "floor"); err != nil {
		t.Fatal(err)
	}
	var steps []int
	for {
		n, err := b.db.Sessions().EndBelowFloor(t.Context(), 7)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		steps = append(steps, n)
	}
	if want := []int{7, 7, 7, 7, 7, 7, 7, 1}; !cmp.Equal(steps, want) {
		t.Errorf("ended %v, want %v", steps, want)
	}
	// A family that is found below it later is ended later: this floor lies ahead,
	// and more are born below it.
	b.exec(`UPDATE families SET ended_at = NULL, end_reason = NULL WHERE id = $1`, [16]byte(b.families[0]))
	b.exec(`UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE id = (SELECT session_id FROM families WHERE id = $1)`, [16]byte(b.families[0]))
	if n, err := b.db.Sessions().EndBelowFloor(t.Context(), 7); n != 1 || err != nil {
		t.Errorf("ended %d, %v; want the one that came back", n, err)
	}
}

// Once nothing is left below a floor, nobody reads the whole table for it again.
func TestEndBelowFloor_readsTheTableOnceForEachFloor(t *testing.T) {
	b := newBench(t, 3)
	below := func(floor time.Duration, want int) {
		t.Helper()
		if _, err := b.db.Sessions().RaiseFloor(t.Context(), time.Now().Add(-floor), "operator:x", "floor"); err != nil {
			t.Fatal(err)
		}
		if n, err := b.db.Sessions().EndBelowFloor(t.Context(), 7); n != want || err != nil {
			t.Errorf("below a floor %s ago ended %d, %v; want %d", floor, n, err, want)
		}
	}
	below(3*time.Hour, 0)
	b.exec(`UPDATE families SET born_at = born_at - interval '2 hours' WHERE id = $1`, [16]byte(b.families[0]))
	b.exec(`UPDATE server_state SET floor = now() - interval '1 hour', floor_swept = now() - interval '1 hour'`)
	if n, err := b.db.Sessions().EndBelowFloor(t.Context(), 7); n != 0 || err != nil {
		t.Errorf("below a floor that was swept ended %d, %v; want that nobody looks", n, err)
	}
	below(30*time.Minute, 1)
	below(30*time.Minute, 0)
	var swept bool
	if err := b.admin.QueryRow(t.Context(), `SELECT floor = floor_swept FROM server_state`).Scan(&swept); err != nil || !swept {
		t.Errorf("the last floor counts as swept: %t, %v", swept, err)
	}
}

// A transaction that has written in another database of the server keeps the dead
// rows of this one, too: rotations are no longer HOT, and write five times as much.
func TestDoctor_seesAWritingTransactionInAnotherDatabase(t *testing.T) {
	elsewhere := connect(t, storetest.Postgres(t))
	db := open(t, postgres.Options{URL: secret.NewText(migrated(t)), MaxConns: 12})
	tx, err := elsewhere.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	begun := time.Now()
	if _, err := tx.Exec(t.Context(), `CREATE TABLE written ()`); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	least := time.Since(begun)
	if age, err := db.OldestTransaction(t.Context()); err != nil || age < least {
		t.Errorf("the oldest transaction is %s old, %v; want at least %s", age, err, least)
	}
}

// A sweep goes over a table of many pages once, in the order in which the rows
// lie, wherever it begins.
func TestSweep_walksTheTable(t *testing.T) {
	const families = 4000
	b := newBench(t, families)
	b.exec(`UPDATE families SET used_at = now() - interval '100 days', head_born = now() - interval '100 days', born_at = now() - interval '101 days',
		auth_time = now() - interval '101 days' WHERE get_byte(uuid_send(id), 15) % 4 = 0`)
	b.exec(`VACUUM ANALYZE families`)
	count := func(sql string) (n int) {
		t.Helper()
		if err := b.admin.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	pages := count(`SELECT pg_relation_size('families') / current_setting('block_size')::integer`)
	dead := count(`SELECT count(*) FROM families WHERE used_at < now() - interval '1 day'`)
	deleted, steps, greatest := storetest.SweepAround(t, b.db.Families(), 100, refresh.Policy{IdleTTL: 720 * time.Hour}, time.Now().Add(-7*24*time.Hour))
	if greatest > 100 {
		t.Errorf("a step deleted %d, want at most 100", greatest)
	}
	if deleted != dead {
		t.Errorf("%d deleted of %d dead ones", deleted, dead)
	}
	if left := count(`SELECT count(*) FROM families`); left != families-dead {
		t.Errorf("%d are left, want the %d living ones", left, families-dead)
	}
	if left := count(`SELECT count(*) FROM sessions`); left != families-dead {
		t.Errorf("%d sessions are left, want those of the %d living families", left, families-dead)
	}
	if least, most := pages/64, 2*(pages/64+dead/100+2); steps < least || steps > most {
		t.Errorf("%d steps for %d pages and %d dead rows, want between %d and %d", steps, pages, dead, least, most)
	}
}

// Neither choosing nor deleting reads more of the table than the pages of a step,
// whatever the planner believes about its size.
func TestSweep_planIsARange(t *testing.T) {
	b := newBench(t, 4000)
	b.exec(`ANALYZE families`)
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		b.exec(`SET plan_cache_mode = ` + mode)
		for name, wants := range map[string][]string{
			"look": {"Tid Range Scan on families f"},
			"dead": {"Tid Range Scan on families f", "Tid Scan on families", "families_session", "sessions_pkey"},
		} {
			plan := b.plan(postgres.SweepSQL[name], `'720 hours', now() - interval '7 days', '(64,0)', '(128,0)', 100`)
			for _, want := range wants {
				if !strings.Contains(plan, want) || strings.Contains(plan, "Seq Scan") {
					t.Errorf("%s, %s: want %s\n%s", name, mode, want, plan)
				}
			}
		}
	}
}

// Rotations, ends and sweeps of the same families, all at once, neither
// deadlock nor leave anything half done.
func TestSweep_besideRotationsAndEnds(t *testing.T) {
	b := newBench(t, 64)
	b.exec(`UPDATE families SET used_at = now() - interval '100 days', head_born = now() - interval '100 days', born_at = now() - interval '101 days',
		auth_time = now() - interval '101 days' WHERE ('x' || substr(md5(id::text), 1, 1))::bit(4)::integer < 8`)
	policy := refresh.Policy{IdleTTL: 720 * time.Hour}
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() {
			for g := int32(1); g < 12; g++ {
				if _, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, g)); err != nil {
					t.Logf("batch: %v", err) // refused by a lock: allowed
				}
			}
		})
		all.Go(func() {
			if _, _, err := b.db.Families().Sweep(t.Context(), refresh.Edge, 64, policy, time.Now().Add(-7*24*time.Hour)); err != nil {
				t.Errorf("sweep %d: %v", n, err)
			}
		})
		all.Go(func() {
			for i := n; i < 64; i += 16 {
				f, _, err := b.db.Families().Family(t.Context(), b.families[i])
				if err != nil {
					t.Error(err)
				}
				if f == nil {
					continue
				}
				if _, err := b.db.Accounts().Disable(t.Context(), f.User, "operator:x", fmt.Sprint("ban-", i)); err != nil {
					t.Errorf("disable: %v", err)
				}
			}
		})
	}
	all.Wait()
	if found, err := b.db.AuditSessions(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("afterwards: %v, %v", found, err)
	}
}

// The rows of a login go with its commit. One that is refused takes the whole
// birth back, and the connection serves the next login.
func TestOpen_aRowRefusedAtTheCommitLeavesNothing(t *testing.T) {
	b := newBench(t, 1)
	b.exec(`ALTER TABLE known_networks ADD CHECK (network <> '192.0.2.66')`)
	f, _, err := b.db.Families().Family(t.Context(), b.families[0])
	if err != nil {
		t.Fatal(err)
	}
	born := refresh.Family{
		ID: id.NewFamily(f.User), User: f.User, Client: f.Client, SecretHash: f.SecretHash, Scope: f.Scope, Audience: f.Audience,
		AMR: f.AMR, Transport: f.Transport, Rotates: true, IdleTTL: time.Hour, Generation: 1, HeadKey: 1,
	}
	opening := login.Opening{
		Session: id.NewSession(), Kind: session.Browser, AbsoluteTTL: 24 * time.Hour, Family: born, CredentialVersion: 1,
		Network: "192.0.2.66", Actor: audit.ByUser,
	}
	if _, err := b.db.Logins().Open(t.Context(), opening); err == nil || !strings.Contains(err.Error(), "known_networks") {
		t.Fatalf("%v, want the refusal of the database", err)
	}
	var left int
	if err := b.admin.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM families)
		+ (SELECT count(*) FROM audit_events)`).Scan(&left); err != nil || left != 2 {
		t.Errorf("%d sessions, families and events (%v), want the 2 that were there before", left, err)
	}
	opening.Network = "192.0.2.1"
	if _, err := b.db.Logins().Open(t.Context(), opening); err != nil {
		t.Errorf("the next login: %v", err)
	}
	opening.Session, opening.Family.ID, opening.CredentialVersion = id.NewSession(), id.NewFamily(f.User), 2
	if _, err := b.db.Logins().Open(t.Context(), opening); !errors.Is(err, login.ErrRefused) {
		t.Errorf("a login with yesterday's password: %v, want it refused", err)
	}
}
