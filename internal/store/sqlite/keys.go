package sqlite

import (
	"context"
	"fmt"
	"time"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/revocation"
)

// Keys implements keys.Store.
type Keys struct{ db *DB }

// ReadRing implements keys.Store.
func (s Keys) ReadRing(ctx context.Context) (ring keys.StoredRing, err error) {
	err = s.db.snapshot(ctx, "keys.read", func(c *conn) error {
		if _, err := c.one(`-- name: keys.state
			SELECT ring_revision, master_id FROM server_state`, nil, func(r *row) {
			ring.Revision = r.integer()
			r.fill(ring.MasterID[:])
		}); err != nil {
			return err
		}
		return c.each(`-- name: keys.rows
			SELECT purpose, algorithm, number, kid, sealed, master_id, published_at, active_at, revoked_at, signs_for
			FROM keys ORDER BY purpose, algorithm, number`, nil,
			func(r *row) { ring.Keys = append(ring.Keys, scanKey(r)) })
	})
	ring.StoreNow = s.db.now()
	return ring, err
}

func scanKey(r *row) (k keys.StoredKey) {
	k.Purpose = keys.Purpose(r.text())
	k.Algorithm = keys.Algorithm(r.text())
	k.Number = int(r.integer())
	k.KID = r.text()
	k.Sealed = r.blob()
	r.fill(k.MasterID[:])
	k.PublishedAt = r.instant()
	k.ActiveAt = maybe(r.instant())
	k.RevokedAt = maybe(r.instant())
	k.SignsFor = r.duration()
	return k
}

func maybe(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func instant(t *time.Time) any {
	if t == nil {
		return nil
	}
	return *t
}

// sealed returns what the columns sealed and master_id hold.
func sealed(k keys.StoredKey) (material, master any) {
	if len(k.Sealed) == 0 {
		return nil, nil
	}
	return k.Sealed, k.MasterID[:]
}

// ChangeRing implements keys.Store.
func (s Keys) ChangeRing(ctx context.Context, c keys.Change) (revision int64, err error) {
	err = s.db.write(ctx, "keys.change", func(t *tx) error {
		moved, err := t.exec(`-- name: keys.move_revision
			UPDATE server_state SET ring_revision = ring_revision + 1,
				roots_revision = CASE WHEN ?2 THEN ring_revision + 1 ELSE roots_revision END
			WHERE ring_revision = ?1`, c.IfRevision, c.RevokesRoot())
		if err != nil {
			return err
		}
		if moved == 0 {
			if _, founded, err := t.facts(); err != nil || !founded {
				return firstOf(err, errNotFounded)
			}
			return keys.ErrRingChanged
		}
		revision = c.IfRevision + 1
		if err := t.changeKeys(c); err != nil {
			return err
		}
		if c.MasterID != nil {
			if _, err := t.exec(`-- name: keys.master
				UPDATE server_state SET master_id = ?`, c.MasterID[:]); err != nil {
				return err
			}
		}
		return t.addEvents(c.Audit...)
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// changeKeys writes the rows of a change. A row that is there against the
// decision, or missing, says that the decision was taken on another ring.
func (t *tx) changeKeys(c keys.Change) error {
	for _, k := range c.Forget {
		n, err := t.exec(`-- name: keys.forget
			DELETE FROM keys WHERE purpose = ? AND algorithm = ? AND number = ?`,
			string(k.Purpose), string(k.Algorithm), k.Number)
		if err := oneRow(n, err, "forget", k); err != nil {
			return err
		}
	}
	if err := t.tellRevoked(c.Update); err != nil {
		return err
	}
	for _, k := range c.Update {
		material, master := sealed(k)
		n, err := t.exec(`-- name: keys.update
			UPDATE keys SET sealed = ?, master_id = ?, active_at = ?, revoked_at = ?, signs_for = ?, published_at = min(published_at, ?)
			WHERE purpose = ? AND algorithm = ? AND number = ?`,
			material, master, instant(k.ActiveAt), instant(k.RevokedAt), k.SignsFor, k.PublishedAt,
			string(k.Purpose), string(k.Algorithm), k.Number)
		if err := oneRow(n, err, "update", k.Name()); err != nil {
			return err
		}
	}
	for _, k := range c.Insert {
		material, master := sealed(k)
		n, err := t.exec(`-- name: keys.insert
			INSERT INTO keys (purpose, algorithm, number, kid, sealed, master_id, published_at, active_at, revoked_at, signs_for)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO NOTHING`,
			string(k.Purpose), string(k.Algorithm), k.Number, k.KID, material, master,
			k.PublishedAt, instant(k.ActiveAt), instant(k.RevokedAt), k.SignsFor)
		if err := oneRow(n, err, "insert", k.Name()); err != nil {
			return err
		}
	}
	return nil
}

// tellRevoked adds to the feed what the change revokes: a signing key by its
// kid, and for refresh root keys everybody, because nobody knows whose tokens
// were made under one.
func (t *tx) tellRevoked(update []keys.StoredKey) error {
	for _, k := range update {
		if k.RevokedAt == nil {
			continue
		}
		stands := false
		if _, err := t.one(`-- name: keys.not_yet_revoked
			SELECT 1 FROM keys WHERE kid = ? AND revoked_at IS NULL`, []any{k.KID}, func(*row) { stands = true }); err != nil {
			return err
		}
		var err error
		switch {
		case !stands:
		case k.Purpose == keys.Refresh:
			err = t.revokeAll(t.now)
		default:
			err = t.revoke(revocation.Key, k.KID, revocation.NotBefore(t.now))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func oneRow(n int, err error, act string, k keys.KeyName) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", act, k, err)
	case n != 1:
		return fmt.Errorf("%s %s: %w", act, k, keys.ErrRingChanged)
	default:
		return nil
	}
}

// LiveRoots implements keys.Store.
func (s Keys) LiveRoots(ctx context.Context) (numbers []int, err error) {
	err = s.db.read(ctx, "keys.live_roots", func(c *conn) error {
		return c.each(`-- name: keys.live_roots
			SELECT DISTINCT head_key FROM families ORDER BY head_key`, nil,
			func(r *row) { numbers = append(numbers, int(r.integer())) })
	})
	return numbers, err
}

// HoldLease implements keys.Store.
func (s Keys) HoldLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	return Leases(s).Hold(ctx, name, holder, ttl)
}
