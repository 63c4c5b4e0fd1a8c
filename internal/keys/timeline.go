package keys

import (
	"cmp"
	"slices"
	"time"
)

// State is where a key stands in its life.
type State string

// The states, in the order of a life.
const (
	Published State = "published" // in the key set, does not sign yet
	Active    State = "active"    // signs
	Retiring  State = "retiring"  // in the key set for what it signed
	Gone      State = "gone"
	Revoked   State = "revoked"
)

// Life is one key with the instants that follow from all rows of its
// algorithm. Nothing of it is stored.
type Life struct {
	Key StoredKey
	// ActiveFrom, RetiredFrom and GoneFrom are zero where the rows give no such
	// instant. They may lie ahead.
	ActiveFrom  time.Time
	RetiredFrom time.Time // the next greater active_at of its algorithm
	GoneFrom    time.Time // never set for refresh root keys: families name them
}

// Timeline returns the life of every key, in the one order that all nodes use:
// signing keys by Algorithms and number, then root keys by number.
//
// Revoked keys relieve nobody: the key before a revoked one retires when the
// next unrevoked one becomes active. A key without a date that was passed over
// by one with a greater number retires with it.
func Timeline(keys []StoredKey, p Policy) []Life {
	lives := make([]Life, 0, len(keys))
	for _, k := range keys {
		l := Life{Key: k}
		if k.ActiveAt != nil {
			l.ActiveFrom = *k.ActiveAt
		}
		for _, other := range keys {
			if relieves(other, k) && (l.RetiredFrom.IsZero() || other.ActiveAt.Before(l.RetiredFrom)) {
				l.RetiredFrom = *other.ActiveAt
			}
		}
		if k.Purpose == Sign && !l.RetiredFrom.IsZero() {
			l.GoneFrom = l.RetiredFrom.Add(p.stays(k.SignsFor))
		}
		lives = append(lives, l)
	}
	slices.SortFunc(lives, func(a, b Life) int {
		return cmp.Or(
			-cmp.Compare(a.Key.Purpose, b.Key.Purpose), // sign before refresh
			cmp.Compare(rank(a.Key.Algorithm), rank(b.Key.Algorithm)),
			cmp.Compare(a.Key.Algorithm, b.Key.Algorithm),
			cmp.Compare(a.Key.Number, b.Key.Number),
		)
	})
	return lives
}

// relieves reports whether k stops being active, or waiting, when other
// becomes active.
func relieves(other, k StoredKey) bool {
	if other.Purpose != k.Purpose || other.Algorithm != k.Algorithm || other.Number == k.Number ||
		other.RevokedAt != nil || other.ActiveAt == nil {
		return false
	}
	if k.ActiveAt == nil {
		return other.Number > k.Number
	}
	// Equal instants are settled by number, so that there is one active key.
	return cmp.Or(other.ActiveAt.Compare(*k.ActiveAt), cmp.Compare(other.Number, k.Number)) > 0
}

func rank(a Algorithm) int {
	if i := slices.Index(Algorithms(), a); i >= 0 {
		return i
	}
	return len(Algorithms())
}

// At returns the state at now, since when, and until when as far as the rows
// say (zero where they do not).
func (l Life) At(now time.Time) (state State, since, until time.Time) {
	passed := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case l.Key.RevokedAt != nil: // at once, on whichever clock
		return Revoked, *l.Key.RevokedAt, time.Time{}
	case len(l.Key.Sealed) == 0: // destroyed: it cannot come back, whatever the others do
		return Gone, l.GoneFrom, time.Time{}
	case passed(l.GoneFrom):
		return Gone, l.GoneFrom, time.Time{}
	case passed(l.RetiredFrom):
		return Retiring, l.RetiredFrom, l.GoneFrom
	case passed(l.ActiveFrom):
		return Active, l.ActiveFrom, l.RetiredFrom
	default:
		return Published, l.Key.PublishedAt, l.ActiveFrom
	}
}

// State returns the state at now.
func (l Life) State(now time.Time) State {
	state, _, _ := l.At(now)
	return state
}

// Stands reports whether the key is published, active or retiring at now: a
// signing key is then in the key set, a root key makes or checks tokens.
func (l Life) Stands(now time.Time) bool {
	switch l.State(now) {
	case Published, Active, Retiring:
		return true
	}
	return false
}

// nextChange returns the first instant after now at which a state changes, or
// zero when none is known.
func nextChange(lives []Life, now time.Time) time.Time {
	var next time.Time
	for _, l := range lives {
		for _, t := range []time.Time{l.ActiveFrom, l.RetiredFrom, l.GoneFrom} {
			if t.After(now) && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
	}
	return next
}

// of returns the lives of one purpose and algorithm.
func of(lives []Life, purpose Purpose, a Algorithm) []Life {
	var out []Life
	for _, l := range lives {
		if l.Key.Purpose == purpose && l.Key.Algorithm == a {
			out = append(out, l)
		}
	}
	return out
}

// activeOf returns the active key among lives of one algorithm.
func activeOf(lives []Life, now time.Time) (Life, bool) {
	for _, l := range lives {
		if l.State(now) == Active {
			return l, true
		}
	}
	return Life{}, false
}

// standbyOf returns the published key among lives of one algorithm that signs
// next: the one with the earliest date, those without a date last.
func standbyOf(lives []Life, now time.Time) (Life, bool) {
	var standby Life
	found := false
	for _, l := range lives {
		if l.State(now) != Published {
			continue
		}
		earlier := !l.ActiveFrom.IsZero() && (standby.ActiveFrom.IsZero() || l.ActiveFrom.Before(standby.ActiveFrom))
		if !found || earlier {
			standby, found = l, true
		}
	}
	return standby, found
}

// nextNumber is one more than any number that was ever given; rows stay when
// their material goes, at least the youngest of them.
func nextNumber(lives []Life) int {
	n := 0
	for _, l := range lives {
		n = max(n, l.Key.Number)
	}
	return n + 1
}
