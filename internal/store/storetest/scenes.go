package storetest

import (
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// scene brings a family into a state by ordinary acts and returns the attempt
// to be judged. Each has a user of its own.
type scene struct {
	name    string
	set     func(r *rig) refresh.Call
	row     int
	verdict refresh.Verdict
	batch   bool // an ordinary rotation, which a batch must decide
}

func foreign(c *refresh.Call) { c.Attempt.Sender, c.Attempt.UserAgent = stranger, "curl/8.0" }
func withKey(n byte) func(*refresh.Call) {
	return func(c *refresh.Call) { c.Attempt.RetryKey = refresh.RetryKey{n, 15: 7} }
}

func proving(p refresh.Proof) func(*refresh.Call) {
	return func(c *refresh.Call) { c.Attempt.Proof = p }
}
func onceADay(c *refresh.Call) { c.Policy.LateRetry = refresh.LateOnceADay }
func attempt(do func(*refresh.Attempt)) func(*refresh.Call) {
	return func(c *refresh.Call) { do(&c.Attempt) }
}

var (
	bySecret = proving(refresh.Proof{Secret: true})
	byJWT    = proving(refresh.Proof{ClientKey: true})
	byDPoP   = proving(refresh.Proof{DPoP: "thumb"})
	byCert   = proving(refresh.Proof{Certificate: "print"})
)

// at returns a scene's set: a family n generations on, wait later, presented
// back generations below its head. Changes of the opening, of the rotations
// and of the last attempt may be given.
func at(n int, wait time.Duration, back int32, change ...any) func(r *rig) refresh.Call {
	return func(r *rig) refresh.Call {
		var births []func(*login.Opening)
		var always, last []func(*refresh.Call)
		for _, do := range change {
			switch do := do.(type) {
			case func(*login.Opening):
				births = append(births, do)
			case each:
				always = append(always, do)
			case func(*refresh.Call):
				last = append(last, do)
			default:
				r.Fatalf("%T is no part of a scene", do)
			}
		}
		f := r.rotate(r.login(r.user(), births...), n, always...)
		r.clock.Advance(wait)
		return r.presents(f, f.Generation-back, last...)
	}
}

// each changes the rotations before the last attempt.
type each func(*refresh.Call)

func kept(o *login.Opening) { o.Family.Rotates = false }
func idleTTL(d time.Duration) func(*login.Opening) {
	return func(o *login.Opening) { o.Family.IdleTTL = d }
}

func absolute(d time.Duration) func(*login.Opening) {
	return func(o *login.Opening) { o.AbsoluteTTL = d }
}

// after is a scene's set with an act between the rotations and the attempt.
func after(set func(r *rig) refresh.Call, act func(r *rig, f refresh.Family)) func(r *rig) refresh.Call {
	return func(r *rig) refresh.Call {
		c := set(r)
		act(r, r.row(c.Attempt.Family))
		return c
	}
}

func logout(r *rig, f refresh.Family) {
	got(r.Sessions().EndSessions(r.Context(), session.End{User: f.User, Session: f.Session, Reason: refresh.EndedByLogout, Actor: audit.ByUser, RequestID: r.request()}))(r)
}

func ban(r *rig, f refresh.Family) {
	got(r.Accounts().Disable(r.Context(), f.User, "operator:x", r.request()))(r)
}

func newPassword(r *rig, f refresh.Family) {
	got(r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: f.User, Hash: otherHash, Scheme: newScheme, Actor: "operator:x", RequestID: r.request()}))(r)
}

// marked is a foreign replay of the predecessor.
func marked(r *rig, f refresh.Family) {
	r.redeem(r.presents(f, f.Generation-1, foreign))
}

// streak makes n generations in a row with a foreign replay each.
func streak(n int, then func(r *rig, f refresh.Family) refresh.Call) func(r *rig) refresh.Call {
	return func(r *rig) refresh.Call {
		f := r.rotate(r.login(r.user()), 1)
		for range n {
			marked(r, f)
			f = r.rotate(f, 1)
		}
		return then(r, f)
	}
}

