package refresh

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
)

// born is when the family of these tests made its head.
var born = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

var (
	phone    = SenderOf("", "phone/1.0")
	stranger = SenderOf("", "curl/8.0")
	someKey  = RetryKey{1, 2, 3}
	otherKey = RetryKey{4, 5, 6}
)

// living is an unbound family at generation 5.
func living() Family {
	u := id.User{0xaa}
	return Family{
		ID: id.NewFamily(u), Session: id.Session{0xbb}, User: u, Client: "first-party",
		SecretHash: sha256.Sum256([]byte("the family secret")),
		Scope:      "openid", Audience: []string{"http://localhost:8080"}, AuthTime: born.Add(-day), AMR: []string{"pwd"},
		Transport: InBody, Rotates: true, IdleTTL: 30 * day, BornAt: born.Add(-day), AbsoluteEnd: born.Add(90 * day),
		UserAgent: "phone/1.0", IP: "192.0.2.1", Sender: phone,
		Generation: 5, HeadKey: 3, HeadBorn: born, UsedAt: born,
		Roles: []string{"admin"}, Floor: born.Add(-300 * day),
	}
}

// presents is the owner of f presenting the token of generation g.
func presents(f Family, g int32) Attempt {
	return Attempt{
		Family: f.ID, Generation: g, Key: f.HeadKey, SecretHash: f.SecretHash, Client: f.Client, Transport: f.Transport,
		Sender: phone, UserAgent: "phone/1.0", IP: "192.0.2.99", RequestID: "req-1", NewKey: 3,
	}
}

func strict() Policy {
	return Policy{IdleTTL: 30 * day, RetryWindow: 90 * time.Second, LateRetry: RefuseLate, LockStep: EnforceLockStep}
}

// What may differ from the ordinary family, attempt and policy of a case.
type (
	onFamily  func(*Family)
	onAttempt func(*Attempt)
	onPolicy  func(*Policy)
)

type judgment struct {
	name       string
	generation int32
	at         time.Duration // now, as time since the head was born
	given      []any         // onFamily, onAttempt, onPolicy

	row     int
	verdict Verdict
	reason  Reason
	events  []audit.Kind
	// changes is the effect on the family; nil: none.
	changes onFamily
	ends    bool
}

func ended(f *Family) {
	f.EndedAt, f.EndReason, f.EndRequest = born.Add(time.Minute), EndedByLogout, "req-0"
}
func disabled(f *Family) { f.Disabled = true }
func below(f *Family)    { f.Floor = f.BornAt.Add(time.Microsecond) }
func seen(f *Family)     { f.ForeignSeen = true }
func fresh(f *Family)    { f.RetryKey, f.KeyFresh = someKey, true }
func stale(f *Family)    { f.RetryKey, f.KeyFresh = someKey, false }
func kept(f *Family)     { f.Rotates, f.Binding = false, ToClient }
func streak(n int16) onFamily {
	return func(f *Family) { f.ForeignStreak = n }
}
func bound(b Binding) onFamily { return func(f *Family) { f.Binding = b } }
func late(ago time.Duration) onFamily {
	return func(f *Family) { f.LateAt = born.Add(3*day - ago) } // the late cases are judged at 3 days
}
func head(g int32) onFamily { return func(f *Family) { f.Generation = g } }
func foreign(a *Attempt)    { a.Sender, a.UserAgent = stranger, "curl/8.0" }
func withKey(a *Attempt)    { a.RetryKey = someKey }
func withOther(a *Attempt)  { a.RetryKey = otherKey }
func proof(p Proof) onAttempt {
	return func(a *Attempt) { a.Proof = p }
}
func onceADay(p *Policy)   { p.LateRetry = LateOnceADay }
func reportOnly(p *Policy) { p.LockStep = ReportLockStep }
func idle(d time.Duration) onPolicy {
	return func(p *Policy) { p.IdleTTL = d }
}

func outage(from, until time.Duration) onPolicy {
	return func(p *Policy) {
		p.Outages = append(p.Outages, Outage{From: born.Add(from), Until: born.Add(until)})
	}
}

// rotated is the effect of rows 6 and 7.
func rotated(g int32, at time.Duration) onFamily {
	return func(f *Family) {
		f.Generation, f.HeadKey, f.HeadBorn, f.UsedAt = g, 3, born.Add(at), born.Add(at)
		f.Sender, f.UserAgent, f.IP = phone, "phone/1.0", "192.0.2.99"
		f.RetryKey, f.KeyFresh, f.ForeignSeen, f.ForeignStreak = RetryKey{}, false, false, 0
	}
}

