package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/test/pgcluster"
)

// bench is a database with families, an engine on it and a connection beside.
type bench struct {
	*testing.T
	url      string
	db       *postgres.DB
	admin    *pgx.Conn
	families []id.Family
	retried  []string
}

func newBench(t *testing.T, families int) *bench {
	t.Helper()
	return newBenchOn(t, migrated(t), families)
}

// newBenchOn makes one on a migrated database.
func newBenchOn(t *testing.T, url string, families int) *bench {
	t.Helper()
	b := &bench{T: t, url: url}
	b.families = seeded(t, b.url, families)
	b.admin = connect(t, b.url)
	b.db = open(t, postgres.Options{URL: secret.NewText(b.url), MaxConns: 12, Retried: func(act string, _ error) { b.retried = append(b.retried, act) }})
	return b
}

func (b *bench) exec(statement string, args ...any) {
	b.Helper()
	if _, err := b.admin.Exec(b.Context(), statement, args...); err != nil {
		b.Fatal(err)
	}
}

// plan is how the server would execute a statement with these arguments, as b.admin
// is set.
func (b *bench) plan(sql, args string) string {
	b.Helper()
	b.exec(`PREPARE planned AS `+sql, pgx.QueryExecModeSimpleProtocol)
	defer b.exec(`DEALLOCATE planned`)
	rows, err := b.admin.Query(b.Context(), `EXPLAIN EXECUTE planned (`+args+`)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		b.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (b *bench) generation(f id.Family) (g int32) {
	b.Helper()
	if err := b.admin.QueryRow(b.Context(), `SELECT generation FROM families WHERE id = $1 FOR UPDATE`, [16]byte(f)).Scan(&g); err != nil {
		b.Fatal(err)
	}
	return g
}

// rotates sends a batch and wants every member rotated.
func (b *bench) rotates(calls []refresh.Call) {
	b.Helper()
	outcomes, err := b.db.Families().RotateBatch(b.Context(), calls)
	if err != nil {
		b.Fatal(err)
	}
	for i, out := range outcomes {
		if out == nil || out.Next.Generation != calls[i].Attempt.Generation+1 {
			b.Fatalf("member %d: %+v, want it rotated", i, out)
		}
	}
}

// onUpdate makes the server run a body of PL/pgSQL before each update of a
// family row.
func (b *bench) onUpdate(body string) {
	b.Helper()
	b.exec(`CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + body + ` RETURN NEW; END $$`)
	b.exec(`CREATE TRIGGER meddle BEFORE UPDATE ON families FOR EACH ROW EXECUTE FUNCTION meddle()`)
}

func (b *bench) leaveAlone() {
	b.Helper()
	b.exec(`DROP FUNCTION meddle() CASCADE`)
}

