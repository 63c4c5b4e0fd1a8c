package refresh

import (
	"strconv"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/secret"
)

// Verdict is what is said about a presented token.
type Verdict uint8

// The verdicts. Rotated, Kept and Replayed answer with a token; the others
// refuse.
const (
	Unknown Verdict = iota
	Unproven
	Revoked
	Expired
	Kept
	Rotated
	Replayed
	Reused
)

var verdictNames = [...]string{"unknown", "unproven", "revoked", "expired", "kept", "rotated", "replayed", "reused"}

// Verdicts lists every verdict.
func Verdicts() []Verdict {
	return []Verdict{Unknown, Unproven, Revoked, Expired, Kept, Rotated, Replayed, Reused}
}

// String returns the verdict's name as metrics and logs use it.
func (v Verdict) String() string { return verdictNames[v] }

// Answers reports whether the verdict comes with a token.
func (v Verdict) Answers() bool { return v == Kept || v == Rotated || v == Replayed }

// Reason says which of several ways led to a verdict; logs and explain show
// it, the wire does not. The list is closed.
type Reason string

// The reasons.
const (
	ReasonNoFamily       Reason = "no_family"
	ReasonWrongSecret    Reason = "wrong_secret"
	ReasonWrongClient    Reason = "wrong_client"
	ReasonWrongTransport Reason = "wrong_transport"
	ReasonWrongRootKey   Reason = "wrong_root_key" // a head that was never made
	ReasonForged         Reason = "forged"         // MAC, version or shape: never reached the store
	ReasonUnproven       Reason = "binding_not_proven"
	ReasonDisabled       Reason = "user_disabled"
	ReasonFloor          Reason = "below_floor"
	ReasonEnded          Reason = "ended" // with the end's own reason in the row
	ReasonIdle           Reason = "idle"
	ReasonAbsolute       Reason = "absolute"
	ReasonHead           Reason = "head"
	ReasonAhead          Reason = "ahead_of_store"
	ReasonByKey          Reason = "proven_by_key"
	ReasonBySecret       Reason = "proven_by_secret"
	ReasonByRetryKey     Reason = "proven_by_retry_key"
	ReasonWindow         Reason = "retry_window"
	ReasonLate           Reason = "late_retry"
	ReasonLockStep       Reason = "lock_step"
	ReasonTooOld         Reason = "generation_too_old"
	ReasonTooLate        Reason = "retry_window_over"
)

// Outcome is a verdict with its effect. A store that carries it out writes
// Next where Writes is set, ends the family where Ends is set, and adds the
// Events, all in the transaction that read the family.
type Outcome struct {
	Verdict Verdict
	Reason  Reason
	Row     int // of the table in the specification, for tests and traces
	// Next is the family after the effect; the zero Family for Unknown.
	Next   Family
	Writes bool
	Ends   bool
	Events []audit.Kind
	// Now is the instant of the store's clock that the verdict was made at.
	Now time.Time
}

// LeavesTrace reports whether the outcome of a call is more than its answer.
func (o Outcome) LeavesTrace(c Call) bool {
	return (o.Writes || o.Ends || len(o.Events) > 0) && (o.Verdict.Answers() || !c.Spare || o.Verdict == c.But)
}

// AuditEvents spells out.Events for the log: f is the family as it was. The
// store sets the instant.
func (o Outcome) AuditEvents(f *Family, a Attempt) []audit.Event {
	events := make([]audit.Event, 0, len(o.Events))
	for _, kind := range o.Events {
		events = append(events, audit.Event{
			Kind: kind, Actor: audit.BySystem, User: f.User, Session: f.Session, Family: f.ID, RequestID: a.RequestID,
			Details: map[string]string{
				"reason":     string(o.Reason),
				"generation": strconv.Itoa(int(a.Generation)),
				"head":       strconv.Itoa(int(f.Generation)),
				"client":     f.Client,
				"ip":         a.IP,
				"user_agent": a.UserAgent,
			},
		})
	}
	return events
}

// keptStep is how often a family that does not rotate writes its last use.
const keptStep = time.Minute

// lockStepStreak is the number of generations in a row with a foreign replay
// after which the next foreign replay is theft.
const lockStepStreak = 2

// lateEvery is how often the late_retry favour may be asked.
const lateEvery = 24 * time.Hour

