package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store/postgres"
)

const addEntry = `INSERT INTO revocations (kind, subject, not_before, until)
	VALUES ('session', $1, date_trunc('second', now()), now() + interval '1 hour')`

// An entry that was inserted first and committed last is numbered last, and who
// has read beyond it before still gets it.
func TestRevocations_aLateCommitIsNotMissed(t *testing.T) {
	url := migrated(t)
	feed := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8}).Revocations()
	early, late := connect(t, url), connect(t, url)
	slow, err := late.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), addEntry, "slow"); err != nil {
		t.Fatal(err)
	}
	if _, err := early.Exec(t.Context(), addEntry, "quick"); err != nil {
		t.Fatal(err)
	}
	read := func(after int64) (subjects []revocation.ID, newest int64) {
		t.Helper()
		page, err := feed.Read(t.Context(), after, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			subjects = append(subjects, e.ID)
		}
		return subjects, page.Newest
	}
	of := func(subject string) revocation.ID { return revocation.IDOf(revocation.Session, subject) }
	first, newest := read(0)
	if !slices.Equal(first, []revocation.ID{of("quick")}) || newest != 1 {
		t.Fatalf("while the first is not committed: %v up to %d", first, newest)
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second, newest := read(newest); !slices.Equal(second, []revocation.ID{of("slow")}) || newest != 2 {
		t.Errorf("after its commit: %v up to %d", second, newest)
	}
	if all, _ := read(0); !slices.Equal(all, []revocation.ID{of("quick"), of("slow")}) {
		t.Errorf("all: %v", all)
	}
}

// Four nodes ask four times a second each: what finds nothing must not write.
// Whoever holds the counter keeps the others waiting, and no longer than that: a read that
// gave up leaves its connection as it was.
func TestRevocations_aCounterThatIsHeld(t *testing.T) {
	b := newBench(t, 1)
	db := open(t, postgres.Options{URL: secret.NewText(b.url), MaxConns: 8})
	b.exec(`INSERT INTO revocations (kind, subject, not_before, until) VALUES ('session', gen_random_uuid()::text, date_trunc('second', now()), now() + interval '1 hour')`)
	holder := connect(t, b.url)
	for _, statement := range []string{`BEGIN`, `SELECT FROM revocation_counter FOR UPDATE`} {
		if _, err := holder.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := db.Revocations().Read(t.Context(), 0, 10); err == nil {
		t.Fatalf("read %+v beside a counter that is held", page)
	}
	if _, err := holder.Exec(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	for range 8 { // every connection
		page, err := db.Revocations().Read(t.Context(), 0, 10)
		if err != nil || len(page.Entries) != 1 || page.Newest != 1 {
			t.Fatalf("afterwards: %+v, %v", page, err)
		}
	}
}

func TestRevocations_anIdleReadWritesNothing(t *testing.T) {
	url := migrated(t)
	feed := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8}).Revocations()
	admin := connect(t, url)
	if _, err := admin.Exec(t.Context(), addEntry, "one"); err != nil {
		t.Fatal(err)
	}
	version := func() (v string) {
		t.Helper()
		// Every write of a row gives it another xmin or place.
		row := admin.QueryRow(t.Context(), `SELECT (SELECT xmin || ctid::text FROM revocation_counter) || (SELECT string_agg(xmin || ctid::text, ',' ORDER BY id) FROM revocations)`)
		if err := row.Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if _, err := feed.Read(t.Context(), 0, 10); err != nil {
		t.Fatal(err)
	}
	before := version()
	// A read-only session would fail if it wrote.
	if _, err := admin.Exec(t.Context(), `ALTER DATABASE `+pgx.Identifier{admin.Config().Database}.Sanitize()+` SET default_transaction_read_only = on`); err != nil {
		t.Fatal(err)
	}
	reader := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8}).Revocations()
	again := open(t, postgres.Options{URL: secret.NewText(url), MaxConns: 8})
	if err := again.Ping(t.Context()); err == nil {
		t.Error("a database that takes no writes answers the ping")
	}
	for range 3 {
		if page, err := reader.Read(t.Context(), 1, 10); err != nil || page.Newest != 1 || len(page.Entries) != 0 || page.More {
			t.Fatalf("%+v, %v", page, err)
		}
	}
	if after := version(); after != before {
		t.Errorf("rows were written: %s, then %s", before, after)
	}
}

// A node of 0.1 that runs beside this version ends sessions and disables users without a
// word to the feed; a trigger tells for it. What this version ends it tells of itself, once.
func TestRevocations_ofAnOlderVersion(t *testing.T) {
	b := newBench(t, 3)
	var want []string
	entry := func(kind revocation.Kind, subject string) {
		want = append(want, fmt.Sprintf("%s %x", kind, revocation.IDOf(kind, subject)))
	}
	var user id.User
	for _, family := range b.families {
		f, _, err := b.db.Families().Family(t.Context(), family)
		if err != nil || f == nil {
			t.Fatal(f, err)
		}
		if user = f.User; len(want) == 0 {
			b.exec(`UPDATE sessions SET ended_at = now(), end_reason = 'logout' WHERE id = '` + f.Session.String() + `'`)
		}
		entry(revocation.Session, f.Session.String())
	}
	b.exec(`UPDATE users SET disabled_at = now() WHERE id = '` + user.String() + `'`)
	entry(revocation.User, user.String())
	if ended, err := b.db.Accounts().Disable(t.Context(), user, "operator:x", ""); err != nil || ended != len(b.families)-1 {
		t.Fatalf("%d sessions ended, %v; want those that nobody had ended", ended, err)
	}
	page, err := b.db.Revocations().Read(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range page.Entries {
		told = append(told, fmt.Sprintf("%s %x", e.Kind, e.ID))
		if life := time.Duration(e.Until-e.NotBefore) * time.Second; life < revocation.Lag || time.Until(time.Unix(e.NotBefore, 0)) > 30*time.Second {
			t.Errorf("the entry %+v", e)
		}
	}
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("the feed tells of\n%v, want\n%v", told, want)
	}
}

// A mass revocation by a node of 0.1 is one entry for everybody; the sessions that its
// housekeeping ends afterwards need none of their own, but for those used since.
func TestRevocations_ofAnOlderVersionsFloor(t *testing.T) {
	b := newBench(t, 3)
	used, _, err := b.db.Families().Family(t.Context(), b.families[0])
	if err != nil || used == nil {
		t.Fatal(used, err)
	}
	b.exec(`UPDATE families SET used_at = now() - interval '1 hour', head_born = now() - interval '1 hour' WHERE id <> '` + used.ID.String() + `'`)
	b.exec(`UPDATE server_state SET floor = now()`)
	b.exec(`UPDATE families SET used_at = now() + interval '2 seconds' WHERE id = '` + used.ID.String() + `'`)
	b.exec(`UPDATE families SET ended_at = now(), end_reason = 'floor'`)
	b.exec(`UPDATE sessions SET ended_at = now(), end_reason = 'floor'`)
	page, err := b.db.Revocations().Read(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var told []revocation.Kind
	for _, e := range page.Entries {
		told = append(told, e.Kind)
	}
	if !slices.Equal(told, []revocation.Kind{revocation.All, revocation.Session}) || page.Entries[1].ID != revocation.IDOf(revocation.Session, used.Session.String()) {
		t.Errorf("the feed tells of %v; want everybody, and the session that was used since", page.Entries)
	}
}
