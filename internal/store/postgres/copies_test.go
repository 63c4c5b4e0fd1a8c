package postgres_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/migrations"
)

// userOf returns the user of a family.
func (b *bench) userOf(f id.Family) (user id.User) {
	b.Helper()
	err := b.admin.QueryRow(b.Context(), `SELECT user_id FROM families WHERE id = $1`, [16]byte(f)).Scan((*[16]byte)(&user))
	if err != nil {
		b.Fatal(err)
	}
	return user
}

// rotated sends a batch of one and wants it rotated.
func (b *bench) rotated(f id.Family, g int32) refresh.Family {
	b.Helper()
	outcomes, err := b.db.Families().RotateBatch(b.Context(), []refresh.Call{present(f, g)})
	if err != nil || outcomes[0] == nil {
		b.Fatalf("%v, %v; want it rotated", outcomes, err)
	}
	return outcomes[0].Next
}

// TestRotateBatch_knowsTheUserOfTheMoment: what a rotation says of the user is
// what users says, though it reads the family alone.
func TestRotateBatch_knowsTheUserOfTheMoment(t *testing.T) {
	b := newBench(t, 8)
	f := b.families[0]
	if got := b.rotated(f, 1).Roles; len(got) != 0 {
		t.Errorf("at first the roles are %q", got)
	}
	if err := b.db.Accounts().SetRole(t.Context(), b.userOf(f), "admin", true, audit.BySystem, "r"); err != nil {
		t.Fatal(err)
	}
	if got := b.rotated(f, 2).Roles; !slices.Equal(got, []string{"admin"}) {
		t.Errorf("after a grant the roles are %q", got)
	}
	from := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	b.exec(`UPDATE users SET tokens_from = $2, roles = '{}' WHERE id = $1`, [16]byte(b.userOf(f)), from)
	if next := b.rotated(f, 3); len(next.Roles) != 0 || !next.TokensFrom.Equal(from) {
		t.Errorf("after an operator's hand: roles %q, tokens from %v; want none, %v", next.Roles, next.TokensFrom, from)
	}
}

// meetNewcomer makes the engine look for families that do not know their user,
// as it does once it has met one.
func (b *bench) meetNewcomer(f id.Family) {
	b.Helper()
	forged := present(f, 1)
	forged.Attempt.SecretHash[0] ^= 1
	if out, err := b.db.Families().Redeem(b.Context(), forged, time.Second); err != nil || out.Verdict.Answers() {
		b.Fatalf("%s, %v", out.Verdict, err)
	}
}

// TestRotateBatch_asksUsersOnce: a family of an older binary does not know its
// user. Once one was met, they are rotated in the same batch as the others, and
// know it afterwards.
func TestRotateBatch_asksUsersOnce(t *testing.T) {
	b := newBench(t, 40)
	stranger, banned := b.families[7], b.families[9]
	b.exec(`UPDATE users SET roles = '{ops}' WHERE id = $1`, [16]byte(b.userOf(stranger)))
	b.exec(`UPDATE families SET roles = NULL WHERE id = ANY ($1)`, [][16]byte{stranger, banned})
	b.exec(`SET session_replication_role = replica`) // so that the row itself does not hear of the ban
	b.exec(`UPDATE users SET disabled_at = now() WHERE id = $1`, [16]byte(b.userOf(banned)))
	outcomes, err := b.db.Families().RotateBatch(t.Context(), []refresh.Call{present(stranger, 1)})
	if err != nil || outcomes[0] != nil {
		t.Fatalf("before any was met: %v, %v; want it undecided", outcomes, err)
	}
	b.meetNewcomer(stranger)
	if outcomes, err = b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 1)); err != nil {
		t.Fatal(err)
	}
	for i, out := range outcomes {
		if is := b.families[i] == banned; (out == nil) != is {
			t.Errorf("family %d: %+v; of the disabled user: %v", i, out, is)
		}
		if b.families[i] == stranger && out != nil && !slices.Equal(out.Next.Roles, []string{"ops"}) {
			t.Errorf("the stranger's roles are %q", out.Next.Roles)
		}
	}
	var known, unknown bool
	err = b.admin.QueryRow(t.Context(), `SELECT (SELECT roles = '{ops}' FROM families WHERE id = $1), (SELECT roles IS NULL FROM families WHERE id = $2)`,
		[16]byte(stranger), [16]byte(banned)).Scan(&known, &unknown)
	if err != nil || !known || !unknown {
		t.Errorf("afterwards the stranger knows its user: %v, the banned does not: %v (%v)", known, unknown, err)
	}
}

