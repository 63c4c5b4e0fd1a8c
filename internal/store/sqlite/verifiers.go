package sqlite

import (
	"context"
	"time"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/store"
)

// Verifiers implements keys.VerifierStore.
type Verifiers struct{ db *DB }

// RecordVerifiers implements keys.VerifierStore.
func (s Verifiers) RecordVerifiers(ctx context.Context, list []keys.Verifier) error {
	if len(list) == 0 {
		return nil
	}
	return s.db.write(ctx, "verifiers.record", func(t *tx) error {
		for _, v := range list {
			if _, err := t.exec(`-- name: verifiers.record
				INSERT INTO verifiers (network, user_agent, etag, set_at, first_at, fetched_at)
				VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (network, user_agent) DO UPDATE SET
					first_at = min(first_at, excluded.first_at),
					etag = iif(excluded.fetched_at >= fetched_at, excluded.etag, etag),
					set_at = iif(excluded.fetched_at >= fetched_at, excluded.set_at, set_at),
					fetched_at = max(fetched_at, excluded.fetched_at)`,
				v.Network, v.UserAgent, v.ETag, v.SetAt, v.FirstAt, v.FetchedAt); err != nil {
				return err
			}
		}
		return nil
	})
}

// Verifiers implements keys.VerifierStore.
func (s Verifiers) Verifiers(ctx context.Context, limit int) (list []keys.Verifier, err error) {
	err = s.db.read(ctx, "verifiers.list", func(c *conn) error {
		return c.each(`-- name: verifiers.list
			SELECT network, user_agent, etag, set_at, first_at, fetched_at FROM verifiers
			ORDER BY fetched_at DESC, network, user_agent LIMIT ?`, []any{limit},
			func(r *row) {
				list = append(list, keys.Verifier{
					Network: r.text(), UserAgent: r.text(), ETag: r.text(),
					SetAt: r.instant(), FirstAt: r.instant(), FetchedAt: r.instant(),
				})
			})
	})
	return list, err
}

// SweepVerifiers implements keys.VerifierStore.
func (s Verifiers) SweepVerifiers(ctx context.Context, keep time.Duration, most, limit int) (deleted int, err error) {
	err = s.db.write(ctx, "verifiers.sweep", func(t *tx) error {
		deleted, err = t.exec(`-- name: verifiers.sweep
			DELETE FROM verifiers WHERE (network, user_agent) IN (
				SELECT network, user_agent FROM verifiers
				WHERE fetched_at < ? OR fetched_at < (SELECT fetched_at FROM verifiers ORDER BY fetched_at DESC LIMIT 1 OFFSET ?)
				ORDER BY fetched_at LIMIT ?)`, t.now.Add(-keep), most-1, min(limit, store.SweepPiece))
		if err == nil && deleted == 0 {
			return errNothing
		}
		return err
	})
	return deleted, err
}
