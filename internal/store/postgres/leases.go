package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Leases implements store.Leases.
type Leases struct{ db *DB }

// Hold implements store.Leases.
func (s Leases) Hold(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = s.db.write(ctx, "leases.hold", func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `-- name: leases.hold
			INSERT INTO leases (name, holder, until) VALUES ($1, $2, COALESCE($3::timestamptz, now()) + $4::interval)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
				WHERE leases.holder = excluded.holder OR leases.until <= COALESCE($3::timestamptz, now())
					OR leases.until > COALESCE($3::timestamptz, now()) + 2 * $4::interval
			RETURNING true`, name, holder, s.db.clock(), ttl).Scan(&held)
		if errors.Is(err, pgx.ErrNoRows) {
			held = false
			return errNothing
		}
		return err
	})
	return held && err == nil, err
}

// Release implements store.Leases.
func (s Leases) Release(ctx context.Context, name, holder string) error {
	return s.db.write(ctx, "leases.release", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `-- name: leases.release
			DELETE FROM leases WHERE name = $1 AND holder = $2`, name, holder)
		return err
	})
}

// Until implements store.Leases.
func (s Leases) Until(ctx context.Context, name string) (until time.Time, err error) {
	err = s.db.read(ctx, "leases.until", func(ctx context.Context, c *pgxpool.Conn) error {
		err := c.QueryRow(ctx, `-- name: leases.until
			SELECT until FROM leases WHERE name = $1`, name).Scan(&until)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return until, err
}