func TestRotateBatch_oneLockedRowStopsOnlyItself(t *testing.T) {
	b := newBench(t, 8)
	holder := connect(t, b.url)
	if _, err := holder.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT id FROM families WHERE id = $1 FOR UPDATE`, [16]byte(b.families[3])); err != nil {
		t.Fatal(err)
	}
	calls := presentAll(b.families, 1)
	begun := time.Now()
	outcomes, err := b.db.Families().RotateBatch(t.Context(), calls)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the batch took %s, want about 100 ms", took)
	}
	for i, out := range outcomes {
		switch {
		case i == 3 && out != refresh.Held:
			t.Errorf("the locked family: %+v, want it held", out)
		case i == 3:
		case out == nil || out.Verdict != refresh.Rotated || b.generation(b.families[i]) != 2:
			t.Errorf("member %d: %+v, at generation %d", i, out, b.generation(b.families[i]))
		}
	}
	if _, err := b.db.Families().Redeem(t.Context(), calls[3], 50*time.Millisecond); !errors.Is(err, refresh.ErrLocked) {
		t.Errorf("the locked family alone: %v, want ErrLocked", err)
	}
	if outcomes, err = b.db.Families().RotateBatch(t.Context(), calls[3:4]); !errors.Is(err, refresh.ErrRefused) {
		t.Errorf("the locked family as a batch: %v, %v, want it refused", outcomes, err)
	}
	if _, err := holder.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	b.rotates(calls[3:4])
}

// Whoever waited for a family's row judges by what was committed meanwhile, and not by the
// user, the floor and the keys from before: PostgreSQL itself would only read the row anew.
func TestRedeem_judgesByWhatWasCommittedWhileItWaited(t *testing.T) {
	for _, c := range []struct {
		name, meanwhile string
		verdict         refresh.Verdict
		err             error
	}{
		{"the floor was raised", `UPDATE server_state SET floor = now() + interval '1 second'`, refresh.Revoked, nil},
		{"the user was disabled", `UPDATE users SET disabled_at = now()`, refresh.Revoked, nil},
		{"a root key was revoked", `UPDATE server_state SET ring_revision = ring_revision + 1, roots_revision = ring_revision + 1`, refresh.Unknown, refresh.ErrStaleKeys},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 1)
			b.exec(`UPDATE server_state SET ring_revision = 7`)
			holder := connect(t, b.url)
			hold := func(statement string, args ...any) {
				t.Helper()
				if _, err := holder.Exec(t.Context(), statement, args...); err != nil {
					t.Fatal(err)
				}
			}
			hold(`BEGIN`)
			hold(`SELECT id FROM families WHERE id = $1 FOR UPDATE`, [16]byte(b.families[0]))
			call := present(b.families[0], 1)
			call.Keys = 7
			var out refresh.Outcome
			done := make(chan error, 1)
			go func() {
				var err error
				out, err = b.db.Families().Redeem(t.Context(), call, time.Minute)
				done <- err
			}()
			deadline := time.Now().Add(time.Minute)
			for waits := false; !waits; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) || len(done) > 0 {
					t.Fatal("it does not wait for the row")
				}
				if err := b.admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits); err != nil {
					t.Fatal(err)
				}
			}
			// A trigger on users writes into the family, and has to wait, too.
			hold(c.meanwhile)
			hold(`COMMIT`)
			if err := <-done; !errors.Is(err, c.err) || out.Verdict != c.verdict {
				t.Errorf("%s, %v; want %s, %v", out.Verdict, err, c.verdict, c.err)
			}
			if g := b.generation(b.families[0]); g != 1 {
				t.Errorf("it rotated to generation %d", g)
			}
		})
	}
}

func TestRotateBatch_aPoisonedRowRefusesTheBatchAndNothingIsWritten(t *testing.T) {
	b := newBench(t, 4)
	b.onUpdate(`IF NEW.id = '` + b.families[2].String() + `' THEN RAISE EXCEPTION 'poisoned'; END IF;`)
	if _, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 1)); !errors.Is(err, refresh.ErrRefused) {
		t.Fatalf("%v, want the batch refused", err)
	}
	for i, f := range b.families {
		if g := b.generation(f); g != 1 {
			t.Errorf("family %d is at generation %d after a refused batch, want 1", i, g)
		}
	}
	if _, err := b.db.Families().Redeem(t.Context(), present(b.families[2], 1), time.Second); err == nil || errors.Is(err, refresh.ErrRefused) || errors.Is(err, refresh.ErrLocked) {
		t.Errorf("the poisoned family alone: %v, want plain trouble", err)
	}
	b.rotates(presentAll(b.families[:2], 1))
}

func TestRotateBatch_aLostTieIsTriedOnceMore(t *testing.T) {
	b := newBench(t, 2)
	b.exec(`CREATE SEQUENCE ties`)
	b.onUpdate(`IF nextval('ties') = 1 THEN RAISE EXCEPTION 'tie' USING ERRCODE = '40001'; END IF;`)
	b.rotates(presentAll(b.families, 1))
	if len(b.retried) != 1 || b.retried[0] != "refresh.rotate_batch" {
		t.Errorf("retries told: %q, want one of refresh.rotate_batch", b.retried)
	}
	b.leaveAlone()
	b.onUpdate(`RAISE EXCEPTION 'tie' USING ERRCODE = '40P01';`)
	if _, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 2)); !errors.Is(err, refresh.ErrRefused) {
		t.Errorf("%v, want the batch refused after its second try", err)
	}
}

func TestRotateBatch_aWarningMeansUnknown(t *testing.T) {
	b := newBench(t, 2)
	b.onUpdate(`RAISE WARNING 'canceling wait for synchronous replication due to user request';`)
	_, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 1))
	if err == nil || errors.Is(err, refresh.ErrRefused) || !strings.Contains(err.Error(), "synchronous replication") {
		t.Errorf("%v, want trouble that tells the warning and is not ErrRefused", err)
	}
	// Alone it is the same: the commit is not acknowledged.
	if _, err := b.db.Families().Redeem(t.Context(), present(b.families[0], 1), time.Second); err != nil {
		t.Errorf("a replay writes nothing: %v", err)
	}
	if _, err := b.db.Families().Redeem(t.Context(), present(b.families[0], 2), time.Second); err == nil {
		t.Error("a commit with a warning was acknowledged")
	}
	b.leaveAlone()
	b.rotates([]refresh.Call{present(b.families[1], 2)})
}

func TestRotateBatch_aNoticeIsNoWarning(t *testing.T) {
	b := newBench(t, 2)
	b.onUpdate(`RAISE NOTICE 'nothing of note';`)
	b.rotates(presentAll(b.families, 1))
}

func TestRotateBatch_aKilledConnectionMeansUnknown(t *testing.T) {
	b := newBench(t, 2)
	b.onUpdate(`PERFORM pg_sleep(60);`)
	done := make(chan error, 1)
	go func() {
		_, err := b.db.Families().RotateBatch(t.Context(), presentAll(b.families, 1))
		done <- err
	}()
	for killed := false; !killed; {
		err := b.admin.QueryRow(t.Context(), `SELECT COALESCE(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'PgSleep'`).Scan(&killed)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err == nil || errors.Is(err, refresh.ErrRefused) {
		t.Errorf("%v, want trouble that is not ErrRefused", err)
	}
	b.leaveAlone()
	b.rotates(presentAll(b.families, 1))
}

func TestRotateBatch_aReadOnlyServerIsTrouble(t *testing.T) {
	b := newBench(t, 2)
	var name string
	if err := b.admin.QueryRow(t.Context(), `SELECT current_database()`).Scan(&name); err != nil {
		t.Fatal(err)
	}
	b.exec(`ALTER DATABASE ` + name + ` SET default_transaction_read_only = on`)
	demoted := open(t, postgres.Options{URL: secret.NewText(b.url), MaxConns: 12})
	if _, err := demoted.Families().RotateBatch(t.Context(), presentAll(b.families, 1)); err == nil || errors.Is(err, refresh.ErrRefused) {
		t.Errorf("%v, want trouble that is not ErrRefused: nobody is to be judged on a standby", err)
	}
	b.admin.Exec(t.Context(), `SET default_transaction_read_only = off`)
	b.exec(`ALTER DATABASE ` + name + ` RESET default_transaction_read_only`)
	// A connection that was being made meanwhile may still be of the old kind;
	// it goes as the first one went.
	var outcomes []*refresh.Outcome
	err := errors.New("never tried")
	for range 8 {
		if outcomes, err = demoted.Families().RotateBatch(t.Context(), presentAll(b.families, 1)); err == nil {
			break
		}
	}
	if err != nil || outcomes[0] == nil {
		t.Errorf("after the failover: %v, want new connections that write", err)
	}
}

// The server grants one connection, and the ordinary pool has it: it is lent to the batches.
func TestRotateBatch_whereNoConnectionIsGranted(t *testing.T) {
	b := newBench(t, 1)
	role, db := b.oneConnection()
	for deadline := time.Now().Add(20 * time.Second); ; {
		// Until the ordinary pool is the faster one, and the other has thrown away what it had.
		err := db.Ping(t.Context())
		if err == nil {
			var out []*refresh.Outcome
			if out, err = db.Families().RotateBatch(t.Context(), []refresh.Call{present(b.families[0], b.generation(b.families[0]))}); err == nil {
				if out[0] == nil || out[0].Verdict != refresh.Rotated {
					t.Errorf("%+v; want it rotated", out[0])
				}
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("a batch where the ordinary pool has the one connection: %v", err)
		}
		b.exec(`SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE usename = '` + role + `'`)
	}
}

// Where the batches have the only connection that is granted, the keys are read all the
// same: a node that cannot read them signs nothing.
func TestRead_whereTheBatchesHaveTheOnlyConnection(t *testing.T) {
	b := newBench(t, 1)
	role, db := b.oneConnection()
	rotate := func() error {
		_, err := db.Families().RotateBatch(t.Context(), []refresh.Call{present(b.families[0], b.generation(b.families[0]))})
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		b.exec(`SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE usename = '` + role + `'`)
		if rotate() == nil && db.HeldByBatches() == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the batches never had the one connection")
		}
	}
	for deadline := time.Now().Add(5 * time.Second); ; <-time.After(50 * time.Millisecond) {
		_, err := db.Keys().ReadRing(t.Context())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the keys where a batch has the one connection: %v", err)
		}
	}
	if err := rotate(); err != nil {
		t.Errorf("a batch afterwards: %v", err)
	}
}

// oneConnection opens the database as a role that is granted one connection.
func (b *bench) oneConnection() (role string, db *postgres.DB) {
	t := b.T
	t.Helper()
	role = "refused_" + strings.ToLower(rand.Text())
	b.exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'a password'`)
	t.Cleanup(func() {
		ctx := context.Background()
		admin, err := pgx.Connect(ctx, b.url)
		if err != nil {
			t.Fatal(err)
		}
		defer admin.Close(ctx)
		for _, statement := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				t.Error(err)
			}
		}
	})
	b.exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + role)
	u, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "a password")
	db = open(t, postgres.Options{URL: secret.NewText(u.String()), MaxConns: 12})
	b.exec(`ALTER ROLE ` + role + ` CONNECTION LIMIT 1`)
	return role, db
}

