package sqlite

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/store"
)

// end is something of whose end the revocation feed tells.
type end struct {
	kind      revocation.Kind
	subject   string // of its entry
	index     int64  // of a session, in the status lists; 0: none
	at        time.Time
	invariant string // that is broken where the entry is missing
	what      string
}

// candidates says where what ended is looked for; ?1 is since when.
type candidates struct{ sessions, users string }

var (
	everywhere = candidates{"TRUE", "TRUE"}
	// The log knows of every end, by its index: a start does not read whole tables.
	inAuditLog = candidates{
		"s.id IN (SELECT e.session_id FROM audit_events e WHERE e.at > ?1 AND e.session_id IS NOT NULL)",
		"u.id IN (SELECT e.user_id FROM audit_events e WHERE e.at > ?1 AND e.user_id IS NOT NULL)",
	}
)

// untold returns what ended between two instants and is not in the revocation feed, so that
// verifiers go on taking its access tokens. Where an entry for everybody is enough, see
// ending.covered, none of its own is missing.
//
// What ended is read before the feed: its entry is of the same transaction, and stands.
func untold(c *conn, who candidates, since, until time.Time) (list []end, err error) {
	type entry struct {
		kind    revocation.Kind
		subject string
	}
	var ends []end
	between := []any{since, until}
	err = errors.Join(
		c.each(`-- name: feed.ended_sessions
			SELECT s.id, coalesce(s.status_index, 0), s.ended_at FROM sessions s LEFT JOIN server_state st
			WHERE `+who.sessions+` AND s.ended_at > ?1 AND s.ended_at <= ?2
				AND NOT (s.end_reason IN ('floor', 'root_key') AND st.tokens_from IS NOT NULL AND NOT EXISTS (SELECT 1 FROM families f
					WHERE f.session_id = s.id AND f.used_at >= st.tokens_from - 1000000))`, between, func(r *row) {
			var s id.Session
			r.fill(s[:])
			ends = append(ends, end{revocation.Session, s.String(), r.integer(), r.instant(), "ended_session_is_in_the_feed", "session " + s.String()})
		}),
		c.each(`-- name: feed.ended_families
			SELECT f.id, f.session_id, f.client, f.ended_at FROM families f JOIN sessions s ON s.id = f.session_id LEFT JOIN server_state st
			WHERE `+who.sessions+` AND f.ended_at > ?1 AND f.ended_at <= ?2 AND s.ended_at IS NULL
				AND NOT (f.end_reason IN ('floor', 'root_key') AND coalesce(f.used_at < st.tokens_from - 1000000, 0))`, between, func(r *row) {
			var f id.Family
			var s id.Session
			r.fill(f[:])
			r.fill(s[:])
			ends = append(ends, end{revocation.Grant, s.String() + " " + r.text(), 0, r.instant(), "ended_family_is_in_the_feed", "family " + f.String()})
		}),
		c.each(`-- name: feed.disabled_users
			SELECT u.id, u.disabled_at FROM users u WHERE `+who.users+` AND u.disabled_at > ?1 AND u.disabled_at <= ?2
				AND EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = u.id) -- who never logged in has no token`, between, func(r *row) {
			var u id.User
			r.fill(u[:])
			ends = append(ends, end{revocation.User, u.String(), 0, r.instant(), "disabled_user_is_in_the_feed", "user " + u.String()})
		}),
	)
	if err != nil || len(ends) == 0 {
		return nil, err
	}
	told := make(map[entry]time.Time) // not_before
	err = c.each(`-- name: feed.entries
		SELECT kind, subject, max(not_before) FROM revocations GROUP BY kind, subject`, nil, func(r *row) {
		told[entry{revocation.Kind(r.text()), r.text()}] = r.instant()
	})
	for _, e := range ends {
		if !told[entry{e.kind, e.subject}].After(e.at) {
			list = append(list, e)
		}
	}
	return list, err
}

// auditFeed looks at what ended in the last two minutes: an entry stands that long at least
// (revocation.Lag), whatever the life of tokens is set to, and which of the older ones still
// have to be there nobody can tell.
func (db *DB) auditFeed(c *conn) (found []store.Violation, err error) {
	now := db.now()
	list, err := untold(c, everywhere, now.Add(-revocation.Lag), now)
	for _, e := range list {
		found = append(found, store.Violation{Invariant: e.invariant, Subject: e.what, Detail: "ended at " + e.at.String()})
	}
	return found, err
}

// tellUntold tells the feed of what a version without one ended not long before this one
// started, perhaps by a clock that was ahead: 0.1, or one that ran for a while again.
func (db *DB) tellUntold(ctx context.Context) error {
	var life time.Duration
	recently := func(c *conn, now time.Time) (list []end, err error) {
		if _, err := c.one(`-- name: feed.life
			SELECT coalesce(max(signs_for), 0) FROM keys WHERE purpose = 'sign'`, nil, func(r *row) { life = r.duration() + revocation.Lag }); err != nil {
			return nil, err
		}
		return untold(c, inAuditLog, now.Add(-life), now.Add(100*365*24*time.Hour))
	}
	nothing := true
	err := db.read(ctx, "feed.untold", func(c *conn) error {
		list, err := recently(c, db.now())
		nothing = len(list) == 0
		return err
	})
	if err != nil || nothing {
		return err
	}
	return db.write(ctx, "feed.tell_untold", func(t *tx) error {
		list, err := recently(t.conn, t.now)
		if err != nil {
			return err
		}
		for _, e := range list {
			at := e.at
			if at.After(t.now) {
				at = t.now
			}
			notBefore := revocation.NotBefore(at)
			if e.kind == revocation.Session {
				notBefore = settled(at)
			}
			if err := t.addRevocation(e.kind, e.subject, notBefore, e.index); err != nil {
				return err
			}
		}
		return nil
	})
}
