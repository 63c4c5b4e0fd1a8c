package sqlite

import (
	"context"
	"fmt"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Sessions implements session.Store.
type Sessions struct{ db *DB }

// mostSessions caps the list of one user's sessions.
const mostSessions = 1000

// familyIdleEnd is the idle end of a family, bounded by its absolute end, with
// ?1 as today's policy. Its twin is refresh.Family.IdleEnd.
const familyIdleEnd = `min(f.used_at + min(f.idle_ttl, ?1), f.absolute_end)`

// Standing implements session.Store.
func (s Sessions) Standing(ctx context.Context, sid id.Session, uid id.User, p refresh.Policy) (st session.Standing, err error) {
	err = s.db.read(ctx, "session.standing", func(c *conn) error {
		var ended, disabled, born, absolute, idle, floor time.Time
		var families int64
		found, err := c.one(`-- name: session.standing
			SELECT s.ended_at, u.disabled_at, s.created_at, s.absolute_end,
				(SELECT max(`+familyIdleEnd+`) FROM families f WHERE f.session_id = s.id AND f.ended_at IS NULL),
				(SELECT count(*) FROM families f WHERE f.session_id = s.id AND f.ended_at IS NULL),
				coalesce((SELECT floor FROM server_state), 0), u.email, u.created_at, u.roles
			FROM sessions s JOIN users u ON u.id = s.user_id
			WHERE s.id = ?2 AND s.user_id = ?3`,
			[]any{p.IdleTTL, sid, uid}, func(r *row) {
				ended, disabled, born, absolute, idle = r.instant(), r.instant(), r.instant(), r.instant(), r.instant()
				families, floor = r.integer(), r.instant()
				st.Email, st.UserCreatedAt, st.Roles = r.text(), r.instant(), r.list()
			})
		st.Now = s.db.now()
		switch {
		case err != nil:
			return err
		case !found:
			st.Why = refresh.ReasonNoFamily
		case !ended.IsZero():
			st.Why = refresh.ReasonEnded
		case !disabled.IsZero():
			st.Why = refresh.ReasonDisabled
		case born.Before(floor):
			st.Why = refresh.ReasonFloor
		case !st.Now.Before(absolute):
			st.Why = refresh.ReasonAbsolute
		case families == 0:
			st.Why = refresh.ReasonNoFamily
		case !st.Now.Before(idle):
			st.Why = refresh.ReasonIdle
		default:
			st.Alive = true
		}
		return nil
	})
	return st, err
}

// selectSessions reads sessions with the traces of their last refresh. The idle
// end of a session that lives is the latest of its living families; of one that
// ended, of all of them.
const selectSessions = `
	SELECT s.id, s.user_id, s.kind, s.client, s.device_name, s.created_at, s.absolute_end, s.ended_at, s.end_reason,
		last.user_agent, last.ip, coalesce(last.used_at, s.created_at),
		coalesce((SELECT max(` + familyIdleEnd + `) FROM families f
			WHERE f.session_id = s.id AND (f.ended_at IS NULL OR s.ended_at IS NOT NULL)), s.created_at) AS idle_end
	FROM sessions s JOIN users u ON u.id = s.user_id
		LEFT JOIN families last ON last.id = (
			SELECT f.id FROM families f WHERE f.session_id = s.id ORDER BY f.used_at DESC, f.id LIMIT 1) `

// living is the condition on a row of selectSessions that it lives at ?2.
const living = `s.ended_at IS NULL AND u.disabled_at IS NULL AND s.absolute_end > ?2
	AND s.created_at >= coalesce((SELECT floor FROM server_state), 0)
	AND EXISTS (SELECT 1 FROM families f
		WHERE f.session_id = s.id AND f.ended_at IS NULL AND ` + familyIdleEnd + ` > ?2)`

func scanSession(r *row) (s session.Session) {
	r.fill(s.ID[:])
	r.fill(s.User[:])
	s.Kind = session.Kind(r.text())
	s.Client = r.text()
	s.DeviceName = r.text()
	s.CreatedAt = r.instant()
	s.ExpiresAt = r.instant()
	s.EndedAt = r.instant()
	s.EndReason = refresh.EndReason(r.text())
	s.UserAgent = r.text()
	s.IP = r.text()
	s.LastRefreshedAt = r.instant()
	s.IdleExpiresAt = r.instant()
	return s
}

// Sessions implements session.Store.
func (s Sessions) Sessions(ctx context.Context, u id.User, p refresh.Policy, ended bool) (list []session.Session, err error) {
	err = s.db.read(ctx, "session.list", func(c *conn) error {
		return c.each(`-- name: session.list`+selectSessions+`
			WHERE s.user_id = ?3 AND (?4 OR (`+living+`))
			ORDER BY s.created_at DESC, s.id LIMIT ?5`,
			[]any{p.IdleTTL, s.db.now(), u, ended, mostSessions},
			func(r *row) { list = append(list, scanSession(r)) })
	})
	return list, err
}

// Session implements session.Store.
func (s Sessions) Session(ctx context.Context, sid id.Session, p refresh.Policy) (found *session.Session, err error) {
	err = s.db.read(ctx, "session.one", func(c *conn) error {
		return c.each(`-- name: session.one`+selectSessions+`
			WHERE s.id = ?2`, []any{p.IdleTTL, sid}, func(r *row) {
			one := scanSession(r)
			found = &one
		})
	})
	return found, err
}

// Families implements session.Store.
func (s Sessions) Families(ctx context.Context, sid id.Session) ([]refresh.Family, error) {
	return s.families(ctx, "session.families", `-- name: session.families`+selectFamily+`
		WHERE f.session_id = ? ORDER BY f.born_at, f.id`, sid)
}

// ByRequest implements session.Store.
func (s Sessions) ByRequest(ctx context.Context, requestID string) ([]refresh.Family, error) {
	return s.families(ctx, "session.by_request", `-- name: session.by_request`+selectFamily+`
		WHERE f.end_request = ?1 OR f.refused_request = ?1 ORDER BY f.born_at, f.id LIMIT 100`, requestID)
}

func (s Sessions) families(ctx context.Context, name, statement string, argument any) (list []refresh.Family, err error) {
	err = s.db.read(ctx, name, func(c *conn) error {
		return c.each(statement, []any{argument}, func(r *row) {
			var f refresh.Family
			scanFamily(r, &f)
			list = append(list, f)
		})
	})
	return list, err
}

// EndSessions implements session.Store.
func (s Sessions) EndSessions(ctx context.Context, e session.End) (ended int, err error) {
	err = s.db.write(ctx, "session.end", func(t *tx) error {
		ended, _, err = endFamilies(t, ending{
			user: e.User, session: e.Session, except: e.Except,
			reason: e.Reason, actor: e.Actor, requestID: e.RequestID,
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// EndOldest implements session.Store. The question whether there are too many
// takes no lock; nearly always the answer is no.
func (s Sessions) EndOldest(ctx context.Context, u id.User, keep int, requestID string) (ended int, err error) {
	var living int64
	err = s.db.read(ctx, "session.count_of_user", func(c *conn) error {
		_, err := c.one(`-- name: session.count_of_user
			SELECT count(*) FROM (SELECT 1 FROM sessions WHERE user_id = ? AND ended_at IS NULL LIMIT ?)`,
			[]any{u, keep + 1}, func(r *row) { living = r.integer() })
		return err
	})
	if err != nil || living <= int64(keep) {
		return 0, err
	}
	err = s.db.write(ctx, "session.end_oldest", func(t *tx) error {
		families := []id.Family{}
		if err := t.each(`-- name: session.oldest_families
			SELECT id FROM families WHERE ended_at IS NULL AND session_id IN (
				SELECT id FROM sessions WHERE user_id = ? AND ended_at IS NULL
				ORDER BY created_at DESC, id LIMIT 500 OFFSET ?)`, []any{u, keep}, func(r *row) {
			var f id.Family
			r.fill(f[:])
			families = append(families, f)
		}); err != nil {
			return err
		}
		ended, _, err = endFamilies(t, ending{families: families, reason: refresh.EndedByLimit, actor: audit.BySystem, requestID: requestID})
		return err
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// RaiseFloor implements session.Store. The same instant again tells the feed again: that of
// a version without one may have gone unheard. The feed is told twice: with the floor,
// and once more when it is readable, because what was answered beside this
// transaction may be dated until its commit. Within one second the second is
// nothing.
func (s Sessions) RaiseFloor(ctx context.Context, before time.Time, actor, requestID string) (floor time.Time, err error) {
	before = micro(before)
	raised := 0
	err = s.db.write(ctx, "session.raise_floor", func(t *tx) error {
		raised, err = t.exec(`-- name: session.raise_floor
			UPDATE server_state SET floor = ?1 WHERE floor <= ?1`, before)
		if err != nil {
			return err
		}
		found, err := t.one(`-- name: session.floor
			SELECT floor FROM server_state`, nil, func(r *row) { floor = r.instant() })
		switch {
		case err != nil:
			return err
		case !found:
			return errNotFounded
		case raised == 0:
			return errNothing
		}
		if err := t.revokeAll(t.now); err != nil {
			return err
		}
		return t.addEvents(audit.Event{
			Kind: audit.SessionsFloor, Actor: actor, RequestID: requestID,
			Details: map[string]string{"before": floor.Format(time.RFC3339Nano)},
		})
	})
	if err == nil && raised > 0 {
		err = s.db.write(ctx, "session.settle_floor", func(t *tx) error { return t.revokeAll(t.now) })
		if err != nil {
			err = fmt.Errorf("%w: %w", session.ErrUnsettled, err)
		}
	}
	return floor, err
}

// EndBelowFloor implements session.Store.
func (s Sessions) EndBelowFloor(ctx context.Context, limit int) (ended int, err error) {
	var floor, swept time.Time
	begun := s.db.now()
	err = s.db.read(ctx, "session.floors", func(c *conn) error {
		_, err := c.one(`-- name: session.floors
			SELECT floor, floor_swept FROM server_state`, nil, func(r *row) { floor, swept = r.instant(), r.instant() })
		return err
	})
	if err != nil || !floor.After(swept) {
		return 0, err
	}
	ended, err = s.db.endChosen(ctx, "session.end_below_floor", `-- name: session.below_floor
		SELECT id FROM families
		WHERE id > ? AND ended_at IS NULL AND born_at < (SELECT floor FROM server_state)
		ORDER BY id LIMIT ?`, limit,
		ending{reason: refresh.EndedByFloor, actor: audit.BySystem, covered: true})
	if err != nil || ended > 0 || begun.Sub(floor) < session.FloorSettles {
		return ended, err
	}
	return 0, s.db.write(ctx, "session.floor_swept", func(t *tx) error {
		_, err := t.exec(`-- name: session.floor_swept
			UPDATE server_state SET floor_swept = ?1 WHERE floor_swept < ?1`, floor)
		return err
	})
}

// EndUnderRoot implements session.Store.
func (s Sessions) EndUnderRoot(ctx context.Context, number uint8, limit int, actor string) (int, error) {
	return s.db.endChosen(ctx, fmt.Sprintf("session.end_under_root_%d", number), `-- name: session.under_root
		SELECT id FROM families
		WHERE id > ? AND ended_at IS NULL AND head_key = ?
		ORDER BY id LIMIT ?`, limit,
		ending{reason: refresh.EndedByRootKey, actor: actor, headKey: number, covered: true})
}

// CountUnderRoot implements session.Store.
func (s Sessions) CountUnderRoot(ctx context.Context, number uint8) (int, error) {
	return s.count(ctx, "session.count_under_root", `-- name: session.count_under_root
		SELECT count(*) FROM families WHERE ended_at IS NULL AND head_key = ?`, number)
}

// CountLiving implements session.Store.
func (s Sessions) CountLiving(ctx context.Context, p refresh.Policy) (int, error) {
	return s.count(ctx, "session.count_living", `-- name: session.count_living
		SELECT count(*) FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE `+living, p.IdleTTL, s.db.now())
}

func (s Sessions) count(ctx context.Context, name, statement string, args ...any) (n int, err error) {
	err = s.db.read(ctx, name, func(c *conn) error {
		_, err := c.one(statement, args, func(r *row) { n = int(r.integer()) })
		return err
	})
	return n, err
}
