package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/store"
)

// auditStep is how many rows one statement looks at: short statements keep no
// row version alive that a rotation could otherwise reuse.
const auditStep = 20_000

// AuditSessions implements store.Engine. It reads chunk by chunk, so that acts
// which run meanwhile are seen before or after, never half; a quiet database
// has no violations and neither has a busy one.
func (db *DB) AuditSessions(ctx context.Context) (found []store.Violation, err error) {
	ring, err := db.Keys().ReadRing(ctx)
	if err != nil {
		return nil, err
	}
	found = store.AuditKeys(ring)
	for _, audit := range []func(context.Context, *pgxpool.Conn, [16]byte) (chunkOfAudit, error){db.auditFamilies, db.auditSessions, db.auditUsers} {
		var from [16]byte
		for over := false; !over; {
			err := db.readWithin(ctx, "audit_sessions.chunk", scanPatience, func(ctx context.Context, c *pgxpool.Conn) error {
				ch, err := audit(ctx, c, from)
				from, over = ch.last, ch.over
				found = append(found, ch.found...)
				return err
			})
			if err != nil {
				return found, err
			}
			if err := ctx.Err(); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

type chunkOfAudit struct {
	found []store.Violation
	last  [16]byte
	over  bool
}

// auditFamilies checks the family rows after the given id. The tag in the id
// is checked here, by the rule of package id; the rest by the database.
func (db *DB) auditFamilies(ctx context.Context, c *pgxpool.Conn, after [16]byte) (ch chunkOfAudit, err error) {
	rows, err := c.Query(ctx, `-- name: audit_sessions.tags
		SELECT id, user_id FROM families WHERE id > $1 ORDER BY id LIMIT $2`, after, auditStep)
	if err != nil {
		return ch, err
	}
	seen := 0
	ch.last = after
	var user [16]byte
	_, err = pgx.ForEachRow(rows, []any{&ch.last, &user}, func() error {
		seen++
		if tag := id.Tag(id.User(user)); tag != [2]byte(ch.last[:2]) {
			ch.found = append(ch.found, store.Violation{
				Invariant: "family_id_carries_user_tag", Subject: "family " + id.Family(ch.last).String(), Detail: "user " + id.User(user).String(),
			})
		}
		return nil
	})
	ch.over = seen < auditStep
	if err != nil || seen == 0 {
		return ch, err
	}
	rows, err = c.Query(ctx, `-- name: audit_sessions.families
		SELECT v.invariant, 'family ' || f.id, v.detail
		FROM families f LEFT JOIN sessions s ON s.id = f.session_id LEFT JOIN users u ON u.id = f.user_id
			LEFT JOIN server_state st ON true
			CROSS JOIN LATERAL (VALUES
				('family_has_session', s.id IS NULL, 'session ' || f.session_id),
				('family_has_user', u.id IS NULL, 'user ' || f.user_id),
				('family_and_session_have_one_user', s.user_id <> f.user_id, f.user_id || ' and ' || s.user_id),
				('ended_session_has_no_living_family', s.ended_at IS NOT NULL AND f.ended_at IS NULL, 'session ended at ' || s.ended_at),
				('disabled_user_has_no_living_family', u.disabled_at IS NOT NULL AND f.ended_at IS NULL, 'user disabled at ' || u.disabled_at),
				('family_knows_its_user', f.ended_at IS NULL AND (f.roles <> u.roles OR f.disabled AND u.disabled_at IS NULL
					OR f.roles IS NOT NULL AND u.tokens_from > COALESCE(f.tokens_from, '-infinity')),
					'roles ' || array_to_string(f.roles, ' ') || ' and not ' || array_to_string(u.roles, ' ')),
				('family_ends_within_session', f.absolute_end > s.absolute_end, f.absolute_end || ' after ' || s.absolute_end),
				('generation_from_one', f.generation < 1, f.generation::text),
				('ended_with_reason', (f.ended_at IS NULL) <> (f.end_reason IS NULL), f.end_reason),
				('refused_with_reason', (f.refused_at IS NULL) <> (f.refused_as IS NULL), f.refused_as),
				('fresh_key_is_kept', f.key_fresh AND f.retry_key IS NULL, NULL),
				('unbound_family_rotates', f.binding = '' AND NOT f.rotates, NULL),
				('streak_within_bounds', f.foreign_streak NOT BETWEEN 0 AND 2, f.foreign_streak::text),
				('head_used_after_birth', f.used_at < f.head_born, f.used_at || ' before ' || f.head_born),
				('head_born_after_family', f.head_born < f.born_at - $3::interval, f.head_born || ' before ' || f.born_at),
				('authenticated_before_birth', f.auth_time > f.born_at + $3::interval, f.auth_time || ' after ' || f.born_at),
				('ended_after_birth', f.ended_at < f.born_at - $3::interval, f.ended_at || ' before ' || f.born_at),
				('family_below_floor_has_ended', f.ended_at IS NULL AND f.born_at < st.floor_swept - $3::interval, f.born_at || ' before ' || st.floor_swept),
				('reused_family_has_ended', f.ended_at IS NULL AND EXISTS (
					SELECT FROM audit_events e WHERE e.family_id = f.id AND e.kind = 'refresh.reused'), NULL),
				('instants_lie_in_the_past', greatest(f.born_at, f.head_born, f.used_at, f.late_at, f.ended_at, f.refused_at)
					> COALESCE($4::timestamptz, now()) + $3::interval, 'at ' || greatest(f.born_at, f.head_born, f.used_at, f.late_at, f.ended_at, f.refused_at)),
				('head_key_is_known', f.ended_at IS NULL AND f.absolute_end > COALESCE($4::timestamptz, now())
					AND EXISTS (SELECT FROM keys k WHERE k.purpose = 'refresh')
					AND NOT EXISTS (SELECT FROM keys k WHERE k.purpose = 'refresh' AND k.number = f.head_key AND k.sealed IS NOT NULL),
					'root key ' || f.head_key)
			) AS v (invariant, broken, detail)
		WHERE f.id > $1 AND f.id <= $2 AND v.broken ORDER BY f.id`, after, ch.last, clockStep, db.clock())
	if ch, err = ch.collect(rows, err); err != nil {
		return ch, err
	}
	untold, err := db.untold(ctx, c, toldOfFamilies, after, ch.last)
	ch.found = append(ch.found, untold...)
	return ch, err
}

// clockStep is how far the store's clock may have stepped back between two
// writes of a row before the order of their instants counts as a violation: a
// failover to a machine with a wrong clock is trouble of another kind.
const clockStep = 24 * time.Hour

// auditSessions checks the session rows after the given id.
func (db *DB) auditSessions(ctx context.Context, c *pgxpool.Conn, after [16]byte) (ch chunkOfAudit, err error) {
	ch, err = nextChunk(ctx, c, `-- name: audit_sessions.ids
		SELECT id FROM sessions WHERE id > $1 ORDER BY id LIMIT $2`, after)
	if err != nil || ch.last == after {
		return ch, err
	}
	rows, err := c.Query(ctx, `-- name: audit_sessions.sessions
		SELECT v.invariant, 'session ' || s.id, v.detail
		FROM sessions s LEFT JOIN users u ON u.id = s.user_id
			LEFT JOIN LATERAL (SELECT count(*) AS n, count(*) FILTER (WHERE f.ended_at IS NULL) AS living
				FROM families f WHERE f.session_id = s.id) f ON true
			CROSS JOIN LATERAL (VALUES
				('session_has_user', u.id IS NULL, 'user ' || s.user_id),
				('session_has_family', f.n = 0, NULL),
				('living_session_has_living_family', s.ended_at IS NULL AND f.living = 0 AND f.n > 0, f.n || ' families, all ended'),
				('disabled_user_has_no_living_session', u.disabled_at IS NOT NULL AND s.ended_at IS NULL, 'user disabled at ' || u.disabled_at),
				('session_ended_with_reason', (s.ended_at IS NULL) <> (s.end_reason IS NULL), s.end_reason),
				('session_said_to_have_ended_has', s.ended_at IS NULL AND EXISTS (
					SELECT FROM audit_events e WHERE e.session_id = s.id AND e.kind = 'session.ended'), NULL),
				('session_ended_after_birth', s.ended_at < s.created_at - $3::interval, s.ended_at || ' before ' || s.created_at)
			) AS v (invariant, broken, detail)
		WHERE s.id > $1 AND s.id <= $2 AND v.broken ORDER BY s.id`, after, ch.last, clockStep)
	if ch, err = ch.collect(rows, err); err != nil {
		return ch, err
	}
	untold, err := db.untold(ctx, c, toldOfSessions, after, ch.last)
	ch.found = append(ch.found, untold...)
	return ch, err
}

// auditUsers looks for users after the given id who were disabled.
func (db *DB) auditUsers(ctx context.Context, c *pgxpool.Conn, after [16]byte) (ch chunkOfAudit, err error) {
	ch, err = nextChunk(ctx, c, `-- name: audit_sessions.users
		SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2`, after)
	if err != nil || ch.last == after {
		return ch, err
	}
	ch.found, err = db.untold(ctx, c, toldOfUsers, after, ch.last)
	return ch, err
}

// nextChunk finds where the chunk after the given id ends; that is after itself where no
// row is left.
func nextChunk(ctx context.Context, c *pgxpool.Conn, ids string, after [16]byte) (ch chunkOfAudit, err error) {
	rows, err := c.Query(ctx, ids, after, auditStep)
	if err != nil {
		return ch, err
	}
	seen := 0
	ch.last = after
	_, err = pgx.ForEachRow(rows, []any{&ch.last}, func() error { seen++; return nil })
	ch.over = seen < auditStep
	return ch, err
}

func (ch chunkOfAudit) collect(rows pgx.Rows, err error) (chunkOfAudit, error) {
	if err != nil {
		return ch, err
	}
	var v store.Violation
	var detail *string
	_, err = pgx.ForEachRow(rows, []any{&v.Invariant, &v.Subject, &detail}, func() error {
		v.Detail = text(detail)
		ch.found = append(ch.found, v)
		return nil
	})
	return ch, err
}
