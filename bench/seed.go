package main

import (
	"context"
	"crypto/md5"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver that SQLite is seeded through
)

// seedPostgres founds an installation in the cluster and fills it with living
// families. The rows are what logins in the last month would have left: born at
// random instants, never refreshed.
//
// Further families are expired: nobody has used them for 60 days. They are no
// part of the fleet, and lie among the others in the table.
func seedPostgres(ctx context.Context, c *cluster, dataDir string, families, expired int) (*fleet, error) {
	r, err := found(ctx, dataDir, c.url(c.database))
	if err != nil {
		return nil, err
	}
	f := newFleet(r, families)
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	// The rows are consistent by construction; to look up every foreign key of
	// three million rows would take longer than all the rest.
	if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE holders (tag text PRIMARY KEY, id uuid NOT NULL) ON COMMIT DROP`); err != nil {
		return nil, err
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"holders"}, []string{"tag", "id"}, pgx.CopyFromSlice(len(f.users), func(n int) ([]any, error) {
		return []any{hex.EncodeToString([]byte{byte(n >> 8), byte(n)}), [16]byte(f.users[n])}, nil
	}))
	if err != nil {
		return nil, err
	}
	restore, err := withoutIndexes(ctx, tx, families+expired)
	if err != nil {
		return nil, err
	}
	for _, step := range append([]sqlStep{
		{`-- name: bench.users
			INSERT INTO users (id, email, email_key, created_at)
			SELECT id, 'holder-' || tag || '@bench.example', 'holder-' || tag || '@bench.example', now() - interval '60 days'
			FROM holders`, nil},
		{`-- name: bench.births
			CREATE TEMPORARY TABLE births ON COMMIT DROP AS
			SELECT i, md5(i::text)::uuid AS id, md5('session' || i)::uuid AS session_id, h.id AS user_id,
				now() - CASE WHEN i > $2::int THEN interval '60 days' ELSE random() * interval '29 days' END AS born_at
			FROM generate_series(1, $1::int + $3::int) AS i JOIN holders h ON h.tag = left(md5(i::text), 4)
			ORDER BY CASE WHEN $3::int > 0 THEN md5('place' || i) END`, []any{families, families, expired}},
		{`-- name: bench.sessions
			INSERT INTO sessions (id, user_id, kind, client, created_at, absolute_end)
			SELECT session_id, user_id, 'browser', $1, born_at, born_at + $2::interval FROM births`, []any{firstParty, sessionTTL}},
		{
			`-- name: bench.families
			INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr, binding,
				transport, rotates, idle_ttl, born_at, absolute_end, user_agent, ip, sender, generation, head_key, head_born, used_at, roles)
			SELECT id, session_id, user_id, $1, sha256(substr(sha256(convert_to($2::text || i, 'UTF8')), 1, 16)), $3, ARRAY[$4::text], born_at,
				'{pwd}', '', 'body', true, $5::interval, born_at, born_at + $6::interval, $7, '127.0.0.1', $8, 1, $9::int, born_at, born_at, '{}'
			FROM births`,
			[]any{firstParty, f.seed, scope, issuer, idleTTL, sessionTTL, userAgent, senderOf(userAgent), int(r.number)},
		},
	}, restore...) {
		if _, err := tx.Exec(ctx, step.sql, step.args...); err != nil {
			return nil, fmt.Errorf("%.40s: %w", step.sql, err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	for _, table := range []string{"users", "sessions", "families"} {
		if _, err := c.conn.Exec(ctx, `VACUUM ANALYZE `+table); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// sqlStep is one statement of the seeding.
type sqlStep struct {
	sql  string
	args []any
}

// bulk is how many families are so many that their indexes are made afterwards.
const bulk = 2_000_000

// withoutIndexes drops the indexes that no constraint needs from the tables that
// are about to be filled with that many rows, and returns the steps that make
// them again.
func withoutIndexes(ctx context.Context, tx pgx.Tx, families int) (restore []sqlStep, err error) {
	if families < bulk {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `-- name: bench.indexes
		SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
		WHERE i.indrelid = ANY (ARRAY['sessions', 'families']::regclass[])
			AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)`)
	if err != nil {
		return nil, err
	}
	dropped := []string{}
	var name, definition string
	_, err = pgx.ForEachRow(rows, []any{&name, &definition}, func() error {
		dropped, restore = append(dropped, name), append(restore, sqlStep{definition, nil})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range dropped {
		if _, err := tx.Exec(ctx, `DROP INDEX `+name); err != nil {
			return nil, err
		}
	}
	_, err = tx.Exec(ctx, `SET LOCAL maintenance_work_mem = '512MB'`)
	return restore, err
}

// settle reads the generations back: pgbench moves them, too. It is done before
// every measurement, whoever's turn it is, because reading a whole table also
// tidies its pages.
func (f *fleet) settle(ctx context.Context, c *cluster) error {
	rows, err := c.conn.Query(ctx, `-- name: bench.generations
		SELECT id, generation FROM families`)
	if err != nil {
		return err
	}
	moved := make(map[[16]byte]uint32, len(f.ids))
	var family [16]byte
	var generation int32
	_, err = pgx.ForEachRow(rows, []any{&family, &generation}, func() error {
		moved[family] = uint32(generation)
		return nil
	})
	if err != nil {
		return err
	}
	for n, family := range f.ids {
		if f.generations[n] = moved[family]; f.generations[n] == 0 {
			return fmt.Errorf("family %x is gone", family)
		}
	}
	return nil
}

// seedSQLite founds an installation in a directory and fills it likewise.
func seedSQLite(ctx context.Context, dataDir string, families, expired int) (*fleet, error) {
	r, err := found(ctx, dataDir, "")
	if err != nil {
		return nil, err
	}
	f := newFleet(r, families)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dataDir, "authserver.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	now := time.Now()
	long := now.Add(-60 * 24 * time.Hour)
	user, err := tx.PrepareContext(ctx, `-- name: bench.user
		INSERT INTO users (id, email, email_key, created_at) VALUES (?, ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	session, err := tx.PrepareContext(ctx, `-- name: bench.session
		INSERT INTO sessions (id, user_id, kind, client, created_at, absolute_end) VALUES (?, ?, 'browser', ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	family, err := tx.PrepareContext(ctx, `-- name: bench.family
		INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr, binding, transport,
			rotates, idle_ttl, born_at, absolute_end, user_agent, ip, sender, generation, head_key, head_born, used_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, '["pwd"]', '', 'body', 1, ?, ?, ?, ?, '127.0.0.1', ?, 1, ?, ?, ?)`)
	if err != nil {
		return nil, err
	}
	known := map[[16]byte]bool{}
	all := *f
	for n := range expired {
		all.ids = append(all.ids, md5.Sum(strconv.AppendInt(nil, int64(families+n+1), 10)))
	}
	for _, n := range rand.Perm(len(all.ids)) {
		bornAt := now
		if n >= families {
			bornAt = long
		}
		born, end := bornAt.UnixMicro(), bornAt.Add(sessionTTL).UnixMicro()
		holder, sid := [16]byte(all.userOf(n)), all.secretOf(n+len(all.ids)) // any other 16 bytes
		if !known[holder] {
			known[holder] = true
			address := hex.EncodeToString(holder[:]) + "@bench.example"
			if _, err := user.ExecContext(ctx, holder[:], address, address, long.UnixMicro()); err != nil {
				return nil, err
			}
		}
		if _, err := session.ExecContext(ctx, sid[:], holder[:], firstParty, born, end); err != nil {
			return nil, err
		}
		if _, err := family.ExecContext(ctx, all.ids[n][:], sid[:], holder[:], firstParty, all.hashOf(n), scope, `["`+issuer+`"]`, born,
			idleTTL.Microseconds(), born, end, userAgent, senderOf(userAgent), int(r.number), born, born); err != nil {
			return nil, err
		}
	}
	return f, tx.Commit()
}