func TestRotateBatch_isGivenUpButNeverCancelled(t *testing.T) {
	b := newBench(t, 2)
	p := newProxy(t, b.url, false)
	db := open(t, postgres.Options{URL: secret.NewText(p.url), MaxConns: 12})
	b.onUpdate(`WHILE NOT pg_try_advisory_xact_lock(1) LOOP PERFORM pg_sleep(0.01); END LOOP;`)
	// Warm up, so that the deadline falls into the statement.
	if _, err := db.Families().RotateBatch(t.Context(), presentAll(b.families[1:], 1)); err != nil {
		t.Fatal(err)
	}
	b.exec(`SELECT pg_advisory_lock(1)`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	given := make(chan error, 1)
	go func() {
		_, err := db.Families().RotateBatch(ctx, presentAll(b.families[:1], 1))
		given <- err
	}()
	var err error
	select {
	case err = <-given:
	case <-time.After(20 * time.Second):
		t.Error("it is not given up 20 s later")
	}
	if err == nil || errors.Is(err, refresh.ErrRefused) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want trouble that is not ErrRefused and names the deadline", err)
	}
	b.exec(`SELECT pg_advisory_unlock(1)`) // until here the statement waits
	b.leaveAlone()                         // waits for the abandoned statement, which holds the table
	if g := b.generation(b.families[0]); g != 2 {
		t.Errorf("generation %d; want 2: the statement was to run to its end", g)
	}
	if n := p.cancels.Load(); n != 0 {
		t.Errorf("%d cancel requests were sent, want none", n)
	}
}