// TestRotateBatch_aBanBesideAnswersThatAreWaitedFor: a batch has read an enabled
// user and waits for another row, while an operator disables the user by hand.
func TestRotateBatch_aBanBesideAnswersThatAreWaitedFor(t *testing.T) {
	b := newBench(t, 40)
	first := slices.MinFunc(b.families, id.Family.Compare)
	last := slices.MaxFunc(b.families, id.Family.Compare)
	b.exec(`UPDATE families SET roles = NULL`)
	b.meetNewcomer(last)
	locker := connect(t, b.url)
	tx, err := locker.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM families WHERE id = $1 FOR UPDATE`, [16]byte(first)); err != nil {
		t.Fatal(err)
	}
	done := make(chan []*refresh.Outcome, 1)
	go func() {
		outcomes, err := b.db.Families().RotateBatch(context.Background(), []refresh.Call{present(first, 1), present(last, 1)})
		if err != nil {
			t.Error(err)
		}
		done <- outcomes
	}()
	for waiting, deadline := false, time.Now().Add(10*time.Second); !waiting && time.Now().Before(deadline); {
		if err := b.admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	b.exec(`UPDATE users SET disabled_at = now() WHERE id = $1`, [16]byte(b.userOf(last)))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	for g := b.generation(last); g < 4; g++ {
		outcomes, err := b.db.Families().RotateBatch(t.Context(), []refresh.Call{present(last, g)})
		if err != nil {
			t.Fatal(err)
		}
		if outcomes[0] != nil {
			t.Errorf("generation %d was rotated after the ban", g)
		}
	}
}

// TestRotateBatch_troubleWithNewcomersIsTheirsAlone: the others were committed
// before.
func TestRotateBatch_troubleWithNewcomersIsTheirsAlone(t *testing.T) {
	b := newBench(t, 8)
	b.exec(`UPDATE families SET roles = NULL WHERE id = $1`, [16]byte(b.families[2]))
	b.meetNewcomer(b.families[2])
	b.onUpdate(`IF OLD.roles IS NULL THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;`)
	outcomes, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 1))
	if err != nil {
		t.Fatal(err)
	}
	for i, out := range outcomes {
		if (out == nil) != (i == 2) {
			t.Errorf("member %d: %+v", i, out)
		}
	}
}

// TestUsers_areChangedUnderReadCommittedAlone: under another level the trigger
// would not see a family that is born meanwhile.
func TestUsers_areChangedUnderReadCommittedAlone(t *testing.T) {
	b := newBench(t, 4)
	b.exec(`SET default_transaction_isolation = 'repeatable read'`)
	_, err := b.admin.Exec(t.Context(), `UPDATE users SET roles = '{x}'`)
	if err == nil || !strings.Contains(err.Error(), "repeatable read") {
		t.Errorf("%v; want it refused", err)
	}
	b.exec(`SET search_path = pg_catalog`)
	b.exec(`SET default_transaction_isolation = 'read committed'`)
	b.exec(`UPDATE public.users SET roles = '{x}'`)
	if got := b.rotated(b.families[0], 1).Roles; !slices.Equal(got, []string{"x"}) {
		t.Errorf("with another search path the roles are %q", got)
	}
}

// TestMigrate_behindALongReader: a migration that waited for a table would hold
// everybody up who comes after it.
func TestMigrate_behindALongReader(t *testing.T) {
	url := storetest.Postgres(t)
	db := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 12})
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin := connect(t, url)
	for _, statement := range []string{
		downOf(t, "0007_older_versions_tell"), downOf(t, "0006_housekeeping_reads_less"), downOf(t, "0005_rotation_reads_one_row"),
		`DELETE FROM goose_db_version WHERE version_id >= 5`,
	} {
		if _, err := admin.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM families`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := db.Migrate(context.Background())
		done <- err
	}()
	reader := connect(t, url)
	longest := time.Duration(0)
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond || longest < 100*time.Millisecond && time.Since(begun) < 30*time.Second; {
		asked := time.Now()
		if _, err := reader.Exec(t.Context(), `SELECT FROM families`); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(asked))
	}
	if longest < 100*time.Millisecond || longest > 5*time.Second {
		t.Errorf("readers waited up to %s; want about half a second", longest)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s, err := db.Schema(t.Context()); err != nil || len(s.Pending) > 0 {
		t.Errorf("pending: %q, %v", s.Pending, err)
	}
}

