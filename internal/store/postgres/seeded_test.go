package postgres_test

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// theSecret is the hash of the family secret of every seeded family.
var theSecret = sha256.Sum256([]byte("seeded"))

// seeded fills a migrated database with n living families of n/4 users.
func seeded(t testing.TB, url string, n int) []id.Family {
	t.Helper()
	conn := connect(t, url)
	tx, err := conn.Begin(t.Context()) // one now() for all of it
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`INSERT INTO server_state (one, issuer, master_id) VALUES (true, 'http://localhost', '\x0102030405060708')`,
		`INSERT INTO users (id, email, email_key, created_at, roles)
			SELECT md5('u' || g)::uuid, 'u' || g, 'u' || g, now(), '{}' FROM generate_series(0, ($1::integer - 1) / 4) g`,
		`INSERT INTO sessions (id, user_id, kind, client, created_at, absolute_end)
			SELECT md5('s' || g)::uuid, md5('u' || g / 4)::uuid, 'browser', 'first-party', now(), now() + interval '90 days'
			FROM generate_series(0, $1::integer - 1) g`,
		`INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr, binding, transport,
				rotates, idle_ttl, born_at, absolute_end, user_agent, ip, sender, generation, head_key, head_born, used_at, roles)
			SELECT encode(substring(sha256(uuid_send(md5('u' || g / 4)::uuid)) FROM 1 FOR 2) || substring(sha256(('f' || g)::bytea) FROM 1 FOR 14), 'hex')::uuid,
				md5('s' || g)::uuid, md5('u' || g / 4)::uuid, 'first-party', sha256('seeded'), 'openid profile', '{http://localhost}',
				now(), '{pwd}', '', 'body', true, interval '720 hours', now(), now() + interval '90 days',
				'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', '192.0.2.' || g % 256,
				'\x00112233445566778899aabbccddeeff', 1, 1, now(), now(), '{}'
			FROM generate_series(0, $1::integer - 1) g`,
	} {
		args := []any{n}
		if statement[:24] == "INSERT INTO server_state" {
			args = nil
		}
		if _, err := tx.Exec(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `SELECT id FROM families ORDER BY md5(id::text)`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]id.Family, 0, n)
	for _, f := range list {
		ids = append(ids, id.Family(f))
	}
	return ids
}

// connect opens a plain connection, for what only a test does.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// present is the owner of a seeded family presenting its token of generation g.
func present(f id.Family, g int32) refresh.Call {
	return refresh.Call{
		Policy: refresh.Policy{IdleTTL: 720 * time.Hour, RetryWindow: 90 * time.Second},
		Attempt: refresh.Attempt{
			Family: f, Generation: g, Key: 1, SecretHash: theSecret, Client: "first-party", Transport: refresh.InBody,
			RetryKey: refresh.RetryKey(f[:]), Sender: refresh.Sender{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", IP: "192.0.2.1",
			RequestID: "seeded", NewKey: 1,
		},
	}
}

// presentAll presents the heads of families that are all of generation g.
func presentAll(families []id.Family, g int32) []refresh.Call {
	calls := make([]refresh.Call, 0, len(families))
	for _, f := range families {
		calls = append(calls, present(f, g))
	}
	return calls
}
