package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Sessions implements session.Store.
type Sessions struct{ db *DB }

// mostSessions caps one answer.
const mostSessions = 1000

// Standing implements session.Store.
func (s Sessions) Standing(ctx context.Context, sid id.Session, u id.User, p refresh.Policy) (st session.Standing, err error) {
	err = s.db.read(ctx, "session.standing", func(ctx context.Context, c *pgxpool.Conn) error {
		var absoluteEnd, created time.Time
		var ended, disabled, floor, idleEnd *time.Time
		err := c.QueryRow(ctx, `-- name: session.standing
			SELECT s.ended_at, s.absolute_end, s.created_at, u.disabled_at, u.email, u.created_at, u.roles, st.floor,
				(SELECT max(f.used_at + least(f.idle_ttl, $3::interval))
					FROM families f WHERE f.session_id = s.id AND f.ended_at IS NULL),
				COALESCE($4::timestamptz, now())
			FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN server_state st ON true
			WHERE s.id = $1 AND s.user_id = $2`,
			[16]byte(sid), [16]byte(u), p.IdleTTL, s.db.clock(),
		).Scan(&ended, &absoluteEnd, &created, &disabled, &st.Email, &st.UserCreatedAt, &st.Roles, &floor, &idleEnd, &st.Now)
		if errors.Is(err, pgx.ErrNoRows) {
			st = session.Standing{Why: refresh.ReasonNoFamily}
			st.Now, err = s.db.transactionNow(ctx, c)
			return err
		}
		switch {
		case err != nil:
			return err
		case ended != nil:
			st.Why = refresh.ReasonEnded
		case disabled != nil:
			st.Why = refresh.ReasonDisabled
		case created.Before(floorAt(floor)):
			st.Why = refresh.ReasonFloor
		case !st.Now.Before(absoluteEnd):
			st.Why = refresh.ReasonAbsolute
		case idleEnd == nil || !st.Now.Before(*idleEnd):
			st.Why = refresh.ReasonIdle
		}
		st.Alive = st.Why == ""
		return nil
	})
	return st, err
}

// Sessions implements session.Store.
func (s Sessions) Sessions(ctx context.Context, u id.User, p refresh.Policy, ended bool) ([]session.Session, error) {
	return s.list(ctx, "session.sessions", &u, nil, p, ended)
}

