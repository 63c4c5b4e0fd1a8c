package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	// families, when given, are all that ends, of whichever users, and those of
	// their sessions that are left without a living family.
	families []id.Family
	headKey  uint8 // of the listed families those whose head is under this root key; 0: all
	// covered says that an entry for everybody is in the feed already: only what
	// was used after it gets one of its own, or in the second before it, because
	// another entry of that second may have dated its token ahead.
	covered bool

	reason    refresh.EndReason
	actor     string
	requestID string
}

// endFamilies is the only way in which a session or a family ends. It writes
// the end into every family's row in the order of their ids, ends the sessions,
// and adds an audit event and an entry of the revocation feed for each session.
// It returns how many sessions
// and how many families it ended; what had ended before keeps its reason. The
// write lock of the transaction stands for the lock on the user's row.
func endFamilies(t *tx, e ending) (sessions, families int, err error) {
	var ended []endedSession
	if e.families != nil {
		ended, families, err = t.endListed(e)
	} else {
		ended, families, err = t.endOfUser(e)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("end sessions for %s: %w", e.reason, err)
	}
	for _, s := range ended {
		if err := t.addEvents(audit.Event{
			Kind: audit.SessionEnded, Actor: e.actor, User: s.user, Session: s.id, RequestID: e.requestID,
			Details: map[string]string{"reason": string(e.reason)},
		}); err != nil {
			return 0, 0, err
		}
		if s.told {
			continue
		}
		if err := t.revokeSession(s); err != nil {
			return 0, 0, err
		}
	}
	return len(ended), families, nil
}

type endedSession struct {
	id    id.Session
	user  id.User
	index int64 // in the status lists; 0: none
	told  bool  // an entry for everybody is enough
}

func (t *tx) endOfUser(e ending) (ended []endedSession, families int, err error) {
	if e.user.IsZero() {
		return nil, 0, errors.New("no user is named")
	}
	if !e.session.IsZero() {
		e.except = id.Session{} // who names a session means it
	}
	// One statement walks the families of the user by its index; all of them
	// are in one transaction, so their order is of no consequence here.
	families, err = t.exec(`-- name: ends.families_of_user
		UPDATE families SET ended_at = ?1, end_reason = ?2, end_request = ?3
		WHERE user_id = ?4 AND ended_at IS NULL AND (?5 IS NULL OR session_id = ?5) AND (?6 IS NULL OR session_id <> ?6)`,
		t.now, string(e.reason), textOrNull(e.requestID), e.user, orNull(e.session), orNull(e.except))
	if err != nil {
		return nil, 0, err
	}
	err = t.each(`-- name: ends.sessions_of_user
		UPDATE sessions SET ended_at = ?1, end_reason = ?2, end_request = ?3
		WHERE user_id = ?4 AND ended_at IS NULL AND (?5 IS NULL OR id = ?5) AND (?6 IS NULL OR id <> ?6)
		RETURNING id, user_id, status_index`,
		[]any{t.now, string(e.reason), textOrNull(e.requestID), e.user, orNull(e.session), orNull(e.except)},
		func(r *row) { ended = append(ended, scanEnded(r)) })
	return ended, families, err
}

func (t *tx) endListed(e ending) (ended []endedSession, families int, err error) {
	slices.SortFunc(e.families, id.Family.Compare)
	type mark struct {
		session id.Session
		client  string
		told    bool
	}
	var touched []mark
	late := make(map[id.Session]bool) // used after the entry for everybody, or there is none
	for _, f := range e.families {
		if err := t.each(`-- name: ends.family
			UPDATE families SET ended_at = ?1, end_reason = ?2, end_request = ?3
			WHERE id = ?4 AND ended_at IS NULL AND (?5 = 0 OR head_key = ?5)
			RETURNING session_id, client, ?6 AND coalesce(used_at < (SELECT tokens_from FROM server_state) - 1000000, 0)`,
			[]any{t.now, string(e.reason), textOrNull(e.requestID), f, e.headKey, e.covered},
			func(r *row) {
				var m mark
				r.fill(m.session[:])
				m.client, m.told = r.text(), r.boolean()
				touched = append(touched, m)
				late[m.session] = late[m.session] || !m.told
			}); err != nil {
			return nil, 0, err
		}
	}
	for _, m := range touched {
		before := len(ended)
		if err := t.each(`-- name: ends.empty_session
			UPDATE sessions SET ended_at = ?, end_reason = ?, end_request = ?
			WHERE id = ? AND ended_at IS NULL
				AND NOT EXISTS (SELECT 1 FROM families f WHERE f.session_id = sessions.id AND f.ended_at IS NULL)
			RETURNING id, user_id, status_index`,
			[]any{t.now, string(e.reason), textOrNull(e.requestID), m.session},
			func(r *row) {
				s := scanEnded(r)
				s.told = !late[s.id]
				ended = append(ended, s)
			}); err != nil {
			return nil, 0, err
		}
		if len(ended) > before || m.told {
			continue
		}
		if err := t.revokeGrant(m.session, m.client); err != nil {
			return nil, 0, err
		}
	}
	return ended, len(touched), nil
}

// revokeGrant tells the feed of a family that ended in a session that lives on;
// a session that ended has an entry of its own.
func (t *tx) revokeGrant(s id.Session, client string) error {
	lives := false
	if _, err := t.one(`-- name: ends.session_lives
		SELECT 1 FROM sessions WHERE id = ? AND ended_at IS NULL`, []any{s}, func(*row) { lives = true }); err != nil || !lives {
		return err
	}
	return t.revoke(revocation.Grant, revocation.GrantOf(s.String(), client), revocation.NotBefore(t.now))
}

func scanEnded(r *row) (s endedSession) {
	r.fill(s.id[:])
	r.fill(s.user[:])
	s.index = r.integer()
	return s
}

// endChosen ends at most limit of the living families that choose finds: a
// statement that takes the id to go on after, the root key if e names one, and
// the limit. The choice is read beside the writer, and each row is asked again
// when it is written. It returns how many families it ended; 0 when a pass over
// the whole table found none.
//
// The place of the last one is remembered, so that ending a million families in
// a thousand calls does not read the table a thousand times.
func (db *DB) endChosen(ctx context.Context, name, choose string, limit int, e ending) (families int, err error) {
	for families == 0 {
		after := db.marks.get(name)
		e.families = e.families[:0]
		args := []any{after, limit}
		if e.headKey != 0 {
			args = []any{after, e.headKey, limit}
		}
		if err := db.read(ctx, name, func(c *conn) error {
			return c.each(choose, args, func(r *row) {
				var f id.Family
				r.fill(f[:])
				e.families = append(e.families, f)
			})
		}); err != nil {
			return 0, err
		}
		switch {
		case len(e.families) > 0:
			db.marks.set(name, e.families[len(e.families)-1])
		case after.IsZero():
			return 0, nil
		default:
			db.marks.set(name, id.Family{}) // once more from the start
			continue
		}
		if err := db.write(ctx, name, func(t *tx) error {
			_, families, err = endFamilies(t, e)
			return err
		}); err != nil {
			db.marks.set(name, id.Family{})
			return 0, err
		}
	}
	return families, nil
}

// marks remembers how far each pass over the families has come. A lost mark
// only costs a reading.
type marks struct {
	mu sync.Mutex
	at map[string]id.Family
}

func (m *marks) get(name string) id.Family {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[name]
}

func (m *marks) set(name string, f id.Family) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = make(map[string]id.Family)
	}
	if f.IsZero() {
		delete(m.at, name)
	} else {
		m.at[name] = f
	}
}
