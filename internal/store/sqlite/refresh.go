package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// Families implements refresh.Store.
type Families struct{ db *DB }

// BatchLimits implements refresh.Store. There is one writer, so one batch is
// under way at a time. Beyond 64 members the rows take the time and not the
// commit: larger batches rotate no more tokens a second, each one later.
func (Families) BatchLimits() refresh.BatchLimits { return refresh.BatchLimits{Size: 64, InFlight: 1} }

// selectFamily reads families with what is read along.
const selectFamily = `
		SELECT f.id, f.session_id, f.user_id, f.client, f.secret_hash, f.scope, f.audience, f.auth_time, f.amr,
			f.binding, f.transport, f.rotates, f.remembered, f.idle_ttl, f.born_at, f.absolute_end,
			f.user_agent, f.ip, f.sender, f.generation, f.head_key, f.foreign_streak, f.foreign_seen, f.key_fresh,
			f.head_born, f.used_at, f.retry_key, f.late_at,
			f.ended_at, f.end_reason, f.end_request, f.refused_at, f.refused_as, f.refused_request,
			u.disabled_at IS NOT NULL, u.roles, coalesce(s.floor, 0),
			nullif(max(coalesce(u.tokens_from, 0), coalesce(s.tokens_from, 0)), 0), f.status_index
		FROM families f JOIN users u ON u.id = f.user_id LEFT JOIN server_state s `

// family reads one family; nil when there is none.
func (c *conn) family(fid id.Family) (*refresh.Family, error) {
	var f refresh.Family
	found, err := c.one(`-- name: refresh.family`+selectFamily+`
		WHERE f.id = ?`, []any{fid}, func(r *row) { scanFamily(r, &f) })
	if err != nil || !found {
		return nil, err
	}
	return &f, nil
}

func scanFamily(r *row, f *refresh.Family) {
	r.fill(f.ID[:])
	r.fill(f.Session[:])
	r.fill(f.User[:])
	f.Client = r.text()
	r.fill(f.SecretHash[:])
	f.Scope = r.text()
	f.Audience = r.list()
	f.AuthTime = r.instant()
	f.AMR = r.list()
	f.Binding = refresh.Binding(r.text())
	f.Transport = refresh.Transport(r.text())
	f.Rotates = r.boolean()
	f.Remembered = r.boolean()
	f.IdleTTL = r.duration()
	f.BornAt = r.instant()
	f.AbsoluteEnd = r.instant()

	f.UserAgent = r.text()
	f.IP = r.text()
	r.fill(f.Sender[:])
	f.Generation = int32(r.integer())
	f.HeadKey = uint8(r.integer())
	f.ForeignStreak = int16(r.integer())
	f.ForeignSeen = r.boolean()
	f.KeyFresh = r.boolean()
	f.HeadBorn = r.instant()
	f.UsedAt = r.instant()
	r.fill(f.RetryKey[:])
	f.LateAt = r.instant()

	f.EndedAt = r.instant()
	f.EndReason = refresh.EndReason(r.text())
	f.EndRequest = r.text()
	f.RefusedAt = r.instant()
	f.RefusedAs = refresh.Reason(r.text())
	f.RefusedRequest = r.text()

	f.Disabled = r.boolean()
	f.Roles = r.list()
	f.Floor = r.instant()
	f.TokensFrom = r.instant()
	f.StatusIndex = r.integer()
}

