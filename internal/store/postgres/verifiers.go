package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/keys"
)

// Verifiers implements keys.VerifierStore.
type Verifiers struct{ db *DB }

// RecordVerifiers implements keys.VerifierStore. The rows are written in the
// order of their keys, so that two nodes wait for each other and never both.
func (s Verifiers) RecordVerifiers(ctx context.Context, list []keys.Verifier) error {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b keys.Verifier) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.UserAgent, b.UserAgent))
	})
	return s.db.write(ctx, "verifiers.record", func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		for _, v := range list {
			b.Queue(`-- name: verifiers.record
				INSERT INTO verifiers AS old (network, user_agent, etag, set_at, first_at, fetched_at)
				VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (network, user_agent) DO UPDATE SET
					first_at = least(old.first_at, excluded.first_at),
					etag = CASE WHEN excluded.fetched_at >= old.fetched_at THEN excluded.etag ELSE old.etag END,
					set_at = CASE WHEN excluded.fetched_at >= old.fetched_at THEN excluded.set_at ELSE old.set_at END,
					fetched_at = greatest(old.fetched_at, excluded.fetched_at)`,
				clean(v.Network), clean(v.UserAgent), clean(v.ETag), v.SetAt, v.FirstAt, v.FetchedAt)
		}
		return tx.SendBatch(ctx, &b).Close()
	})
}

// Verifiers implements keys.VerifierStore.
func (s Verifiers) Verifiers(ctx context.Context, limit int) (list []keys.Verifier, err error) {
	err = s.db.read(ctx, "verifiers.list", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: verifiers.list
			SELECT network, user_agent, etag, set_at, first_at, fetched_at FROM verifiers
			ORDER BY fetched_at DESC, network, user_agent LIMIT $1`, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v keys.Verifier, err error) {
			err = row.Scan(&v.Network, &v.UserAgent, &v.ETag, &v.SetAt, &v.FirstAt, &v.FetchedAt)
			return v, err
		})
		return err
	})
	return list, err
}

// SweepVerifiers implements keys.VerifierStore.
func (s Verifiers) SweepVerifiers(ctx context.Context, keep time.Duration, most, limit int) (deleted int, err error) {
	err = s.db.write(ctx, "verifiers.sweep", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `-- name: verifiers.sweep
			DELETE FROM verifiers WHERE (network, user_agent) IN (
				SELECT network, user_agent FROM verifiers
				WHERE fetched_at < COALESCE($1::timestamptz, now()) - $2::interval
					OR fetched_at < (SELECT fetched_at FROM verifiers ORDER BY fetched_at DESC OFFSET $3 - 1 LIMIT 1)
				ORDER BY fetched_at LIMIT $4 FOR UPDATE SKIP LOCKED)`, s.db.clock(), keep, most, limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}