// Judge says what a presented token is worth. It is pure and total, the first
// match wins, and it is the only place where the rule stands. f is the family
// the token names, or nil; now is the store's clock.
//
// RFC 9700 section 4.14.2 asks for rotation with replay detection; the rest
// keeps an honest client that lost an answer from being taken for a thief.
func Judge(f *Family, a Attempt, now time.Time, p Policy) Outcome {
	if f == nil {
		return Outcome{Verdict: Unknown, Reason: ReasonNoFamily, Row: 1, Now: now}
	}
	if reason, ok := belongs(f, a); !ok {
		return Outcome{Verdict: Unknown, Reason: reason, Row: 1, Now: now}
	}

	out := Outcome{Next: *f, Now: now}
	head, previous := a.Generation == f.Generation, a.Generation == f.Generation-1
	foreign := a.Sender != f.Sender
	inWindow := p.Outages.Age(f.HeadBorn, now) <= p.RetryWindow
	lockStep := foreign && f.ForeignStreak >= lockStepStreak

	switch {
	case !a.Proof.proves(f.Binding):
		return out.is(2, Unproven, ReasonUnproven)
	case !f.EndedAt.IsZero():
		return out.refuse(a, 3, Revoked, ReasonEnded)
	case f.Disabled:
		return out.refuse(a, 3, Revoked, ReasonDisabled)
	case f.BornAt.Before(f.Floor):
		return out.refuse(a, 3, Revoked, ReasonFloor)
	case !now.Before(f.AbsoluteEnd):
		return out.refuse(a, 4, Expired, ReasonAbsolute)
	case !now.Before(f.IdleEnd(p)):
		return out.refuse(a, 4, Expired, ReasonIdle)

	case head && !f.Rotates:
		// A step of a minute would log out whoever tries a very short idle TTL.
		if now.Sub(f.UsedAt) >= min(keptStep, f.IdleTTL/2, p.IdleTTL/2) {
			out.Next.UsedAt = now
			out.Writes = true
		}
		return out.is(5, Kept, ReasonHead)
	case head && f.Generation < MaxGeneration:
		out.rotate(a, a.Generation+1)
		return out.is(6, Rotated, ReasonHead)
	case a.Generation > f.Generation && a.Generation < MaxGeneration:
		out.rotate(a, a.Generation+1)
		return out.is(7, Rotated, ReasonAhead, audit.FamilyAhead)
	case head || a.Generation > f.Generation:
		return out.refuse(a, 4, Expired, ReasonAbsolute) // no generation is left

	case a.Proof.byKey(f.Binding):
		return out.is(8, Replayed, ReasonByKey)
	case previous && f.Binding == ToClient: // proven above, and not by a key
		return out.is(9, Replayed, ReasonBySecret, provenEvents(foreign)...)
	case previous && f.KeyFresh && secret.Equal(a.RetryKey[:], f.RetryKey[:]):
		// It is answered whatever the streak, but a foreign one counts towards it: a
		// thief who knows a key that its owner sends always would otherwise make it
		// look fresh every second time, and share the family for ever.
		if foreign && !f.ForeignSeen {
			out.Next.ForeignSeen = true
			out.Writes = true
		}
		return out.is(9, Replayed, ReasonByRetryKey, provenEvents(foreign)...)

	case previous && inWindow && lockStep && p.LockStep == EnforceLockStep:
		return out.ends(ReasonLockStep)
	case previous && inWindow && foreign && !f.ForeignSeen:
		out.Next.ForeignSeen = true
		out.Writes = true
		if lockStep {
			return out.is(10, Replayed, ReasonLockStep, audit.FamilyLockStep)
		}
		return out.is(10, Replayed, ReasonWindow, audit.FamilyForeign)
	case previous && inWindow:
		return out.is(10, Replayed, ReasonWindow)

	case previous && p.LateRetry == LateOnceADay && !foreign && (f.LateAt.IsZero() || now.Sub(f.LateAt) >= lateEvery):
		out.Next.LateAt = now
		out.Writes = true
		return out.is(11, Replayed, ReasonLate, audit.FamilyLate)

	case previous:
		return out.ends(ReasonTooLate)
	default:
		return out.ends(ReasonTooOld)
	}
}

// belongs checks row 1: whether the token is this family's at all.
func belongs(f *Family, a Attempt) (Reason, bool) {
	switch {
	case !secret.Equal(a.SecretHash[:], f.SecretHash[:]):
		return ReasonWrongSecret, false
	case a.Client != f.Client:
		return ReasonWrongClient, false
	case a.Transport != f.Transport:
		return ReasonWrongTransport, false
	case a.Generation == f.Generation && a.Key != f.HeadKey:
		return ReasonWrongRootKey, false
	default:
		return "", true
	}
}

func provenEvents(foreign bool) []audit.Kind {
	if foreign {
		return []audit.Kind{audit.FamilyProven}
	}
	return nil
}

func (o Outcome) is(row int, v Verdict, r Reason, events ...audit.Kind) Outcome {
	o.Row, o.Verdict, o.Reason, o.Events = row, v, r, events
	return o
}

// refuse is rows 3 and 4. They end nothing; only the first refusal is noted.
func (o Outcome) refuse(a Attempt, row int, v Verdict, r Reason) Outcome {
	if n := &o.Next; n.RefusedAt.IsZero() {
		n.RefusedAt, n.RefusedAs, n.RefusedRequest = o.Now, r, a.RequestID
		o.Writes = true
	}
	return o.is(row, v, r)
}

// ends is row 12: whoever holds an old token of this family ends it.
func (o Outcome) ends(r Reason) Outcome {
	o.Ends = true
	return o.is(12, Reused, r, audit.FamilyReused)
}

// rotate moves the head to generation g. The batch statements of both stores
// do the same to the same columns.
func (o *Outcome) rotate(a Attempt, g int32) {
	n := &o.Next
	n.KeyFresh = a.RetryKey != RetryKey{} && a.RetryKey != n.RetryKey
	n.RetryKey = a.RetryKey
	if n.ForeignSeen {
		n.ForeignStreak = min(n.ForeignStreak+1, lockStepStreak)
	} else {
		n.ForeignStreak = 0
	}
	n.ForeignSeen = false
	n.Generation, n.HeadKey = g, a.NewKey
	n.HeadBorn, n.UsedAt = o.Now, o.Now
	n.Sender, n.UserAgent, n.IP = a.Sender, a.UserAgent, a.IP
	o.Writes = true
}
