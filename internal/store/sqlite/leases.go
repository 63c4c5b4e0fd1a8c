package sqlite

import (
	"context"
	"time"
)

// Leases implements store.Leases.
type Leases struct{ db *DB }

// Hold implements store.Leases.
func (s Leases) Hold(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = s.db.write(ctx, "lease.hold", func(t *tx) error {
		n, err := t.exec(`-- name: lease.hold
			INSERT INTO leases (name, holder, until) VALUES (?1, ?2, ?3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
				WHERE leases.holder = excluded.holder OR leases.until NOT BETWEEN ?4 + 1 AND ?5`,
			name, holder, t.now.Add(ttl), t.now, t.now.Add(2*ttl))
		held = n > 0
		if err == nil && !held {
			return errNothing
		}
		return err
	})
	return held && err == nil, err
}

// Release implements store.Leases.
func (s Leases) Release(ctx context.Context, name, holder string) error {
	return s.db.write(ctx, "lease.release", func(t *tx) error {
		_, err := t.exec(`-- name: lease.release
			DELETE FROM leases WHERE name = ? AND holder = ?`, name, holder)
		return err
	})
}

// Until implements store.Leases.
func (s Leases) Until(ctx context.Context, name string) (until time.Time, err error) {
	err = s.db.read(ctx, "lease.until", func(c *conn) error {
		_, err := c.one(`-- name: lease.until
			SELECT until FROM leases WHERE name = ?`, []any{name}, func(r *row) { until = r.instant() })
		return err
	})
	return until, err
}
