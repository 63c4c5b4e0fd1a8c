package sqlite

import (
	"context"
	"fmt"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/store"
)

// auditStep is how many rows one statement looks at. Each statement sees one
// state of the database, in which every act was carried out whole or not yet,
// and short ones do not keep the log from beginning anew.
const auditStep = 10_000

// backwards is how far a clock may have been set back without the order of
// instants becoming a violation.
const backwards = 24 * time.Hour

// AuditSessions implements store.Engine. Most of what it looks for is refused
// by the schema too; it is found here where another hand than this program's
// wrote the file, or a disk did.
func (db *DB) AuditSessions(ctx context.Context) (found []store.Violation, err error) {
	ring, err := db.Keys().ReadRing(ctx)
	if err != nil {
		return nil, err
	}
	found = store.AuditKeys(ring)
	for _, look := range []func(c *conn, after [16]byte, note func(store.Violation)) (last [16]byte, n int, err error){
		db.auditFamilies, auditSessions,
	} {
		after, n := [16]byte{}, auditStep
		for n == auditStep {
			if err := ctx.Err(); err != nil {
				return found, err
			}
			err := db.read(ctx, "audit_sessions", func(c *conn) error {
				after, n, err = look(c, after, func(v store.Violation) { found = append(found, v) })
				return err
			})
			if err != nil {
				return found, err
			}
		}
	}
	err = db.read(ctx, "audit_sessions.feed", func(c *conn) error {
		untold, err := db.auditFeed(c)
		found = append(found, untold...)
		return err
	})
	return found, err
}

// auditedFamily is a family's row beside those it belongs to.
type auditedFamily struct {
	id                                            id.Family
	user                                          id.User
	noSession, strangersSession, noUser, disabled bool
	reused                                        bool
	floor                                         time.Time // below which none lives
	generation, streak, rootsKnown, rootKnown     int64
	rotates, keyFresh, keyKept                    bool
	binding, endReason, refusedAs                 string
	auth, born, head, used, end, ended, refused   time.Time
	late                                          time.Time
	sessionEnd, sessionEnded                      time.Time
}

func (db *DB) auditFamilies(c *conn, after [16]byte, note func(store.Violation)) (last [16]byte, n int, err error) {
	now := db.now()
	err = c.each(`-- name: audit_sessions.families
		SELECT f.id, f.user_id, s.id IS NULL, s.user_id <> f.user_id, u.id IS NULL, u.disabled_at IS NOT NULL,
			f.generation, f.foreign_streak,
			(SELECT count(*) FROM keys k WHERE k.purpose = 'refresh'),
			(SELECT count(*) FROM keys k WHERE k.purpose = 'refresh' AND k.number = f.head_key AND k.sealed IS NOT NULL),
			f.rotates, f.key_fresh, f.retry_key IS NOT NULL, f.binding, f.end_reason, f.refused_as,
			f.auth_time, f.born_at, f.head_born, f.used_at, f.absolute_end, f.ended_at, f.refused_at, s.absolute_end, s.ended_at,
			f.late_at, EXISTS (SELECT 1 FROM audit_events e WHERE e.family_id = f.id AND e.kind = 'refresh.reused'),
			(SELECT floor_swept FROM server_state)
		FROM families f LEFT JOIN sessions s ON s.id = f.session_id LEFT JOIN users u ON u.id = f.user_id
		WHERE f.id > ? ORDER BY f.id LIMIT ?`, []any{after[:], auditStep}, func(r *row) {
		var f auditedFamily
		r.fill(f.id[:])
		r.fill(f.user[:])
		f.noSession, f.strangersSession, f.noUser, f.disabled = r.boolean(), r.boolean(), r.boolean(), r.boolean()
		f.generation, f.streak, f.rootsKnown, f.rootKnown = r.integer(), r.integer(), r.integer(), r.integer()
		f.rotates, f.keyFresh, f.keyKept = r.boolean(), r.boolean(), r.boolean()
		f.binding, f.endReason, f.refusedAs = r.text(), r.text(), r.text()
		f.auth, f.born, f.head, f.used, f.end, f.ended, f.refused = r.instant(), r.instant(), r.instant(), r.instant(), r.instant(), r.instant(), r.instant()
		f.sessionEnd, f.sessionEnded = r.instant(), r.instant()
		f.late, f.reused, f.floor = r.instant(), r.boolean(), r.instant()
		last = f.id
		n++
		f.check(now, func(invariant, detail string, args ...any) {
			note(store.Violation{Invariant: invariant, Subject: "family " + f.id.String(), Detail: fmt.Sprintf(detail, args...)})
		})
	})
	return last, n, err
}