// RotateBatch implements refresh.Store. With the write lock held nothing moves
// between a read and the write, so the condition is not a copy of row 6 in SQL
// but Judge itself, and so is the effect. This is also faster than one UPDATE
// with the condition and RETURNING: 36 returned columns cost more than a second
// prepared statement.
func (s Families) RotateBatch(ctx context.Context, batch []refresh.Call) ([]*refresh.Outcome, error) {
	outcomes := make([]*refresh.Outcome, len(batch))
	err := s.db.write(ctx, "refresh.rotate", func(t *tx) error {
		var revoked int64
		_, err := t.one(`-- name: refresh.roots_revision
			SELECT roots_revision FROM server_state`, nil, func(r *row) { revoked = r.integer() })
		if err != nil {
			return err
		}
		rotated := 0
		for i, call := range batch {
			if call.Keys > 0 && call.Keys < revoked {
				continue
			}
			f, err := t.family(call.Attempt.Family)
			if err != nil && code(err) == 0 {
				continue // SQLite read it, but a value in it is none: the trouble of this one alone
			}
			if err != nil {
				return err
			}
			out := refresh.Judge(f, call.Attempt, t.now, call.Policy)
			if out.Row != 6 {
				continue
			}
			if err := t.writeMoving(&out.Next); err != nil {
				return fmt.Errorf("family %s: %w", out.Next.ID, err)
			}
			outcomes[i] = &out
			rotated++
		}
		if rotated == 0 {
			return errNothing
		}
		return nil
	})
	switch {
	case err == nil:
		return outcomes, nil
	case isRefusal(err):
		return nil, fmt.Errorf("%w: %w", refresh.ErrRefused, err)
	default:
		return nil, err
	}
}

