package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
)

// ending says what endFamilies ends and why.
type ending struct {
	user    id.User
	session id.Session // of the user's sessions this one alone; zero: all
	except  id.Session // of all sessions all but this one
	family  id.Family  // this family alone, and its session if that leaves it empty
	headKey int16      // only families whose head is under this root key; 0: whatever it is under
	// covered says that an entry for everybody is in the feed already: only what
	// was used after it gets one of its own, or in the second before it, because
	// another entry of that second may have dated its token ahead.
	covered bool

	reason    refresh.EndReason
	actor     string
	requestID string
}

// lockUsers takes user rows in id order. It conflicts with a birth, which
// holds the row FOR SHARE, and not with the foreign keys of other inserts.
const lockUsers = `-- name: ends.lock_users
	SELECT id FROM users WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE`

// endFamilies is the only way in which a session or a family ends. It locks the
// user's row and then the family rows in the order of their ids, writes the end
// into every one of them, ends the sessions, and adds an audit event and an
// entry of the revocation feed for each session. It returns how many sessions
// it ended; what had ended before keeps its reason.
//
// A rotation that runs at the same time either commits first, and its new token
// is refused from then on, or waits for the row and finds it ended.
func endFamilies(ctx context.Context, tx pgx.Tx, now time.Time, e ending) (sessions int, err error) {
	if e.user.IsZero() {
		return 0, fmt.Errorf("end sessions for %s: no user is named", e.reason)
	}
	if !e.family.IsZero() {
		_, sessions, err = endListed(ctx, tx, now, [][16]byte{e.user}, [][16]byte{e.family}, e)
		return sessions, err
	}
	e.requestID = clean(e.requestID)
	var families [][16]byte
	var b pgx.Batch
	b.Queue(lockUsers, [][16]byte{e.user})
	b.Queue(`-- name: ends.lock_families
		SELECT id FROM families
		WHERE user_id = $1 AND ended_at IS NULL
			AND ($2::uuid IS NULL OR session_id = $2) AND ($3::uuid IS NULL OR session_id <> $3)
		ORDER BY id FOR UPDATE`,
		[16]byte(e.user), nullID(e.session), nullID(e.except)).Query(func(rows pgx.Rows) error {
		families, err = pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		return err
	})
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return 0, fmt.Errorf("lock what ends: %w", err)
	}
	b = pgx.Batch{}
	queueFamilyEnds(&b, now, families, e)
	b.Queue(`-- name: ends.sessions
		WITH ended AS (
			UPDATE sessions SET ended_at = $4, end_reason = $5, end_request = $6
			WHERE user_id = $1 AND ended_at IS NULL
				AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR id <> $3)
			RETURNING id, user_id, status_index),
		told AS (
			INSERT INTO revocations (kind, subject, not_before, until, status_index)
			SELECT 'session', ended.id::text, $11::timestamptz, $11 + `+longestLife+`, ended.status_index FROM ended)
		INSERT INTO audit_events (id, at, kind, actor, user_id, session_id, request_id, details)
		SELECT gen_random_uuid(), $4, $7, $8, ended.user_id, ended.id, $9, $10 FROM ended`,
		[16]byte(e.user), nullID(e.session), nullID(e.except), now, string(e.reason), nullText(e.requestID),
		string(audit.SessionEnded), e.actor, e.requestID, because(e.reason), settled(now),
	).Exec(count(&sessions))
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return sessions, nil
}

// endListed ends the listed families, of the listed users, and the sessions
// that this leaves without a living family. It belongs to endFamilies and to
// the passes over the whole table. In the feed, an ended family whose session
// lives on is a grant.
func endListed(ctx context.Context, tx pgx.Tx, now time.Time, users, families [][16]byte, e ending) (ended, sessions int, err error) {
	e.requestID = clean(e.requestID)
	var b pgx.Batch
	b.Queue(lockUsers, users)
	b.Queue(`-- name: ends.lock_listed
		SELECT id FROM families WHERE id = ANY ($1::uuid[]) AND ended_at IS NULL ORDER BY id FOR UPDATE`, families)
	queueFamilyEnds(&b, now, families, e).Exec(count(&ended))
	b.Queue(`-- name: ends.empty_sessions
		WITH ended AS (
			UPDATE sessions s SET ended_at = $2, end_reason = $3, end_request = $4
			WHERE s.id IN (SELECT f.session_id FROM families f WHERE f.id = ANY ($1::uuid[]))
				AND s.ended_at IS NULL
				AND NOT EXISTS (SELECT FROM families f WHERE f.session_id = s.id AND f.ended_at IS NULL)
			RETURNING s.id, s.user_id, s.status_index),
		told AS (
			INSERT INTO revocations (kind, subject, not_before, until, status_index)
			SELECT 'session', ended.id::text, $9::timestamptz, $9 + `+longestLife+`, ended.status_index
			FROM ended LEFT JOIN server_state st ON true
			WHERE NOT $10 OR st.tokens_from IS NULL
				OR EXISTS (SELECT FROM families f WHERE f.session_id = ended.id AND f.used_at >= st.tokens_from - interval '1 second'))
		INSERT INTO audit_events (id, at, kind, actor, user_id, session_id, request_id, details)
		SELECT gen_random_uuid(), $2, $5, $6, ended.user_id, ended.id, $7, $8 FROM ended`,
		families, now, string(e.reason), nullText(e.requestID),
		string(audit.SessionEnded), e.actor, e.requestID, because(e.reason), settled(now), e.covered,
	).Exec(count(&sessions))
	b.Queue(`-- name: ends.grants
		INSERT INTO revocations (kind, subject, not_before, until)
		SELECT DISTINCT 'grant', f.session_id || ' ' || f.client, $3::timestamptz, $3 + `+longestLife+`
		FROM families f JOIN sessions s ON s.id = f.session_id LEFT JOIN server_state st ON true
		WHERE f.id = ANY ($1::uuid[]) AND f.ended_at = $2 AND s.ended_at IS NULL
			AND (NOT $4 OR st.tokens_from IS NULL OR f.used_at >= st.tokens_from - interval '1 second')`,
		families, now, revocation.NotBefore(now), e.covered)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return 0, 0, fmt.Errorf("end families: %w", err)
	}
	return ended, sessions, nil
}

// queueFamilyEnds writes the end into the families, whose rows are locked.
func queueFamilyEnds(b *pgx.Batch, now time.Time, families [][16]byte, e ending) *pgx.QueuedQuery {
	return b.Queue(`-- name: ends.families
		UPDATE families SET ended_at = $2, end_reason = $3, end_request = $4
		WHERE id = ANY ($1::uuid[]) AND ended_at IS NULL AND ($5::smallint = 0 OR head_key = $5)`,
		families, now, string(e.reason), nullText(e.requestID), e.headKey)
}

// settled is the not_before of a session's entry: see revocation.Settling, which
// is longer than any transaction here, see patience.
func settled(now time.Time) time.Time { return revocation.NotBefore(now).Add(revocation.Settling) }

func because(r refresh.EndReason) string {
	details, _ := json.Marshal(map[string]string{"reason": string(r)}) // a map of strings always marshals
	return string(details)
}
