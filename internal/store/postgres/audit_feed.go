package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/store"
)

// told says of what the feed tells the end: id, at and subject, which is that of the entry,
// are columns of from, a FROM and WHERE with the ids between $2 and $3. Where an entry for
// everybody is enough, see ending.covered, none of its own is missing.
type told struct {
	invariant, what, id, at string
	kind                    revocation.Kind
	subject, from           string
}

var (
	toldOfFamilies = told{
		"ended_family_is_in_the_feed", "family", "f.id", "f.ended_at",
		revocation.Grant, "f.session_id || ' ' || f.client",
		`FROM families f JOIN sessions s ON s.id = f.session_id LEFT JOIN server_state st ON true
			WHERE f.id > $2 AND f.id <= $3 AND s.ended_at IS NULL
				AND NOT (f.end_reason IN ('floor', 'root_key') AND COALESCE(f.used_at < st.tokens_from - interval '1 second', false))`,
	}
	toldOfSessions = told{
		"ended_session_is_in_the_feed", "session", "s.id", "s.ended_at",
		revocation.Session, "s.id::text",
		`FROM sessions s LEFT JOIN server_state st ON true
			WHERE s.id > $2 AND s.id <= $3
				AND NOT (s.end_reason IN ('floor', 'root_key') AND st.tokens_from IS NOT NULL AND NOT EXISTS (SELECT FROM families f
					WHERE f.session_id = s.id AND f.used_at >= st.tokens_from - interval '1 second'))`,
	}
	// Who never logged in, and was imported so, has no token.
	toldOfUsers = told{
		"disabled_user_is_in_the_feed", "user", "u.id", "u.disabled_at",
		revocation.User, "u.id::text",
		`FROM users u WHERE u.id > $2 AND u.id <= $3 AND EXISTS (SELECT FROM sessions s WHERE s.user_id = u.id)`,
	}
)

// untold finds what ended in the last two minutes and is not in the revocation feed, so that
// verifiers go on taking its access tokens. An entry stands that long at least
// (revocation.Lag), whatever the life of tokens is set to, and which of the older ones still
// have to be there nobody can tell.
func (db *DB) untold(ctx context.Context, c *pgxpool.Conn, t told, after, last [16]byte) (found []store.Violation, err error) {
	rows, err := c.Query(ctx, `-- name: audit_sessions.untold
		SELECT $6 || ' ' || `+t.id+`, 'ended at ' || `+t.at+` `+t.from+`
			AND `+t.at+` > COALESCE($1::timestamptz, now()) - $4::interval AND `+t.at+` <= COALESCE($1::timestamptz, now())
			AND NOT EXISTS (SELECT FROM revocations r WHERE r.kind = $5 AND r.subject = `+t.subject+` AND r.not_before > `+t.at+`)`,
		db.clock(), after, last, revocation.Lag, string(t.kind), t.what)
	if err != nil {
		return nil, err
	}
	v := store.Violation{Invariant: t.invariant}
	_, err = pgx.ForEachRow(rows, []any{&v.Subject, &v.Detail}, func() error {
		found = append(found, v)
		return nil
	})
	return found, err
}