// writeMoving writes what a verdict may move.
func (t *tx) writeMoving(n *refresh.Family) error {
	var retryKey any
	if n.RetryKey != (refresh.RetryKey{}) {
		retryKey = n.RetryKey[:]
	}
	_, err := t.exec(`-- name: refresh.write_moving
		UPDATE families SET user_agent = ?, ip = ?, sender = ?, generation = ?, head_key = ?,
			foreign_streak = ?, foreign_seen = ?, key_fresh = ?, head_born = ?, used_at = ?,
			retry_key = ?, late_at = ?, refused_at = ?, refused_as = ?, refused_request = ?
		WHERE id = ?`,
		n.UserAgent, n.IP, n.Sender[:], n.Generation, n.HeadKey,
		n.ForeignStreak, n.ForeignSeen, n.KeyFresh, n.HeadBorn, n.UsedAt,
		retryKey, n.LateAt, n.RefusedAt, textOrNull(string(n.RefusedAs)), textOrNull(n.RefusedRequest), n.ID)
	return err
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Redeem implements refresh.Store.
func (s Families) Redeem(ctx context.Context, c refresh.Call, wait time.Duration) (refresh.Outcome, error) {
	f, revision, now, err := s.read(ctx, c.Attempt.Family)
	if err != nil {
		return refresh.Outcome{}, err
	}
	if c.Stale(revision) {
		return refresh.Outcome{}, refresh.ErrStaleKeys
	}
	out := refresh.Judge(f, c.Attempt, now, c.Policy)
	if !out.LeavesTrace(c) {
		return out, nil
	}
	err = s.db.writeWithin(ctx, "refresh.settle", wait, func(t *tx) error {
		revision, err := t.revision()
		if err != nil {
			return err
		}
		if c.Stale(revision) { // a root key may have been revoked while this waited
			return refresh.ErrStaleKeys
		}
		f, err := t.family(c.Attempt.Family)
		if err != nil {
			return err
		}
		out = refresh.Judge(f, c.Attempt, t.now, c.Policy)
		if !out.LeavesTrace(c) {
			return errNothing
		}
		if out.Writes {
			if err := t.writeMoving(&out.Next); err != nil {
				return err
			}
		}
		if err := t.addEvents(out.AuditEvents(f, c.Attempt)...); err != nil {
			return err
		}
		if out.Ends {
			_, _, err = endFamilies(t, ending{
				user: f.User, families: []id.Family{f.ID},
				reason: refresh.EndedByReuse, actor: audit.BySystem, requestID: c.Attempt.RequestID,
			})
		}
		return err
	})
	switch {
	case err == nil:
		return out, nil
	case isBusy(err):
		return refresh.Outcome{}, fmt.Errorf("%w: %w", refresh.ErrLocked, err)
	default:
		return refresh.Outcome{}, err
	}
}

// Family implements refresh.Store.
func (s Families) Family(ctx context.Context, fid id.Family) (f *refresh.Family, now time.Time, err error) {
	f, _, now, err = s.read(ctx, fid)
	return f, now, err
}

// read reads a family, and after it the revision of the keys: of those that changed in
// between it is to hear.
func (s Families) read(ctx context.Context, fid id.Family) (f *refresh.Family, revision int64, now time.Time, err error) {
	err = s.db.read(ctx, "refresh.read", func(c *conn) error {
		var err error
		if f, err = c.family(fid); err != nil {
			return err
		}
		now = s.db.now()
		revision, err = c.revision()
		return err
	})
	return f, revision, now, err
}

// revision reads the revision of the keys.
func (c *conn) revision() (revision int64, err error) {
	_, err = c.one(`-- name: refresh.revision
		SELECT ring_revision FROM server_state`, nil, func(r *row) { revision = r.integer() })
	return revision, err
}

const (
	// sweepRows is how many rows of the table one Sweep looks at.
	sweepRows = 1000
	// sweepDead asks whether a family was over before an instant, the second
	// parameter; the first is the idle TTL of today's policy.
	sweepDead = `coalesce(ended_at, min(used_at + min(idle_ttl, ?1), absolute_end)) < ?2`
)

// Sweep implements refresh.Store. A place is a rowid. It chooses by reading,
// beside the writer, and asks again when it deletes: a token may have come back
// meanwhile.
//
// It deletes one family at a time, whatever the limit: a family has its places in
// half a dozen indexes, pages all over the file, so that two in one turn of the
// writer save nothing and keep others waiting for twice as long.
func (s Families) Sweep(ctx context.Context, from refresh.Place, limit int, p refresh.Policy, before time.Time) (next refresh.Place, deleted int, err error) {
	var family id.Family
	var sid id.Session
	var found bool
	err = s.db.read(ctx, "refresh.sweep", func(c *conn) error {
		if from == refresh.Anywhere {
			if from, err = anywhere(c); err != nil {
				return err
			}
		}
		// Rowids grow, and of the oldest there are none left: so rows are counted.
		found, err = c.one(`-- name: refresh.sweep_look
			SELECT id, session_id, place
			FROM (SELECT rowid AS place, id, session_id, ended_at, used_at, idle_ttl, absolute_end FROM families WHERE rowid > ?3 ORDER BY rowid LIMIT ?4)
			WHERE `+sweepDead+`
			LIMIT 1`, []any{p.IdleTTL, before, int64(from), sweepRows}, func(r *row) {
			r.fill(family[:])
			r.fill(sid[:])
			next = refresh.Place(r.integer())
		})
		if err != nil || found {
			return err
		}
		next = refresh.Edge
		_, err = c.one(`-- name: refresh.sweep_end
			SELECT rowid FROM families WHERE rowid > ? ORDER BY rowid LIMIT 1 OFFSET ?`,
			[]any{int64(from), sweepRows - 1}, func(r *row) { next = refresh.Place(r.integer()) })
		return err
	})
	if err != nil {
		return from, 0, err
	}
	if !found || limit < 1 {
		return next, 0, nil
	}
	err = s.db.write(ctx, "refresh.sweep", func(t *tx) error {
		deleted, err = t.exec(`-- name: refresh.sweep_family
			DELETE FROM families
			WHERE id = ?3 AND `+sweepDead, p.IdleTTL, before, family)
		if err != nil || deleted == 0 {
			return err
		}
		_, err = t.exec(`-- name: refresh.sweep_session
			DELETE FROM sessions
			WHERE id = ? AND NOT EXISTS (SELECT 1 FROM families WHERE session_id = sessions.id)`, sid)
		return err
	})
	if err != nil {
		return next, 0, err
	}
	return next, deleted, nil
}

// anywhere is a random place between the first row and the last.
func anywhere(c *conn) (refresh.Place, error) {
	first, last := int64(1), int64(1)
	_, err := c.one(`-- name: refresh.sweep_ends
		SELECT (SELECT min(rowid) FROM families), (SELECT max(rowid) FROM families)
		WHERE EXISTS (SELECT 1 FROM families)`, nil, func(r *row) { first, last = r.integer(), r.integer() })
	return refresh.Place(first - 1 + rand.Int64N(last-first+1)), err
}