// check holds a family against every invariant.
func (f *auditedFamily) check(now time.Time, broken func(invariant, detail string, args ...any)) {
	living := f.ended.IsZero()
	if tag := id.Tag(f.user); [2]byte(f.id[:2]) != tag {
		broken("family_id_carries_user_tag", "the tag of user %s is %x", f.user, tag)
	}
	if f.noSession {
		broken("family_has_session", "its session is not there")
	}
	if f.noUser {
		broken("family_has_user", "user %s is not there", f.user)
	}
	if f.strangersSession {
		broken("family_and_session_have_one_user", "its session is not of user %s", f.user)
	}
	if living && !f.sessionEnded.IsZero() {
		broken("ended_session_has_no_living_family", "session ended at %s", f.sessionEnded)
	}
	if living && f.disabled {
		broken("disabled_user_has_no_living_family", "user %s is disabled", f.user)
	}
	if !f.noSession && f.end.After(f.sessionEnd) {
		broken("family_ends_within_session", "%s after %s", f.end, f.sessionEnd)
	}
	if f.generation < 1 {
		broken("generation_from_one", "%d", f.generation)
	}
	if living != (f.endReason == "") {
		broken("ended_with_reason", "ended at %s by %q", f.ended, f.endReason)
	}
	if f.refused.IsZero() != (f.refusedAs == "") {
		broken("refused_with_reason", "refused at %s as %q", f.refused, f.refusedAs)
	}
	if f.keyFresh && !f.keyKept {
		broken("fresh_key_is_kept", "a fresh retry key that is not there")
	}
	if f.binding == "" && !f.rotates {
		broken("unbound_family_rotates", "neither bound nor rotating")
	}
	if f.streak < 0 || f.streak > 2 {
		broken("streak_within_bounds", "%d", f.streak)
	}
	if f.used.Before(f.head) {
		broken("head_used_after_birth", "%s before %s", f.used, f.head)
	}
	if f.head.Before(f.born.Add(-backwards)) || f.generation == 1 && !f.head.Equal(f.born) {
		broken("head_born_after_family", "generation %d at %s, the family at %s", f.generation, f.head, f.born)
	}
	if f.auth.After(f.born.Add(backwards)) {
		broken("authenticated_before_birth", "%s after %s", f.auth, f.born)
	}
	if !living && f.ended.Before(f.born.Add(-backwards)) {
		broken("ended_after_birth", "%s before %s", f.ended, f.born)
	}
	if living && f.born.Before(f.floor.Add(-backwards)) {
		broken("family_below_floor_has_ended", "%s before %s", f.born, f.floor)
	}
	if living && f.reused {
		broken("reused_family_has_ended", "the audit log holds its reuse")
	}
	for _, at := range []time.Time{f.born, f.head, f.used, f.late, f.ended, f.refused} {
		if at.After(now.Add(backwards)) {
			broken("instants_lie_in_the_past", "%s", at)
		}
	}
	if living && f.end.After(now) && f.rootsKnown > 0 && f.rootKnown == 0 {
		broken("head_key_is_known", "the store has no root key of that number")
	}
}

func auditSessions(c *conn, after [16]byte, note func(store.Violation)) (last [16]byte, n int, err error) {
	err = c.each(`-- name: audit_sessions.sessions
		SELECT s.id, u.id IS NULL, u.disabled_at IS NOT NULL, s.created_at, s.ended_at, s.end_reason,
			(SELECT count(*) FROM families f WHERE f.session_id = s.id),
			(SELECT count(*) FROM families f WHERE f.session_id = s.id AND f.ended_at IS NULL),
			EXISTS (SELECT 1 FROM audit_events e WHERE e.session_id = s.id AND e.kind = 'session.ended')
		FROM sessions s LEFT JOIN users u ON u.id = s.user_id
		WHERE s.id > ? ORDER BY s.id LIMIT ?`, []any{after[:], auditStep}, func(r *row) {
		var s id.Session
		r.fill(s[:])
		noUser, disabled, created, ended, reason := r.boolean(), r.boolean(), r.instant(), r.instant(), r.text()
		families, living, saidToHaveEnded := r.integer(), r.integer(), r.boolean()
		last = s
		n++
		broken := func(invariant, detail string, args ...any) {
			note(store.Violation{Invariant: invariant, Subject: "session " + s.String(), Detail: fmt.Sprintf(detail, args...)})
		}
		if noUser {
			broken("session_has_user", "its user is not there")
		}
		if families == 0 {
			broken("session_has_family", "no family is of this session")
		}
		if ended.IsZero() && families > 0 && living == 0 {
			broken("living_session_has_living_family", "%d families, all ended", families)
		}
		if ended.IsZero() && saidToHaveEnded {
			broken("session_said_to_have_ended_has", "the audit log holds its end")
		}
		if ended.IsZero() && disabled {
			broken("disabled_user_has_no_living_session", "its user is disabled")
		}
		if ended.IsZero() != (reason == "") {
			broken("session_ended_with_reason", "ended at %s by %q", ended, reason)
		}
		if !ended.IsZero() && ended.Before(created.Add(-backwards)) {
			broken("session_ended_after_birth", "%s before %s", ended, created)
		}
	})
	return last, n, err
}