// downOf returns the second half of a migration.
func downOf(t *testing.T, name string) string {
	t.Helper()
	text, err := migrations.Postgres.ReadFile("postgres/" + name + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	_, down, _ := strings.Cut(string(text), "-- +goose Down")
	return down
}

// TestRotateBatch_besideChangesOfTheUser rotates families that do not know their
// users while these change. In the end every family knows what users says.
func TestRotateBatch_besideChangesOfTheUser(t *testing.T) {
	b := newBench(t, 16)
	b.exec(`UPDATE families SET roles = NULL`)
	b.meetNewcomer(b.families[0])
	users := map[id.User]bool{}
	for _, f := range b.families {
		users[b.userOf(f)] = true
	}
	var rotations atomic.Int64
	begun := time.Now()
	over := func() bool {
		return time.Since(begun) > 30*time.Second || rotations.Load() >= 100 && time.Since(begun) > 2*time.Second
	}
	var all sync.WaitGroup
	for user := range users {
		all.Go(func() {
			for n := 0; !over(); n++ {
				if err := b.db.Accounts().SetRole(t.Context(), user, "ops", n%2 == 0, audit.BySystem, "r"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Go(func() {
		generation := make([]int32, len(b.families))
		for !over() {
			var calls []refresh.Call
			for i, f := range b.families {
				calls = append(calls, present(f, generation[i]+1))
			}
			outcomes, err := b.db.Families().RotateBatch(t.Context(), calls)
			if err != nil {
				continue // refused
			}
			for i, out := range outcomes {
				if out != nil && out != refresh.Held { // its row was waited for too long
					generation[i]++
					rotations.Add(1)
				}
			}
		}
	})
	all.Wait()
	if rotations.Load() < 100 {
		t.Errorf("only %d rotations", rotations.Load())
	}
	var wrong int
	err := b.admin.QueryRow(t.Context(), `SELECT count(*) FROM families f JOIN users u ON u.id = f.user_id WHERE f.roles <> u.roles`).Scan(&wrong)
	if err != nil || wrong > 0 {
		t.Errorf("%d of %d families are wrong about their user after %d rotations (%v)", wrong, len(b.families), rotations.Load(), err)
	}
}

// TestFamilies_areCheckedAtBirth: the table has no CHECK, because every rotation
// would pay for it.
func TestFamilies_areCheckedAtBirth(t *testing.T) {
	b := newBench(t, 1)
	var checks int
	if err := b.admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_constraint WHERE conrelid = 'families'::regclass AND contype = 'c'`).Scan(&checks); err != nil || checks > 0 {
		t.Errorf("families has %d checks (%v)", checks, err)
	}
	columns := "session_id, user_id, client, secret_hash, scope, audience, auth_time, amr, binding, transport, rotates, idle_ttl, born_at, absolute_end, user_agent, ip, sender, generation, head_key, foreign_streak, key_fresh, head_born, used_at, retry_key, ended_at, end_reason"
	for _, bad := range [][2]string{
		{"client", "''"},
		{"secret_hash", `'\x00'`},
		{"audience", "'{}'"},
		{"binding", "'dpop:'"},
		{"transport", "'pigeon'"},
		{"rotates", "false"},
		{"idle_ttl", "interval '0'"},
		{"absolute_end", "born_at"},
		{"sender", `'\x00'`},
		{"generation", "0"},
		{"head_key", "256"},
		{"foreign_streak", "3"},
		{"retry_key", `'\x00'`},
		{"key_fresh", "true"},
		{"end_reason", "'logout'"},
		{"ended_at", "now()"},
	} {
		values := " " + columns + ","
		values = strings.TrimSuffix(strings.Replace(values, " "+bad[0]+",", " "+bad[1]+",", 1), ",")
		_, err := b.admin.Exec(t.Context(), `INSERT INTO families (id, `+columns+`) SELECT gen_random_uuid(),`+values+` FROM families LIMIT 1`)
		if e, ok := err.(*pgconn.PgError); !ok || e.Code != "23514" {
			t.Errorf("%s = %s: %v; want it refused", bad[0], bad[1], err)
		}
	}
	if _, err := b.admin.Exec(t.Context(), `INSERT INTO families (id, `+columns+`) SELECT gen_random_uuid(), `+columns+` FROM families LIMIT 1`); err != nil {
		t.Errorf("a family that holds together: %v", err)
	}
}