// Session implements session.Store.
func (s Sessions) Session(ctx context.Context, sid id.Session, p refresh.Policy) (*session.Session, error) {
	found, err := s.list(ctx, "session.session", nil, &sid, p, true)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// list reads the sessions of one user, or one session. What a device is called
// and when it was last seen is told by its family that was used last; a living
// session's idle end counts living families only.
func (s Sessions) list(ctx context.Context, name string, u *id.User, sid *id.Session, p refresh.Policy, ended bool) (found []session.Session, err error) {
	err = s.db.read(ctx, name, func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: session.list
			SELECT s.id, s.user_id, s.kind, s.client, s.device_name, COALESCE(f.user_agent, ''), COALESCE(f.ip, ''), s.created_at,
				COALESCE(f.used_at, s.created_at), least(f.idle_end, s.absolute_end), s.absolute_end, s.ended_at, s.end_reason
			FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN server_state st ON true
				LEFT JOIN LATERAL (
					SELECT max(used_at) AS used_at, max(used_at + least(idle_ttl, $3::interval)) AS idle_end,
						(array_agg(user_agent ORDER BY used_at DESC))[1] AS user_agent,
						(array_agg(ip ORDER BY used_at DESC))[1] AS ip
					FROM families WHERE session_id = s.id AND (ended_at IS NULL OR s.ended_at IS NOT NULL)) f ON true
			WHERE ($1::uuid IS NULL OR s.user_id = $1) AND ($2::uuid IS NULL OR s.id = $2)
				AND ($4 OR s.ended_at IS NULL AND u.disabled_at IS NULL
					AND (st.floor IS NULL OR s.created_at >= st.floor)
					AND least(f.idle_end, s.absolute_end) > COALESCE($5::timestamptz, now()))
			ORDER BY s.created_at DESC, s.id LIMIT $6`,
			idOrNil(u), idOrNil(sid), p.IdleTTL, ended, s.db.clock(), mostSessions)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanSession)
		return err
	})
	return found, err
}

func idOrNil[K ~[16]byte](i *K) *[16]byte {
	if i == nil {
		return nil
	}
	b := [16]byte(*i)
	return &b
}

func scanSession(row pgx.CollectableRow) (session.Session, error) {
	var (
		s      session.Session
		kind   string
		ended  *time.Time
		reason *string
	)
	err := row.Scan((*[16]byte)(&s.ID), (*[16]byte)(&s.User), &kind, &s.Client, &s.DeviceName, &s.UserAgent, &s.IP, &s.CreatedAt,
		&s.LastRefreshedAt, &s.IdleExpiresAt, &s.ExpiresAt, &ended, &reason)
	s.Kind, s.EndedAt, s.EndReason = session.Kind(kind), at(ended), reasonOf(reason)
	return s, err
}

// EndSessions implements session.Store.
func (s Sessions) EndSessions(ctx context.Context, e session.End) (ended int, err error) {
	err = s.db.write(ctx, "session.end", func(ctx context.Context, tx pgx.Tx) error {
		now, err := s.db.lockUser(ctx, tx, e.User)
		if err != nil {
			return err
		}
		ended, err = endFamilies(ctx, tx, now, ending{
			user: e.User, session: e.Session, except: exceptOf(e), reason: e.Reason, actor: e.Actor, requestID: e.RequestID,
		})
		return err
	})
	return ended, err
}

// exceptOf: Except means something only where no session is named.
func exceptOf(e session.End) id.Session {
	if e.Session.IsZero() {
		return e.Except
	}
	return id.Session{}
}

// lockUser takes one user's row, if it exists, and reads the clock afterwards.
func (db *DB) lockUser(ctx context.Context, tx pgx.Tx, u id.User) (now time.Time, err error) {
	var b pgx.Batch
	b.Queue(lockUsers, [][16]byte{u})
	b.Queue(wallNow, db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	err = tx.SendBatch(ctx, &b).Close()
	return now, err
}

// EndOldest implements session.Store. The question whether there are too many
// takes no lock; nearly always the answer is no.
func (s Sessions) EndOldest(ctx context.Context, u id.User, keep int, requestID string) (ended int, err error) {
	living := 0
	err = s.db.read(ctx, "session.count_of_user", func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, `-- name: session.count_of_user
			SELECT count(*) FROM (SELECT FROM sessions WHERE user_id = $1 AND ended_at IS NULL LIMIT $2) s`,
			[16]byte(u), keep+1).Scan(&living)
	})
	if err != nil || living <= keep {
		return 0, err
	}
	err = s.db.write(ctx, "session.end_oldest", func(ctx context.Context, tx pgx.Tx) error {
		now, err := s.db.lockUser(ctx, tx, u)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `-- name: session.oldest_families
			SELECT f.id FROM families f
			WHERE f.ended_at IS NULL AND f.session_id IN (
				SELECT s.id FROM sessions s WHERE s.user_id = $1 AND s.ended_at IS NULL
				ORDER BY s.created_at DESC, s.id OFFSET $2 LIMIT 500)`, [16]byte(u), keep)
		if err != nil {
			return err
		}
		families, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		if err != nil {
			return err
		}
		_, ended, err = endListed(ctx, tx, now, [][16]byte{u}, families, ending{
			reason: refresh.EndedByLimit, actor: audit.BySystem, requestID: requestID,
		})
		return err
	})
	return ended, err
}

// RaiseFloor implements session.Store. The same instant again tells the feed again: that of
// a version without one may have gone unheard. The feed is told twice: with the floor,
// and once more when it is readable, because what was answered beside this
// transaction may be dated until its commit. Within one second the second is
// nothing.
func (s Sessions) RaiseFloor(ctx context.Context, before time.Time, actor, requestID string) (floor time.Time, err error) {
	raised := false
	err = s.db.write(ctx, "session.raise_floor", func(ctx context.Context, tx pgx.Tx) error {
		before = before.UTC().Truncate(time.Microsecond)
		var b pgx.Batch
		var now time.Time
		b.Queue(`-- name: session.hold_floor
			SELECT floor <= $1 FROM server_state FOR UPDATE`, before).QueryRow(func(row pgx.Row) error { return row.Scan(&raised) })
		b.Queue(wallNow, s.db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
		b.Queue(`-- name: session.raise_floor
			UPDATE server_state SET floor = greatest(floor, $1) RETURNING floor`, before).QueryRow(func(row pgx.Row) error { return row.Scan(&floor) })
		err := tx.SendBatch(ctx, &b).Close()
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFounded
		}
		if err != nil {
			return err
		}
		if !raised {
			return errNothing
		}
		if err := s.revokeAll(ctx, tx, now); err != nil {
			return err
		}
		return addEvents(ctx, tx, now, audit.Event{
			Kind: audit.SessionsFloor, Actor: actor, RequestID: requestID,
			Details: map[string]string{"before": floor.Format(time.RFC3339Nano)},
		})
	})
	if err == nil && raised {
		err = s.db.write(ctx, "session.settle_floor", func(ctx context.Context, tx pgx.Tx) error {
			var now time.Time
			if err := tx.QueryRow(ctx, wallNow, s.db.clock()).Scan(&now); err != nil {
				return err
			}
			return s.revokeAll(ctx, tx, now)
		})
		if err != nil {
			err = fmt.Errorf("%w: %w", session.ErrUnsettled, err)
		}
	}
	return floorAt(&floor), err
}

func (Sessions) revokeAll(ctx context.Context, tx pgx.Tx, now time.Time) error {
	var b pgx.Batch
	queueRevokeAll(&b, now)
	return tx.SendBatch(ctx, &b).Close()
}

var errNotFounded = fmt.Errorf("the store was never founded: it has no issuer and no master key yet")

// CountLiving implements session.Store.
func (s Sessions) CountLiving(ctx context.Context, p refresh.Policy) (n int, err error) {
	err = s.db.readWithin(ctx, "session.count_living", scanPatience, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, `-- name: session.count_living
			SELECT count(DISTINCT f.session_id)
			FROM families f JOIN sessions s ON s.id = f.session_id JOIN users u ON u.id = f.user_id
				LEFT JOIN server_state st ON true, (SELECT COALESCE($2::timestamptz, now()) AS now) c
			WHERE f.ended_at IS NULL AND f.absolute_end > c.now AND f.used_at + least(f.idle_ttl, $1::interval) > c.now
				AND s.ended_at IS NULL AND s.absolute_end > c.now AND u.disabled_at IS NULL
				AND (st.floor IS NULL OR s.created_at >= st.floor)`, p.IdleTTL, s.db.clock()).Scan(&n)
	})
	return n, err
}

// scanPatience bounds what reads a whole table.
const scanPatience = 10 * time.Minute

// Families implements session.Store.
func (s Sessions) Families(ctx context.Context, sid id.Session) ([]refresh.Family, error) {
	return s.families(ctx, "session.families", patience, selectFamilies+`
		WHERE f.session_id = $2 ORDER BY f.born_at, f.id`, [16]byte(sid))
}

// ByRequest implements session.Store. No index leads there: an index on what an
// end writes would be one more to keep for every row.
func (s Sessions) ByRequest(ctx context.Context, requestID string) ([]refresh.Family, error) {
	if requestID == "" {
		return nil, nil
	}
	return s.families(ctx, "session.by_request", scanPatience, selectFamilies+`
		WHERE f.end_request = $2 OR f.refused_request = $2 ORDER BY f.born_at, f.id LIMIT 100`, clean(requestID))
}

func (s Sessions) families(ctx context.Context, name string, bound time.Duration, query string, arg any) (found []refresh.Family, err error) {
	err = s.db.readWithin(ctx, name, bound, func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, query, s.db.clock(), arg)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (refresh.Family, error) {
			r, err := scanFamily(row)
			if err != nil {
				return refresh.Family{}, err
			}
			return *r.family, nil
		})
		return err
	})
	return found, err
}