var scenes = []scene{
	{"no such family", func(r *rig) refresh.Call {
		c := at(0, 0, 0)(r)
		c.Attempt.Family = id.NewFamily(id.NewUser())
		return c
	}, 1, refresh.Unknown, false},
	{"wrong secret", at(2, 0, 0, attempt(func(a *refresh.Attempt) { a.SecretHash[31] ^= 1 })), 1, refresh.Unknown, false},
	{"another client's", at(2, 0, 0, attempt(func(a *refresh.Attempt) { a.Client = "shop" })), 1, refresh.Unknown, false},
	{"by the other transport", at(2, 0, 0, attempt(func(a *refresh.Attempt) { a.Transport = refresh.InCookie })), 1, refresh.Unknown, false},
	{"a head that was never made", at(2, 0, 0, attempt(func(a *refresh.Attempt) { a.Key = 2 })), 1, refresh.Unknown, false},

	{"DPoP not proven", at(0, 0, 0, bound(refresh.ToDPoP("thumb"))), 2, refresh.Unproven, false},
	{"DPoP with another key", at(0, 0, 0, bound(refresh.ToDPoP("thumb")), proving(refresh.Proof{DPoP: "other", Secret: true})), 2, refresh.Unproven, false},
	{"certificate not proven", at(0, 0, 0, bound(refresh.ToCertificate("print")), byDPoP), 2, refresh.Unproven, false},
	{"client not authenticated", at(0, 0, 0, bound(refresh.ToClient), byDPoP), 2, refresh.Unproven, false},

	{"logged out", after(at(2, 0, 0), logout), 3, refresh.Revoked, false},
	{"logged out, an old token", after(at(2, 0, 2), logout), 3, refresh.Revoked, false},
	{"banned", after(at(2, 0, 0), ban), 3, refresh.Revoked, false},
	{"banned and pardoned", after(at(2, 0, 0), func(r *rig, f refresh.Family) {
		ban(r, f)
		r.must(r.Accounts().Enable(r.Context(), f.User, "operator:x", r.request()))
	}), 3, refresh.Revoked, false},
	{"another password", after(at(2, 0, 0), newPassword), 3, refresh.Revoked, false},
	{"ended and expired", after(at(2, 0, 0), func(r *rig, f refresh.Family) {
		logout(r, f)
		r.clock.Advance(100 * day)
	}), 3, refresh.Revoked, false},

	{"a grain before the idle end", at(1, time.Hour-tick, 0, idleTTL(time.Hour)), 6, refresh.Rotated, true},
	{"at the idle end", at(1, time.Hour, 0, idleTTL(time.Hour)), 4, refresh.Expired, false},
	{"at the idle end of today's policy", at(1, time.Minute, 0, func(c *refresh.Call) { c.Policy.IdleTTL = time.Minute }), 4, refresh.Expired, false},
	{"a grain before the idle end of today's policy", at(1, time.Minute-tick, 0, func(c *refresh.Call) { c.Policy.IdleTTL = time.Minute }), 6, refresh.Rotated, true},
	{"a longer policy does not help", at(1, time.Hour, 0, idleTTL(time.Hour), func(c *refresh.Call) { c.Policy.IdleTTL = 365 * day }), 4, refresh.Expired, false},
	{"at the absolute end", at(1, time.Hour, 0, absolute(time.Hour)), 4, refresh.Expired, false},
	{"a grain before the absolute end", at(1, time.Hour-tick, 0, absolute(time.Hour)), 6, refresh.Rotated, true},
	{"expired, an old token", at(3, time.Hour, 3, absolute(time.Hour)), 4, refresh.Expired, false},

	{"kept, within the minute", at(0, time.Minute-tick, 0, kept, bound(refresh.ToClient), bySecret), 5, refresh.Kept, false},
	{"kept, past the minute", at(0, time.Minute, 0, kept, bound(refresh.ToDPoP("thumb")), byDPoP), 5, refresh.Kept, false},

	{"the first head", at(0, 0, 0), 6, refresh.Rotated, true},
	{"a later head", at(5, time.Hour, 0), 6, refresh.Rotated, true},
	{"the head after the clock was set back", at(2, -time.Hour, 0), 6, refresh.Rotated, true},
	{"the head of a new sender", at(2, 0, 0, foreign), 6, refresh.Rotated, true},
	{"the head under a new root key", at(2, 0, 0, attempt(func(a *refresh.Attempt) { a.NewKey = 255 })), 6, refresh.Rotated, true},
	{"the head with a first retry key", at(2, 0, 0, withKey(1)), 6, refresh.Rotated, true},
	{"the head with the same retry key again", at(2, 0, 0, each(withKey(1)), withKey(1)), 6, refresh.Rotated, true},
	{"the head of a DPoP family", at(0, 0, 0, bound(refresh.ToDPoP("thumb")), byDPoP), 6, refresh.Rotated, false},
	{"the head of a certificate's family", at(0, 0, 0, bound(refresh.ToCertificate("print")), byCert), 6, refresh.Rotated, false},
	{"the head of a client's family", at(0, 0, 0, bound(refresh.ToClient), bySecret), 6, refresh.Rotated, false},
	{"the head after a foreign replay", after(at(2, 0, 0), marked), 6, refresh.Rotated, true},
	{"the head after two of them", streak(1, func(r *rig, f refresh.Family) refresh.Call {
		marked(r, f)
		return r.presents(f, f.Generation)
	}), 6, refresh.Rotated, true},
	{"the head after a streak", streak(2, func(r *rig, f refresh.Family) refresh.Call { return r.presents(f, f.Generation) }), 6, refresh.Rotated, true},

	{"above the head", at(2, 0, -1), 7, refresh.Rotated, false},
	{"far above the head, under another root key", at(2, 0, -100, attempt(func(a *refresh.Attempt) { a.Key = 9 })), 7, refresh.Rotated, false},
	{"the last but one generation", at(2, 0, 4-refresh.MaxGeneration, withKey(3)), 7, refresh.Rotated, false},
	{"the last generation", at(2, 0, 3-refresh.MaxGeneration), 4, refresh.Expired, false},

	{"an old one proven by private_key_jwt", func(r *rig) refresh.Call {
		f := r.rotate(r.login(r.user(), bound(refresh.ToClient)), 5, byJWT)
		r.clock.Advance(day)
		return r.presents(f, 1, byJWT, foreign)
	}, 8, refresh.Replayed, false},
	{"an old one proven by DPoP", func(r *rig) refresh.Call {
		return r.presents(r.rotate(r.login(r.user(), bound(refresh.ToDPoP("thumb"))), 3, byDPoP), 1, byDPoP)
	}, 8, refresh.Replayed, false},
	{"an old one proven by a certificate", func(r *rig) refresh.Call {
		return r.presents(r.rotate(r.login(r.user(), bound(refresh.ToCertificate("print"))), 3, byCert), 2, byCert)
	}, 8, refresh.Replayed, false},

	{"the predecessor proven by secret", func(r *rig) refresh.Call {
		f := r.rotate(r.login(r.user(), bound(refresh.ToClient)), 2, bySecret)
		r.clock.Advance(day)
		return r.presents(f, f.Generation-1, bySecret)
	}, 9, refresh.Replayed, false},
	{"the predecessor proven by secret, foreign", func(r *rig) refresh.Call {
		f := r.rotate(r.login(r.user(), bound(refresh.ToClient)), 2, bySecret)
		return r.presents(f, f.Generation-1, bySecret, foreign)
	}, 9, refresh.Replayed, false},
	{"the predecessor with the fresh retry key", func(r *rig) refresh.Call {
		f := r.rotate(r.rotate(r.login(r.user()), 1, withKey(1)), 1, withKey(2))
		r.clock.Advance(9 * day)
		return r.presents(f, f.Generation-1, withKey(2))
	}, 9, refresh.Replayed, false},
	{"the predecessor with the fresh retry key, foreign", func(r *rig) refresh.Call {
		f := r.rotate(r.login(r.user()), 1, withKey(1))
		return r.presents(f, f.Generation-1, withKey(1), foreign)
	}, 9, refresh.Replayed, false},

	{"the predecessor at the edge of the window", at(2, 90*time.Second, 1), 10, refresh.Replayed, false},
	{"the predecessor, foreign", at(2, time.Second, 1, foreign), 10, refresh.Replayed, false},
	{"the predecessor, foreign again", after(at(2, time.Second, 1, foreign), marked), 10, refresh.Replayed, false},
	{"the predecessor of a head from the future", at(2, -time.Hour, 1), 10, refresh.Replayed, false},
	{"the predecessor with a retry key that is not fresh", at(2, time.Second, 1, each(withKey(1)), withKey(1)), 10, refresh.Replayed, false},
	{"the predecessor in a streak, only reported", streak(2, func(r *rig, f refresh.Family) refresh.Call {
		return r.presents(f, f.Generation-1, foreign, func(c *refresh.Call) { c.Policy.LockStep = refresh.ReportLockStep })
	}), 10, refresh.Replayed, false},
	{"the predecessor after an outage", at(2, time.Hour, 1, func(c *refresh.Call) {
		c.Policy.Outages = refresh.Outages{{From: time.Unix(0, 0)}}
	}), 10, refresh.Replayed, false},

	{"the predecessor late, once a day", at(2, day, 1, onceADay), 11, refresh.Replayed, false},
	{"the predecessor late, a day after", func(r *rig) refresh.Call {
		c := at(2, day, 1, onceADay)(r)
		r.redeem(c)
		r.clock.Advance(day)
		c.Attempt.RequestID = r.request()
		return c
	}, 11, refresh.Replayed, false},

	{"the predecessor late, sooner than a day after", func(r *rig) refresh.Call {
		c := at(2, day, 1, onceADay)(r)
		r.redeem(c)
		r.clock.Advance(day - tick)
		c.Attempt.RequestID = r.request()
		return c
	}, 12, refresh.Reused, false},
	{"the predecessor a grain past the window", at(2, 90*time.Second+tick, 1), 12, refresh.Reused, false},
	{"two below the head", at(2, 0, 2), 12, refresh.Reused, false},
	{"lock step", streak(2, func(r *rig, f refresh.Family) refresh.Call { return r.presents(f, f.Generation-1, foreign) }), 12, refresh.Reused, false},
	{"late and foreign", at(2, day, 1, onceADay, foreign), 12, refresh.Reused, false},
}
