package verify

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The kinds of a revocation.
const (
	ofSession = "session" // subject: sid
	ofGrant   = "grant"   // subject: sid, a space, client_id
	ofUser    = "user"    // subject: sub
	ofClient  = "client"  // subject: client_id
	ofKey     = "key"     // subject: kid
	ofAll     = "all"     // subject: iss
)

// mark names what a revocation is about: 16 bytes of SHA-256 over its kind and
// subject. The public list says nothing to who does not hold the token.
type mark [16]byte

func markOf(kind, subject string) mark {
	var space [128]byte // most subjects fit, and then nothing is allocated
	text := append(append(append(space[:0], kind...), ':'), subject...)
	sum := sha256.Sum256(text)
	return mark(sum[:len(mark{})])
}

// revocation ends tokens of its mark that were issued before notBefore; those
// of a key, whenever they were issued.
type revocation struct {
	seq              int64
	key              bool
	session          bool  // or a grant of one: of which there may be many
	notBefore, until int64 // seconds since 1970
}

// over: a key does not come back when the time of its entry is over.
func (e revocation) over(now time.Time) bool { return !e.key && e.until <= now.Unix() }

// revocations is what a reader of the feed holds: one immutable snapshot. The
// nil one holds nothing, not even the word that there is nothing.
type revocations struct {
	number  uint64 // of this snapshot, from 1; see generation
	seq     int64  // newest number covered
	issued  int64  // latest iat of a statement that was taken
	entries map[mark]revocation
	partial bool // ends of sessions were left out, here or by the server, for want of room
}

// lagGrace is how long an entry lingers that a snapshot with lower numbers does
// not have. Such a snapshot comes from a store that was restored, or from a
// node that has not read the newest entries yet, which it will do in less time.
const lagGrace = 10 * time.Second

var (
	// errBehind: a delta begins after what is held; only a snapshot helps.
	errBehind = errors.New("entries are missing before the delta")
	// errOld: a snapshot that is older than what is held. Somebody replays it,
	// or a cache on the way does.
	errOld = errors.New("snapshot is older than what is held")
	// errTooMany: the server lists more than FeedConfig.MaxEntries, even without the
	// ends of sessions.
	errTooMany = errors.New("too many entries")
)

// generation differs between any two snapshots of one feed.
func (r *revocations) generation() uint64 {
	if r == nil {
		return 0
	}
	return r.number
}

// refuse returns ErrRevoked for a token that one of the revocations is about.
func (r *revocations) refuse(c *Claims) error {
	if r == nil || len(r.entries) == 0 {
		return nil
	}
	if err := r.refuseKey(c.KeyID); err != nil {
		return err
	}
	if c.SessionID != "" {
		if r.ended(ofSession, c.SessionID, c) {
			return fmt.Errorf("%w: session %s", ErrRevoked, brief(c.SessionID))
		}
		if r.ended(ofGrant, c.SessionID+" "+c.ClientID, c) {
			return fmt.Errorf("%w: grant of session %s to client %s", ErrRevoked, brief(c.SessionID), brief(c.ClientID))
		}
	}
	switch {
	case r.ended(ofUser, c.Subject, c):
		return fmt.Errorf("%w: user %s", ErrRevoked, brief(c.Subject))
	case r.ended(ofClient, c.ClientID, c):
		return fmt.Errorf("%w: client %s", ErrRevoked, brief(c.ClientID))
	case r.ended(ofAll, c.Issuer, c):
		return fmt.Errorf("%w: all tokens up to its time", ErrRevoked)
	}
	return nil
}

func (r *revocations) ended(kind, subject string, c *Claims) bool {
	e, ok := r.entries[markOf(kind, subject)]
	return ok && c.IssuedAt.Before(time.Unix(e.notBefore, 0)) && !e.over(time.Now())
}

// refuseKey returns ErrRevoked if the key of this name is revoked.
func (r *revocations) refuseKey(kid string) error {
	if r == nil || len(r.entries) == 0 {
		return nil
	}
	if e, ok := r.entries[markOf(ofKey, kid)]; ok && !e.over(time.Now()) {
		return fmt.Errorf("%w: key %s", ErrRevoked, brief(kid))
	}
	return nil
}