func both(first onFamily, then ...onFamily) onFamily {
	return func(f *Family) {
		first(f)
		for _, do := range then {
			do(f)
		}
	}
}

// noted is the effect of the first refusal.
func noted(r Reason, at time.Duration) onFamily {
	return func(f *Family) { f.RefusedAt, f.RefusedAs, f.RefusedRequest = born.Add(at), r, "req-1" }
}

const (
	second = time.Second
	minute = time.Minute
	tick   = time.Microsecond // the grain of both stores
	window = 90 * time.Second
)

func judgments() []judgment {
	dpop, mtls := ToDPoP("thumb"), ToCertificate("print")
	byDPoP, byCert := Proof{DPoP: "thumb"}, Proof{Certificate: "print"}
	bySecret, byJWT := Proof{Secret: true}, Proof{ClientKey: true}
	g := func(given ...any) []any { return given }

	return []judgment{
		// Row 1. None of these leaves a trace.
		{name: "wrong secret", generation: 5, given: g(onAttempt(func(a *Attempt) { a.SecretHash[31] ^= 1 })), row: 1, verdict: Unknown, reason: ReasonWrongSecret},
		{name: "wrong secret of an old generation ends nothing", generation: 1, at: day, given: g(onAttempt(func(a *Attempt) { a.SecretHash[0] ^= 0x80 })), row: 1, verdict: Unknown, reason: ReasonWrongSecret},
		{name: "no secret", generation: 5, given: g(onAttempt(func(a *Attempt) { a.SecretHash = [32]byte{} })), row: 1, verdict: Unknown, reason: ReasonWrongSecret},
		{name: "another client's", generation: 5, given: g(onAttempt(func(a *Attempt) { a.Client = "shop" })), row: 1, verdict: Unknown, reason: ReasonWrongClient},
		{name: "another client's old one ends nothing", generation: 1, at: day, given: g(onAttempt(func(a *Attempt) { a.Client = "shop" })), row: 1, verdict: Unknown, reason: ReasonWrongClient},
		{name: "by the other transport", generation: 5, given: g(onAttempt(func(a *Attempt) { a.Transport = InCookie })), row: 1, verdict: Unknown, reason: ReasonWrongTransport},
		{name: "a head that was never made", generation: 5, given: g(onAttempt(func(a *Attempt) { a.Key = 4 })), row: 1, verdict: Unknown, reason: ReasonWrongRootKey},
		{name: "unknown before unproven", generation: 5, given: g(bound(dpop), onAttempt(func(a *Attempt) { a.Client = "shop" })), row: 1, verdict: Unknown, reason: ReasonWrongClient},
		{name: "unknown before ended", generation: 5, given: g(onFamily(ended), onAttempt(func(a *Attempt) { a.SecretHash[7]++ })), row: 1, verdict: Unknown, reason: ReasonWrongSecret},
		{name: "a predecessor under an earlier root key is known", generation: 4, at: second, given: g(onAttempt(func(a *Attempt) { a.Key = 2 })), row: 10, verdict: Replayed, reason: ReasonWindow},

		// Row 2. Who lacks the key learns nothing and ends nothing.
		{name: "DPoP not proven", generation: 5, given: g(bound(dpop)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "DPoP with another key", generation: 5, given: g(bound(dpop), proof(Proof{DPoP: "thumbs"})), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "DPoP is not proven by a client secret", generation: 5, given: g(bound(dpop), proof(bySecret)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "DPoP is not proven by a certificate of that name", generation: 5, given: g(bound(dpop), proof(Proof{Certificate: "thumb"})), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "certificate not proven", generation: 5, given: g(bound(mtls), proof(Proof{Certificate: "other"})), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "client not authenticated", generation: 5, given: g(bound(ToClient)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "a client is not proven by some DPoP key", generation: 5, given: g(bound(ToClient), proof(byDPoP)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "a binding to nothing is proven by nothing", generation: 5, given: g(bound("dpop:"), proof(Proof{Secret: true, ClientKey: true})), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "an unheard-of binding is proven by nothing", generation: 5, given: g(bound("tpm:x"), proof(Proof{Secret: true, ClientKey: true, DPoP: "x", Certificate: "x"})), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "an old token without the key ends nothing", generation: 1, at: day, given: g(bound(dpop)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "a retry key does not stand in for the binding", generation: 4, at: second, given: g(bound(ToClient), onFamily(fresh), onAttempt(withKey)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "unproven before ended", generation: 5, given: g(bound(mtls), onFamily(ended)), row: 2, verdict: Unproven, reason: ReasonUnproven},
		{name: "unproven before expired", generation: 5, at: 100 * day, given: g(bound(ToClient)), row: 2, verdict: Unproven, reason: ReasonUnproven},

		// Row 3. Refused; the first refusal is noted, nothing else happens.
		{name: "ended", generation: 5, at: 2 * minute, given: g(onFamily(ended)), row: 3, verdict: Revoked, reason: ReasonEnded, changes: noted(ReasonEnded, 2*minute)},
		{name: "ended, an old token", generation: 1, at: 2 * minute, given: g(onFamily(ended)), row: 3, verdict: Revoked, reason: ReasonEnded, changes: noted(ReasonEnded, 2*minute)},
		{name: "ended, a proven replay", generation: 4, at: second, given: g(onFamily(ended), bound(dpop), proof(byDPoP)), row: 3, verdict: Revoked, reason: ReasonEnded, changes: noted(ReasonEnded, second)},
		{name: "ended, and refused before", generation: 5, at: 2 * minute, given: g(both(ended, noted(ReasonEnded, minute))), row: 3, verdict: Revoked, reason: ReasonEnded},
		{name: "ended before the present instant of a clock set back", generation: 5, at: -minute, given: g(onFamily(ended)), row: 3, verdict: Revoked, reason: ReasonEnded, changes: noted(ReasonEnded, -minute)},
		{name: "user disabled", generation: 5, given: g(onFamily(disabled)), row: 3, verdict: Revoked, reason: ReasonDisabled, changes: noted(ReasonDisabled, 0)},
		{name: "user disabled, an old token ends nothing", generation: 1, at: day, given: g(onFamily(disabled)), row: 3, verdict: Revoked, reason: ReasonDisabled, changes: noted(ReasonDisabled, day)},
		{name: "born below the floor", generation: 5, given: g(onFamily(below)), row: 3, verdict: Revoked, reason: ReasonFloor, changes: noted(ReasonFloor, 0)},
		{name: "born at the floor", generation: 5, at: second, given: g(onFamily(func(f *Family) { f.Floor = f.BornAt })), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, second)},
		{name: "disabled before expired", generation: 5, at: 100 * day, given: g(onFamily(disabled)), row: 3, verdict: Revoked, reason: ReasonDisabled, changes: noted(ReasonDisabled, 100*day)},
		{name: "ended before expired", generation: 5, at: 100 * day, given: g(onFamily(ended)), row: 3, verdict: Revoked, reason: ReasonEnded, changes: noted(ReasonEnded, 100*day)},

		// Row 4. An end is the first instant that is no longer inside.
		{name: "a grain before the idle end", generation: 5, at: 30*day - tick, row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, 30*day-tick)},
		{name: "at the idle end", generation: 5, at: 30 * day, row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},
		{name: "past the idle end, refused before", generation: 5, at: 31 * day, given: g(noted(ReasonIdle, 30*day)), row: 4, verdict: Expired, reason: ReasonIdle},
		{name: "a shortened policy counts at once", generation: 5, at: minute, given: g(idle(minute)), row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, minute)},
		{name: "a lengthened policy does not reach old families", generation: 5, at: 30 * day, given: g(idle(365 * day)), row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},
		{name: "an outage does not move the idle end", generation: 5, at: 30 * day, given: g(outage(0, 29*day)), row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},
		{name: "a grain before the absolute end", generation: 5, at: 90*day - tick, given: g(onFamily(func(f *Family) { f.UsedAt = born.Add(89 * day) })), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, 90*day-tick)},
		{name: "at the absolute end", generation: 5, at: 90 * day, given: g(onFamily(func(f *Family) { f.UsedAt = born.Add(89 * day) })), row: 4, verdict: Expired, reason: ReasonAbsolute, changes: noted(ReasonAbsolute, 90*day)},
		{name: "expired, an old token ends nothing", generation: 1, at: 30 * day, row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},
		{name: "expired, from above the head", generation: 9, at: 30 * day, row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},
		{name: "expired, a proven replay", generation: 4, at: 30 * day, given: g(bound(dpop), proof(byDPoP)), row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},

		// Row 5. The same token again; the last use is written once a minute.
		{name: "kept", generation: 5, at: minute, given: g(onFamily(kept), proof(bySecret)), row: 5, verdict: Kept, reason: ReasonHead, changes: func(f *Family) { f.UsedAt = born.Add(minute) }},
		{name: "kept within the same minute", generation: 5, at: minute - tick, given: g(onFamily(kept), proof(bySecret)), row: 5, verdict: Kept, reason: ReasonHead},
		{name: "kept after the clock was set back", generation: 5, at: -day, given: g(onFamily(kept), proof(byJWT)), row: 5, verdict: Kept, reason: ReasonHead},
		{name: "kept at an idle TTL below the minute", generation: 5, at: 5 * second, given: g(onFamily(kept), proof(bySecret), idle(10*second)), row: 5, verdict: Kept, reason: ReasonHead, changes: func(f *Family) { f.UsedAt = born.Add(5 * second) }},
		{name: "kept at the last generation", generation: MaxGeneration, given: g(onFamily(kept), head(MaxGeneration), proof(bySecret)), row: 5, verdict: Kept, reason: ReasonHead},
		{name: "not kept past the idle end", generation: 5, at: 30 * day, given: g(onFamily(kept), proof(bySecret)), row: 4, verdict: Expired, reason: ReasonIdle, changes: noted(ReasonIdle, 30*day)},

		// Row 6.
		{name: "the head", generation: 5, at: minute, row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head long after", generation: 5, at: 29 * day, row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, 29*day)},
		{name: "the head in the instant it was born", generation: 5, row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, 0)},
		{name: "the head after the clock was set back", generation: 5, at: -day, row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, -day)},
		{name: "the head from a new sender", generation: 5, at: minute, given: g(onAttempt(foreign)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), func(f *Family) { f.Sender, f.UserAgent = stranger, "curl/8.0" })},
		{name: "the head under a new root key", generation: 5, at: minute, given: g(onAttempt(func(a *Attempt) { a.NewKey = 200 })), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), func(f *Family) { f.HeadKey = 200 })},
		{name: "the head with a first retry key", generation: 5, at: minute, given: g(onAttempt(withKey)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), fresh)},
		{name: "the head with another retry key", generation: 5, at: minute, given: g(onFamily(fresh), onAttempt(withOther)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), func(f *Family) { f.RetryKey, f.KeyFresh = otherKey, true })},
		{name: "the head with the same retry key", generation: 5, at: minute, given: g(onFamily(fresh), onAttempt(withKey)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), stale)},
		{name: "the head without the retry key of before", generation: 5, at: minute, given: g(onFamily(fresh)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head after a foreign replay", generation: 5, at: minute, given: g(onFamily(seen)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), streak(1))},
		{name: "the head after a second foreign replay", generation: 5, at: minute, given: g(onFamily(seen), streak(1)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), streak(2))},
		{name: "the streak does not grow beyond its use", generation: 5, at: minute, given: g(onFamily(seen), streak(2)), row: 6, verdict: Rotated, reason: ReasonHead, changes: both(rotated(6, minute), streak(2))},
		{name: "a generation without a foreign replay ends the streak", generation: 5, at: minute, given: g(streak(2)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head of a DPoP family", generation: 5, at: minute, given: g(bound(dpop), proof(byDPoP)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head of a certificate's family", generation: 5, at: minute, given: g(bound(mtls), proof(byCert)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head of a client's family by secret", generation: 5, at: minute, given: g(bound(ToClient), proof(bySecret)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the head of a client's family by private_key_jwt", generation: 5, at: minute, given: g(bound(ToClient), proof(byJWT)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "a late retry of long ago stays written", generation: 5, at: minute, given: g(late(day)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(6, minute)},
		{name: "the last rotation of all", generation: MaxGeneration - 1, at: minute, given: g(head(MaxGeneration - 1)), row: 6, verdict: Rotated, reason: ReasonHead, changes: rotated(MaxGeneration, minute)},
		{name: "no generation is left", generation: MaxGeneration, at: minute, given: g(head(MaxGeneration)), row: 4, verdict: Expired, reason: ReasonAbsolute, changes: noted(ReasonAbsolute, minute)},

		// Row 7. The store lost what it had acknowledged.
		{name: "one above the head", generation: 6, at: minute, row: 7, verdict: Rotated, reason: ReasonAhead, events: []audit.Kind{audit.FamilyAhead}, changes: rotated(7, minute)},
		{name: "far above the head", generation: 105, at: minute, row: 7, verdict: Rotated, reason: ReasonAhead, events: []audit.Kind{audit.FamilyAhead}, changes: rotated(106, minute)},
		{name: "above the head under a root key the row never had", generation: 6, at: minute, given: g(onAttempt(func(a *Attempt) { a.Key = 9 })), row: 7, verdict: Rotated, reason: ReasonAhead, events: []audit.Kind{audit.FamilyAhead}, changes: rotated(7, minute)},
		{name: "above the head, by a new sender, with a key", generation: 6, at: minute, given: g(onAttempt(foreign), onAttempt(withKey), onFamily(seen)), row: 7, verdict: Rotated, reason: ReasonAhead, events: []audit.Kind{audit.FamilyAhead}, changes: both(rotated(7, minute), fresh, streak(1), func(f *Family) { f.Sender, f.UserAgent = stranger, "curl/8.0" })},
		{name: "the last above the head that has a successor", generation: MaxGeneration - 1, at: minute, row: 7, verdict: Rotated, reason: ReasonAhead, events: []audit.Kind{audit.FamilyAhead}, changes: rotated(MaxGeneration, minute)},
		{name: "above the head, no generation is left", generation: MaxGeneration, at: minute, row: 4, verdict: Expired, reason: ReasonAbsolute, changes: noted(ReasonAbsolute, minute)},

		// Row 8. Processes that share one token never kill each other.
		{name: "predecessor proven by DPoP, long after", generation: 4, at: day, given: g(bound(dpop), proof(byDPoP)), row: 8, verdict: Replayed, reason: ReasonByKey},
		{name: "the first generation proven by DPoP", generation: 1, at: day, given: g(bound(dpop), proof(byDPoP)), row: 8, verdict: Replayed, reason: ReasonByKey},
		{name: "an old one proven by a certificate", generation: 2, at: day, given: g(bound(mtls), proof(byCert)), row: 8, verdict: Replayed, reason: ReasonByKey},
		{name: "an old one proven by private_key_jwt", generation: 2, at: day, given: g(bound(ToClient), proof(byJWT)), row: 8, verdict: Replayed, reason: ReasonByKey},
		{name: "proven by a key, in a streak", generation: 4, at: second, given: g(bound(dpop), proof(byDPoP), streak(2), onFamily(seen)), row: 8, verdict: Replayed, reason: ReasonByKey},

		// Row 9.
		{name: "predecessor proven by secret, long after", generation: 4, at: day, given: g(bound(ToClient), proof(bySecret)), row: 9, verdict: Replayed, reason: ReasonBySecret},
		{name: "predecessor proven by secret, foreign", generation: 4, at: day, given: g(bound(ToClient), proof(bySecret), onAttempt(foreign)), row: 9, verdict: Replayed, reason: ReasonBySecret, events: []audit.Kind{audit.FamilyProven}},
		{name: "predecessor proven by secret, foreign, in a streak", generation: 4, at: second, given: g(bound(ToClient), proof(bySecret), onAttempt(foreign), streak(2)), row: 9, verdict: Replayed, reason: ReasonBySecret, events: []audit.Kind{audit.FamilyProven}},
		{name: "predecessor with the fresh retry key", generation: 4, at: second, given: g(onFamily(fresh), onAttempt(withKey)), row: 9, verdict: Replayed, reason: ReasonByRetryKey},
		{name: "predecessor with the fresh retry key, days after", generation: 4, at: 9 * day, given: g(onFamily(fresh), onAttempt(withKey)), row: 9, verdict: Replayed, reason: ReasonByRetryKey},
		{name: "predecessor with the fresh retry key, foreign", generation: 4, at: second, given: g(onFamily(fresh), onAttempt(withKey), onAttempt(foreign), streak(2)), row: 9, verdict: Replayed, reason: ReasonByRetryKey, events: []audit.Kind{audit.FamilyProven}, changes: seen},
		{name: "predecessor with the fresh retry key, foreign, once more", generation: 4, at: second, given: g(onFamily(fresh), onAttempt(withKey), onAttempt(foreign), onFamily(seen)), row: 9, verdict: Replayed, reason: ReasonByRetryKey, events: []audit.Kind{audit.FamilyProven}},

		// Row 10.
		{name: "predecessor at once", generation: 4, row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "predecessor at the edge of the window", generation: 4, at: window, row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "predecessor a grain past the window", generation: 4, at: window + tick, row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "predecessor of a head from the future", generation: 4, at: -day, row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "first foreign one", generation: 4, at: second, given: g(onAttempt(foreign)), row: 10, verdict: Replayed, reason: ReasonWindow, events: []audit.Kind{audit.FamilyForeign}, changes: seen},
		{name: "second foreign one", generation: 4, at: second, given: g(onAttempt(foreign), onFamily(seen)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "own one after a foreign one", generation: 4, at: second, given: g(onFamily(seen)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "foreign one at a streak of 1", generation: 4, at: second, given: g(onAttempt(foreign), streak(1)), row: 10, verdict: Replayed, reason: ReasonWindow, events: []audit.Kind{audit.FamilyForeign}, changes: seen},
		{name: "own one at a streak of 2", generation: 4, at: second, given: g(streak(2)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "a retry key that is not fresh proves nothing", generation: 4, at: second, given: g(onFamily(stale), onAttempt(withKey), onAttempt(foreign)), row: 10, verdict: Replayed, reason: ReasonWindow, events: []audit.Kind{audit.FamilyForeign}, changes: seen},
		{name: "another retry key proves nothing", generation: 4, at: second, given: g(onFamily(fresh), onAttempt(withOther)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "no retry key on either side proves nothing", generation: 4, at: second, given: g(onAttempt(foreign)), row: 10, verdict: Replayed, reason: ReasonWindow, events: []audit.Kind{audit.FamilyForeign}, changes: seen},
		{name: "a proof that the family never asked for proves nothing", generation: 4, at: day, given: g(proof(Proof{DPoP: "thumb", Certificate: "print"})), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "an outage does not count", generation: 4, at: 9*minute + window, given: g(outage(minute, 10*minute)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "what is left beside an outage counts", generation: 4, at: 9*minute + window + tick, given: g(outage(minute, 10*minute)), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "lock step, only reported", generation: 4, at: second, given: g(onAttempt(foreign), streak(2), onPolicy(reportOnly)), row: 10, verdict: Replayed, reason: ReasonLockStep, events: []audit.Kind{audit.FamilyLockStep}, changes: seen},
		{name: "lock step, reported once a generation", generation: 4, at: second, given: g(onAttempt(foreign), streak(2), onFamily(seen), onPolicy(reportOnly)), row: 10, verdict: Replayed, reason: ReasonWindow},

		// Row 11.
		{name: "late, once a day", generation: 4, at: 3 * day, given: g(onPolicy(onceADay)), row: 11, verdict: Replayed, reason: ReasonLate, events: []audit.Kind{audit.FamilyLate}, changes: late(0)},
		{name: "late, a grain past the window", generation: 4, at: window + tick, given: g(onPolicy(onceADay)), row: 11, verdict: Replayed, reason: ReasonLate, events: []audit.Kind{audit.FamilyLate}, changes: func(f *Family) { f.LateAt = born.Add(window + tick) }},
		{name: "late, at the edge of the window no favour is used up", generation: 4, at: window, given: g(onPolicy(onceADay)), row: 10, verdict: Replayed, reason: ReasonWindow},
		{name: "late again after 24 hours exactly", generation: 4, at: 3 * day, given: g(onPolicy(onceADay), late(day)), row: 11, verdict: Replayed, reason: ReasonLate, events: []audit.Kind{audit.FamilyLate}, changes: late(0)},
		{name: "late again a grain sooner", generation: 4, at: 3 * day, given: g(onPolicy(onceADay), late(day-tick)), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "late and foreign", generation: 4, at: 3 * day, given: g(onPolicy(onceADay), onAttempt(foreign)), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "late and older than the predecessor", generation: 3, at: 3 * day, given: g(onPolicy(onceADay)), row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "late with the fresh key needs no favour", generation: 4, at: 3 * day, given: g(onPolicy(onceADay), onFamily(fresh), onAttempt(withKey)), row: 9, verdict: Replayed, reason: ReasonByRetryKey},

		// Row 12.
		{name: "two below the head, at once", generation: 3, row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "the first generation", generation: 1, at: minute, row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "two below the head with the fresh retry key", generation: 3, at: second, given: g(onFamily(fresh), onAttempt(withKey)), row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "two below the head with the client's secret", generation: 3, at: second, given: g(bound(ToClient), proof(bySecret)), row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "a stale retry key, late", generation: 4, at: 2 * minute, given: g(onFamily(stale), onAttempt(withKey)), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "lock step", generation: 4, at: second, given: g(onAttempt(foreign), streak(2)), row: 12, verdict: Reused, reason: ReasonLockStep, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "lock step where the generation was marked already", generation: 4, at: second, given: g(onAttempt(foreign), streak(2), onFamily(seen)), row: 12, verdict: Reused, reason: ReasonLockStep, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "lock step late, only reported, is late all the same", generation: 4, at: 2 * minute, given: g(onAttempt(foreign), streak(2), onPolicy(reportOnly)), row: 12, verdict: Reused, reason: ReasonTooLate, events: []audit.Kind{audit.FamilyReused}, ends: true},
		{name: "too old while the clock is set back", generation: 3, at: -day, row: 12, verdict: Reused, reason: ReasonTooOld, events: []audit.Kind{audit.FamilyReused}, ends: true},
	}
}

func TestJudge_everyRowAndBorder(t *testing.T) {
	rows, reasons, verdicts := map[int]bool{}, map[Reason]bool{}, map[Verdict]bool{}
	for _, c := range judgments() {
		rows[c.row], reasons[c.reason], verdicts[c.verdict] = true, true, true
		t.Run(c.name, func(t *testing.T) {
			f, p := living(), strict()
			for _, given := range c.given {
				if do, ok := given.(onFamily); ok {
					do(&f)
				}
			}
			a := presents(f, c.generation)
			for _, given := range c.given {
				switch do := given.(type) {
				case onFamily:
				case onAttempt:
					do(&a)
				case onPolicy:
					do(&p)
				default:
					t.Fatalf("%T is no part of a case", given)
				}
			}
			before := f
			want := Outcome{Verdict: c.verdict, Reason: c.reason, Row: c.row, Events: c.events, Now: born.Add(c.at), Ends: c.ends, Writes: c.changes != nil}
			if c.row != 1 { // the zero Family for Unknown
				want.Next = f
				if c.changes != nil {
					c.changes(&want.Next)
				}
			}
			if diff := cmp.Diff(want, Judge(&f, a, born.Add(c.at), p)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(before, f); diff != "" {
				t.Errorf("the family that was judged changed:\n%s", diff)
			}
		})
	}

	out := Judge(nil, presents(living(), 5), born, strict())
	if diff := cmp.Diff(Outcome{Verdict: Unknown, Reason: ReasonNoFamily, Row: 1, Now: born}, out); diff != "" {
		t.Errorf("no such family (-want +got)\n%s", diff)
	}
	for row := 1; row <= 12; row++ {
		if !rows[row] {
			t.Errorf("no case reaches row %d", row)
		}
	}
	for _, v := range Verdicts() {
		if !verdicts[v] {
			t.Errorf("no case is %s", v)
		}
	}
	for _, r := range []Reason{
		ReasonWrongSecret, ReasonWrongClient, ReasonWrongTransport, ReasonWrongRootKey, ReasonUnproven,
		ReasonDisabled, ReasonFloor, ReasonEnded, ReasonIdle, ReasonAbsolute, ReasonHead, ReasonAhead, ReasonByKey,
		ReasonBySecret, ReasonByRetryKey, ReasonWindow, ReasonLate, ReasonLockStep, ReasonTooOld, ReasonTooLate,
	} {
		if !reasons[r] {
			t.Errorf("no case has reason %s", r)
		}
	}
}

func TestVerdict_answers(t *testing.T) {
	want := map[Verdict]bool{Kept: true, Rotated: true, Replayed: true}
	names := map[string]bool{}
	for _, v := range Verdicts() {
		if v.Answers() != want[v] {
			t.Errorf("%s answers: %t, want %t", v, v.Answers(), want[v])
		}
		names[v.String()] = true
	}
	if len(names) != 8 || names[""] {
		t.Errorf("verdict names %v: want eight different ones", names)
	}
}