func TestEndSessions_aRequestThatGoesAwayCancelsNothing(t *testing.T) {
	b := newBench(t, 1)
	b.onUpdate(`PERFORM pg_sleep(0.5);`)
	p := newProxy(t, b.url, false)
	db := open(t, postgres.Options{URL: secret.NewText(p.url), MaxConns: 12})
	f, _, err := db.Families().Family(t.Context(), b.families[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n, err := db.Sessions().EndSessions(ctx, session.End{User: f.User, Reason: refresh.EndedByLogout, Actor: audit.ByUser, RequestID: "gone"})
	if n != 1 || err != nil {
		t.Errorf("ended %d, %v; want the session ended though the request went away", n, err)
	}
	if n := p.cancels.Load(); n != 0 {
		t.Errorf("%d cancel requests were sent, want none", n)
	}
}

func TestRotateBatch_throughAPooler(t *testing.T) {
	b := newBench(t, 8)
	p := newProxy(t, b.url, true)
	db := open(t, postgres.Options{URL: secret.NewText(p.url), MaxConns: 12})
	calls := presentAll(b.families, 1)
	calls[5].Attempt.Generation = 7 // not certain
	outcomes, err := db.Families().RotateBatch(t.Context(), calls)
	if err != nil {
		t.Fatal(err)
	}
	for i, out := range outcomes {
		if (out == nil) != (i == 5) {
			t.Errorf("member %d: %+v", i, out)
		}
	}
	if p.changed.Load() == 0 {
		t.Fatal("the proxy changed no backend id, so this was no pooler")
	}
	// Its bounds come along with each batch, because a pooler's connection is
	// somebody else's the next moment.
	holder := connect(t, b.url)
	if _, err := holder.Exec(t.Context(), `BEGIN`); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT id FROM families WHERE id = $1 FOR UPDATE`, [16]byte(b.families[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Families().RotateBatch(t.Context(), presentAll(b.families[:1], 2)); !errors.Is(err, refresh.ErrRefused) {
		t.Errorf("%v, want a locked row to refuse the batch there too", err)
	}
}

func TestRotateBatch_badTextSpoilsNothing(t *testing.T) {
	b := newBench(t, 3)
	calls := presentAll(b.families, 1)
	calls[1].Attempt.UserAgent, calls[1].Attempt.IP = "a\x00b\xff\xfe", "\xc3\x28"
	outcomes, err := b.db.Families().RotateBatch(t.Context(), calls)
	if err != nil {
		t.Fatal(err)
	}
	row, _, err := b.db.Families().Family(t.Context(), b.families[1])
	if err != nil {
		t.Fatal(err)
	}
	if out := outcomes[1]; out == nil || out.Next.UserAgent != row.UserAgent || out.Next.IP != row.IP || row.UserAgent != "ab\uFFFD" {
		t.Errorf("outcome %+v, row %q %q; want both to say what is legible", out, row.UserAgent, row.IP)
	}
}

// A rotation writes one row version into the page it came from and touches no
// index; everything about the table is made so.
func TestRotateBatch_isHOTAndLean(t *testing.T) {
	const families, rounds = 600, 20
	url := pgcluster.New(t).URL()
	if err := migrateTo(url); err != nil {
		t.Fatal(err)
	}
	b := newBenchOn(t, url, families)
	half := families / 2
	round := func(g int32) {
		b.rotates(presentAll(b.families[:half], g))
		b.rotates(presentAll(b.families[half:], g))
	}
	round(1)
	b.exec(`CHECKPOINT`)
	round(2) // writes the full pages that follow a checkpoint
	var before string
	if err := b.admin.QueryRow(t.Context(), `SELECT pg_current_wal_insert_lsn()::text`).Scan(&before); err != nil {
		t.Fatal(err)
	}
	for g := int32(3); g < rounds; g++ {
		round(g)
	}
	var wal float64
	if err := b.admin.QueryRow(t.Context(), `SELECT (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::float8`, before).Scan(&wal); err != nil {
		t.Fatal(err)
	}
	if per := wal / (families * (rounds - 3)); per >= 350 {
		t.Errorf("%.0f bytes of WAL for a rotation, want less than 350", per)
	} else {
		t.Logf("%.0f bytes of WAL for a rotation", per)
	}
	b.db.Close() // its backends hand in their figures as they end
	for deadline := time.Now().Add(20 * time.Second); ; {
		var all, hot int
		err := b.admin.QueryRow(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd
			FROM pg_stat_user_tables WHERE relname = 'families'`).Scan(&all, &hot)
		if err != nil {
			t.Fatal(err)
		}
		if all >= families*(rounds-1) {
			if t.Logf("%d of %d updates were HOT", hot, all); hot*10 < all*9 {
				t.Errorf("%d of %d updates were HOT, want nine in ten", hot, all)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server counted %d updates, want %d", all, families*(rounds-1))
		}
	}
}

// Batches that share families take their rows in the order of the array,
// whatever the planner knows about the table.
func TestRotateBatch_planIsFixed(t *testing.T) {
	b := newBench(t, 1)
	if _, err := b.admin.Exec(t.Context(), postgres.BatchSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	for i, sql := range postgres.RotateSQL {
		plan := b.plan(sql, strings.TrimSuffix(strings.Repeat("NULL, ", 15), ", "))
		for _, wrong := range []string{"Hash", "Merge", "Sort", "Seq Scan"} {
			if strings.Contains(plan, wrong) {
				t.Errorf("the plan has a %s:\n%s", wrong, plan)
			}
		}
		if !strings.Contains(plan, "families_pkey") {
			t.Errorf("the plan does not use the primary key:\n%s", plan)
		}
		if asks := strings.Contains(plan, "users_pkey"); asks != (i == 1) {
			t.Errorf("whether the plan reads users: %v\n%s", asks, plan)
		}
	}
}