// take returns what is held after st, and whether st names a key that was not
// revoked before. Taking nothing new returns r itself. asked is the number that
// was held when st was asked for, now the reader's clock, most the bound.
//
// What is forgotten here does not come back when the reader's clock does: nothing is
// that was not over when st was issued, by the server's.
func (r *revocations) take(st *statement, asked int64, now time.Time, most int) (next *revocations, namesKey bool, err error) {
	switch {
	case r == nil && st.after > 0, r != nil && st.after > r.seq:
		return r, false, fmt.Errorf("%w: it begins after %d", errBehind, st.after)
	case r != nil && st.after > 0 && st.seq <= r.seq:
		return r, false, nil
	case r != nil && st.after == 0 && asked <= st.seq && st.seq < r.seq:
		return r, false, nil // overtaken, on its way, by events
	case r != nil && st.after == 0 && st.seq < r.seq && st.issued < r.issued:
		return r, false, fmt.Errorf("%w: %d of %s, held are %d of %s", errOld,
			st.seq, stamp(time.Unix(st.issued, 0)), r.seq, stamp(time.Unix(r.issued, 0)))
	}
	grace := now.Add(lagGrace)
	if issued := time.Unix(st.issued, 0); issued.Before(now) {
		now = issued
	}
	next = &revocations{number: r.generation() + 1, seq: st.seq, issued: st.issued, entries: map[mark]revocation{}}
	if r != nil {
		next.issued = max(next.issued, r.issued)
		next.entries = r.kept(st, now, grace)
	}
	next.partial = st.partial || r.isPartial() && st.after > 0 // only a snapshot has what was left out
	for _, l := range st.entries {
		e, held := next.entries[l.mark]
		if !held && l.over(now) {
			continue
		}
		if l.key && !r.has(l.mark) {
			namesKey = true
		}
		next.entries[l.mark] = revocation{max(e.seq, l.seq), l.key, l.session, max(e.notBefore, l.notBefore), max(e.until, l.until)}
	}
	if listed := len(next.entries); !next.fit(most) {
		return r, false, fmt.Errorf("%w: %d, expected at most %d", errTooMany, listed, most)
	}
	if r != nil && r.seq == next.seq && r.partial == next.partial && maps.Equal(r.entries, next.entries) {
		return r, false, nil
	}
	return next, namesKey, nil
}

// fit leaves out ends of sessions, those first that are over soonest, until there
// are at most so many entries. Whoever can make and end many sessions could otherwise
// keep every ban and every revoked key from being heard. It reports whether that was
// enough.
func (r *revocations) fit(most int) bool {
	spare := len(r.entries) - most
	if spare <= 0 {
		return true
	}
	sessions := make([]listed, 0, len(r.entries))
	for m, e := range r.entries {
		if e.session {
			sessions = append(sessions, listed{m, e})
		}
	}
	if len(sessions) < spare {
		return false
	}
	slices.SortFunc(sessions, func(a, b listed) int {
		if c := cmp.Compare(a.until, b.until); c != 0 {
			return c
		}
		return cmp.Compare(a.seq, b.seq)
	})
	// Some more, or the next entry would ask for all this again.
	for _, l := range sessions[:min(spare+most/16, len(sessions))] {
		delete(r.entries, l.mark)
	}
	r.partial = true
	return true
}

func (r *revocations) isPartial() bool { return r != nil && r.partial }

func (r *revocations) has(m mark) bool {
	if r == nil {
		return false
	}
	_, ok := r.entries[m]
	return ok
}

// kept returns the entries held that stay beside those of st: before a delta
// all of them, before a snapshot those only that it lacks for another reason
// than their having been taken back, and some until grace. Entries end with their
// time, but a key does not come back when its entry has.
func (r *revocations) kept(st *statement, now, grace time.Time) map[mark]revocation {
	entries := maps.Clone(r.entries)
	maps.DeleteFunc(entries, func(_ mark, e revocation) bool { return e.over(now) })
	if st.after > 0 {
		return entries
	}
	for m, e := range entries {
		switch {
		case e.until <= st.issued:
			// The server has dropped it in its time, by its own clock.
		case st.partial && e.session && e.seq <= st.seq:
			// It was left out, and not taken back.
		case e.seq > st.seq:
			e.key, e.until = false, min(e.until, grace.Unix())
			entries[m] = e
		default:
			delete(entries, m)
		}
	}
	return entries
}
