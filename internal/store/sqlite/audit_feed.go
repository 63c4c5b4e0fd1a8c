package sqlite

import (
	"errors"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/store"
)

// auditFeed looks for what ended in the last two minutes and is not in the revocation
// feed, so that verifiers go on taking its access tokens. An entry stands that long at
// least (revocation.Lag), whatever the life of tokens is set to; which of the older ones
// still have to be there nobody can tell. Where an entry for everybody is enough none is
// missing, see ending.covered.
//
// What ended is read before the feed: its entry is of the same transaction, and stands.
func (db *DB) auditFeed(c *conn) (untold []store.Violation, err error) {
	type entry struct{ kind, subject string }
	type end struct {
		entry
		violation store.Violation
	}
	var ends []end
	ended := func(invariant, subject string, kind revocation.Kind, entrys string, at time.Time) {
		ends = append(ends, end{entry{string(kind), entrys}, store.Violation{Invariant: invariant, Subject: subject, Detail: "ended at " + at.String()}})
	}
	now := db.now()
	recent := []any{now.Add(-revocation.Lag), now}
	told := make(map[entry]bool)
	err = errors.Join(
		c.each(`-- name: audit_sessions.ended_sessions
			SELECT s.id, s.ended_at FROM sessions s LEFT JOIN server_state st
			WHERE s.ended_at > ? AND s.ended_at <= ?
				AND NOT (s.end_reason IN ('floor', 'root_key') AND st.tokens_from IS NOT NULL AND NOT EXISTS (SELECT 1 FROM families f
					WHERE f.session_id = s.id AND f.used_at >= st.tokens_from - 1000000))`, recent, func(r *row) {
			var s id.Session
			r.fill(s[:])
			ended("ended_session_is_in_the_feed", "session "+s.String(), revocation.Session, s.String(), r.instant())
		}),
		c.each(`-- name: audit_sessions.ended_families
			SELECT f.id, f.session_id, f.client, f.ended_at FROM families f JOIN sessions s ON s.id = f.session_id LEFT JOIN server_state st
			WHERE f.ended_at > ? AND f.ended_at <= ? AND s.ended_at IS NULL
				AND NOT (f.end_reason IN ('floor', 'root_key') AND coalesce(f.used_at < st.tokens_from - 1000000, 0))`, recent, func(r *row) {
			var f id.Family
			var s id.Session
			r.fill(f[:])
			r.fill(s[:])
			ended("ended_family_is_in_the_feed", "family "+f.String(), revocation.Grant, s.String()+" "+r.text(), r.instant())
		}),
		c.each(`-- name: audit_sessions.disabled_users
			SELECT id, disabled_at FROM users WHERE disabled_at > ? AND disabled_at <= ?
				AND EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = users.id) -- who never logged in has no token`, recent, func(r *row) {
			var u id.User
			r.fill(u[:])
			ended("disabled_user_is_in_the_feed", "user "+u.String(), revocation.User, u.String(), r.instant())
		}),
		c.each(`-- name: audit_sessions.feed
			SELECT kind, subject FROM revocations`, nil, func(r *row) {
			told[entry{r.text(), r.text()}] = true
		}),
	)
	for _, e := range ends {
		if !told[e.entry] {
			untold = append(untold, e.violation)
		}
	}
	return untold, err
}
