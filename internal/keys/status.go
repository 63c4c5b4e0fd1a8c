package keys

import "time"

// Status is the timetable of the ring at one instant of the store's clock.
type Status struct {
	At       time.Time
	Revision int64
	MasterID MasterID
	// ChangedAt is when a signing key was last published or revoked.
	ChangedAt time.Time
	// Default is the algorithm that access tokens get now.
	Default Algorithm
	Keys    []Line
	// Waiting lists configured algorithms that do not sign yet.
	Waiting []Waiting
}

// Line is one key in the timetable. It holds no material.
type Line struct {
	Purpose     Purpose
	Algorithm   Algorithm
	Number      int
	KID         string
	State       State
	PublishedAt time.Time
	Since       time.Time // of State; zero where the rows do not say
	Until       time.Time // zero where the rows do not say
	SignsFor    time.Duration
	MasterID    MasterID
	InJWKS      bool
}

// Key returns the line of one key, in whatever state it is. An unknown kid is a
// fault.KeyNotFound.
func (s Status) Key(kid string) (Line, error) {
	for _, l := range s.Keys {
		if l.KID == kid {
			return l, nil
		}
	}
	return Line{}, noKey(kid)
}

// Waiting is a configured algorithm whose first key waits its lead. Until then
// its clients get tokens by Status.Default.
type Waiting struct {
	Algorithm Algorithm
	Until     time.Time // zero: its key is not published yet
}

func statusOf(ring StoredRing, now time.Time, p Policy) Status {
	s := Status{At: now.UTC(), Revision: ring.Revision, MasterID: ring.MasterID, ChangedAt: changedAt(ring)}
	lives := Timeline(ring.Keys, p)
	for _, l := range lives {
		s.Keys = append(s.Keys, l.line(now))
	}
	for _, a := range p.Algorithms {
		if _, ok := activeOf(of(lives, Sign, a), now); ok {
			if s.Default == "" {
				s.Default = a
			}
			continue
		}
		next, _ := standbyOf(of(lives, Sign, a), now)
		s.Waiting = append(s.Waiting, Waiting{Algorithm: a, Until: next.ActiveFrom})
	}
	if s.Default == "" { // none that is configured: what the ring falls back on
		for _, l := range s.Keys {
			if l.Purpose == Sign && l.State == Active {
				s.Default = l.Algorithm
				break
			}
		}
	}
	return s
}

func (l Life) line(now time.Time) Line {
	state, since, until := l.At(now)
	return Line{
		Purpose: l.Key.Purpose, Algorithm: l.Key.Algorithm, Number: l.Key.Number, KID: l.Key.KID,
		State: state, PublishedAt: l.Key.PublishedAt, Since: since, Until: until,
		SignsFor: l.Key.SignsFor, MasterID: l.Key.MasterID,
		InJWKS: l.Key.Purpose == Sign && l.Stands(now),
	}
}
