package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/revocation"
)

// Keys implements keys.Store.
type Keys struct{ db *DB }

// ReadRing implements keys.Store: one statement, so that revision and rows are
// of one instant.
func (s Keys) ReadRing(ctx context.Context) (ring keys.StoredRing, err error) {
	err = s.db.read(ctx, "keys.read_ring", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: keys.read_ring
			SELECT COALESCE(s.ring_revision, 0), s.master_id, COALESCE($1::timestamptz, now()),
				k.purpose, k.algorithm, k.number, k.kid, k.sealed, k.master_id, k.published_at, k.active_at, k.revoked_at, k.signs_for
			FROM (SELECT) one LEFT JOIN server_state s ON true LEFT JOIN keys k ON true
			ORDER BY k.purpose, k.algorithm, k.number`, s.db.clock())
		if err != nil {
			return err
		}
		defer rows.Close()
		ring = keys.StoredRing{}
		for rows.Next() {
			if err := scanRing(rows, &ring); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return ring, err
}

func scanRing(rows pgx.Rows, ring *keys.StoredRing) error {
	var (
		k                       keys.StoredKey
		storeMaster, master     []byte
		purpose, algorithm, kid *string
		number                  *int
		published               *time.Time
		signsFor                *time.Duration
	)
	err := rows.Scan(&ring.Revision, &storeMaster, &ring.StoreNow,
		&purpose, &algorithm, &number, &kid, &k.Sealed, &master, &published, &k.ActiveAt, &k.RevokedAt, &signsFor)
	copy(ring.MasterID[:], storeMaster)
	if err != nil || purpose == nil {
		return err
	}
	k.Purpose, k.Algorithm, k.Number, k.KID = keys.Purpose(*purpose), keys.Algorithm(*algorithm), *number, *kid
	k.PublishedAt, k.SignsFor = *published, *signsFor
	copy(k.MasterID[:], master)
	ring.Keys = append(ring.Keys, k)
	return nil
}

// ChangeRing implements keys.Store.
func (s Keys) ChangeRing(ctx context.Context, c keys.Change) (revision int64, err error) {
	err = s.db.write(ctx, "keys.change_ring", func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(`-- name: keys.hold_ring
			SELECT ring_revision FROM server_state FOR UPDATE`).QueryRow(func(row pgx.Row) error { return row.Scan(&revision) })
		var now time.Time
		b.Queue(wallNow, s.db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
		err := tx.SendBatch(ctx, &b).Close()
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errNotFounded
		case err != nil:
			return err
		case revision != c.IfRevision:
			return keys.ErrRingChanged
		}
		revision++
		return s.applyChange(ctx, tx, c, now)
	})
	if codeOf(err) == uniqueViolation {
		err = fmt.Errorf("%w: %w", keys.ErrRingChanged, err)
	}
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// applyChange writes the rows; the ring is locked.
func (s Keys) applyChange(ctx context.Context, tx pgx.Tx, c keys.Change, now time.Time) error {
	var master []byte
	if c.MasterID != nil {
		master = c.MasterID[:]
	}
	var b pgx.Batch
	met := make([]int, len(c.Forget)+len(c.Update))
	for i, n := range c.Forget {
		b.Queue(`-- name: keys.forget
			DELETE FROM keys WHERE purpose = $1 AND algorithm = $2 AND number = $3`,
			string(n.Purpose), string(n.Algorithm), n.Number).Exec(count(&met[i]))
	}
	if err := s.tellRevoked(ctx, tx, c.Update, now); err != nil {
		return err
	}
	for i, k := range c.Update {
		b.Queue(`-- name: keys.update
			UPDATE keys SET sealed = $4, master_id = $5, active_at = $6, revoked_at = $7, signs_for = $8, published_at = least(published_at, $9)
			WHERE purpose = $1 AND algorithm = $2 AND number = $3`,
			string(k.Purpose), string(k.Algorithm), k.Number,
			sealedOf(k), masterOf(k), k.ActiveAt, k.RevokedAt, k.SignsFor, k.PublishedAt).Exec(count(&met[len(c.Forget)+i]))
	}
	for _, k := range c.Insert {
		b.Queue(`-- name: keys.insert
			INSERT INTO keys (purpose, algorithm, number, kid, sealed, master_id, published_at, active_at, revoked_at, signs_for)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			string(k.Purpose), string(k.Algorithm), k.Number, k.KID,
			sealedOf(k), masterOf(k), k.PublishedAt, k.ActiveAt, k.RevokedAt, k.SignsFor)
	}
	b.Queue(`-- name: keys.move_revision
		UPDATE server_state SET ring_revision = ring_revision + 1, master_id = COALESCE($1, master_id),
			roots_revision = CASE WHEN $2 THEN ring_revision + 1 ELSE roots_revision END`, master, c.RevokesRoot())
	for _, e := range c.Audit {
		if err := queueEvent(&b, now, e); err != nil {
			return err
		}
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	for _, n := range met {
		if n != 1 {
			return fmt.Errorf("%w: a row of the change stands no more", keys.ErrRingChanged)
		}
	}
	return nil
}

// tellRevoked adds to the feed what the change revokes: a signing key by its
// kid, and for refresh root keys everybody, because nobody knows whose tokens
// were made under one.
func (s Keys) tellRevoked(ctx context.Context, tx pgx.Tx, update []keys.StoredKey, now time.Time) error {
	var kids []string
	for _, k := range update {
		if k.RevokedAt != nil {
			kids = append(kids, k.KID)
		}
	}
	if len(kids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `-- name: keys.not_yet_revoked
		SELECT kid, purpose FROM keys WHERE kid = ANY ($1) AND revoked_at IS NULL ORDER BY kid`, kids)
	if err != nil {
		return err
	}
	var b pgx.Batch
	var kid, purpose string
	roots := false
	_, err = pgx.ForEachRow(rows, []any{&kid, &purpose}, func() error {
		if keys.Purpose(purpose) == keys.Refresh {
			roots = true
		} else {
			queueRevocation(&b, revocation.Key, kid, revocation.NotBefore(now))
		}
		return nil
	})
	if roots {
		queueRevokeAll(&b, now)
	}
	if err != nil || b.Len() == 0 {
		return err
	}
	return tx.SendBatch(ctx, &b).Close()
}

// sealedOf and masterOf keep destroyed material as NULL.
func sealedOf(k keys.StoredKey) []byte {
	if len(k.Sealed) == 0 {
		return nil
	}
	return k.Sealed
}

func masterOf(k keys.StoredKey) []byte {
	if len(k.Sealed) == 0 {
		return nil
	}
	return k.MasterID[:]
}

// LiveRoots implements keys.Store.
func (s Keys) LiveRoots(ctx context.Context) (roots []int, err error) {
	err = s.db.scan(ctx, "keys.live_roots", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: keys.live_roots
			SELECT DISTINCT head_key::integer AS root FROM families ORDER BY root`)
		if err != nil {
			return err
		}
		roots, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	return roots, err
}

// HoldLease implements keys.Store.
func (s Keys) HoldLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	return Leases(s).Hold(ctx, name, holder, ttl)
}
