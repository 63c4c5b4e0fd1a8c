package storetest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

var familyStories = []story{
	{"bornAsItWasWritten", func(r *rig) {
		u := r.user()
		r.must(r.Accounts().SetRole(r.Context(), u.ID, "writer", true, "operator:x", r.request()))
		r.must(r.Accounts().SetRole(r.Context(), u.ID, "admin", true, "operator:x", r.request()))
		o := r.opening(u, bound(refresh.ToDPoP("thumb")), func(o *login.Opening) {
			o.Family.Transport, o.Family.Rotates, o.Family.IdleTTL = refresh.InCookie, false, 36*time.Hour+time.Microsecond
			o.Family.UserAgent, o.Family.IP, o.Family.Scope, o.Family.Remembered = "", "", "", true
		})
		family := got(r.Logins().Open(r.Context(), o))(r)
		want, now := o.Family, r.clock.Now()
		want.AuthTime, want.BornAt, want.HeadBorn, want.UsedAt = now, now, now, now
		want.AbsoluteEnd = now.Add(90 * day)
		want.Roles = []string{"admin", "writer"}
		r.same("as opened", want, family)
		r.same("as read", want, r.row(family.ID))
		if f, _, err := r.Families().Family(r.Context(), id.NewFamily(u.ID)); f != nil || err != nil {
			r.Errorf("a family that never was: %v, %v", f, err)
		}
	}},
	{"redeemEveryRow", func(r *rig) {
		for _, s := range scenes {
			c := s.set(r)
			out := r.judged(c)
			if out.Row != s.row || out.Verdict != s.verdict {
				r.Errorf("%s: row %d, %s (%s); want row %d, %s", s.name, out.Row, out.Verdict, out.Reason, s.row, s.verdict)
			}
			if r.Failed() {
				r.Fatalf("in scene %q", s.name)
			}
		}
	}},
	{"batchRotatesWhatJudgeCallsRotatedAndNothingElse", func(r *rig) {
		for _, s := range scenes {
			c := s.set(r)
			out := r.batched(c)[0]
			if s.batch && out == nil {
				r.Errorf("%s: the batch leaves an ordinary rotation undecided", s.name)
			}
			if out != nil && s.row != 6 {
				r.Errorf("%s: row %d was rotated by the batch", s.name, s.row)
			}
			if r.Failed() {
				r.Fatalf("in scene %q", s.name)
			}
		}
	}},
	{"keysOlderThanTheRevocationOfARootKey", func(r *rig) {
		now := r.clock.Now()
		before := r.change(keys.Change{IfRevision: r.ring().Revision, Insert: []keys.StoredKey{rootKey(1, now), rootKey(2, now)}})
		f := r.login(r.user())
		with := func(c refresh.Call, revision int64) refresh.Call {
			c.Keys = revision
			return c
		}
		r.batched(with(r.presents(f, 1), before))
		other := r.change(keys.Change{IfRevision: before, Insert: []keys.StoredKey{r.signKey(1)}})
		if out := r.batched(with(r.presents(f, 2), before))[0]; out == nil {
			r.Error("another change of the keys stops rotations")
		}
		revoked := rootKey(1, now)
		revoked.RevokedAt = &now
		newest := r.change(keys.Change{IfRevision: other, Update: []keys.StoredKey{revoked}})

		was := r.row(f.ID)
		for _, stale := range []refresh.Call{r.presents(f, 3), r.presents(f, 2)} { // a rotation and a replay
			if out := r.batched(with(stale, other))[0]; out != nil {
				r.Errorf("the batch rotates under keys of before the revocation: %+v", out)
			}
			if out, err := r.Families().Redeem(r.Context(), with(stale, other), time.Second); !errors.Is(err, refresh.ErrStaleKeys) {
				r.Errorf("alone: %s, %v; want ErrStaleKeys", out.Verdict, err)
			}
		}
		r.same("what stale keys wrote", was, r.row(f.ID))
		if out, err := r.Families().Redeem(r.Context(), with(r.presents(f, 2), newest), time.Second); err != nil || out.Verdict != refresh.Replayed {
			r.Errorf("a replay under the newest keys: %s, %v", out.Verdict, err)
		}
		if out := r.batched(with(r.presents(f, 3), newest))[0]; out == nil {
			r.Error("a rotation under the newest keys is left undecided")
		}
	}},
	{"batchAnswersEachMemberInItsPlace", func(r *rig) {
		u, other := r.user(), r.user()
		size := min(r.Families().BatchLimits().Size, 100)
		var calls []refresh.Call
		for i := range size {
			owner := u
			if i%2 == 1 {
				owner = other
			}
			c := r.presents(r.login(owner), 1)
			switch i % 5 {
			case 1:
				c.Attempt.SecretHash[0] ^= 1
			case 2:
				c.Attempt.Generation = 2 // above the head
			case 3:
				c.Attempt.Family = id.NewFamily(u.ID) // never born
			}
			c.Attempt.NewKey = uint8(1 + i)
			c.Attempt.UserAgent = string(rune('a' + i%26))
			calls = append(calls, c)
		}
		rand.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		outcomes := r.batched(calls...)
		rotated := 0
		for _, out := range outcomes {
			if out != nil {
				rotated++
			}
		}
		if want := (size + 4) / 5; rotated < want {
			r.Errorf("%d of %d members rotated, want at least the %d ordinary ones", rotated, size, want)
		}
	}},
	{"reuseEndsTheSessionAndNoOther", func(r *rig) {
		u := r.user()
		f, sibling, other := r.login(u), r.login(u), r.login(r.user())
		f = r.rotate(f, 3)
		c := r.presents(f, 1)
		if out := r.judged(c); out.Verdict != refresh.Reused {
			r.Fatalf("%s (%s)", out.Verdict, out.Reason)
		}
		s := got(r.Sessions().Session(r.Context(), f.Session, policy()))(r)
		if s == nil || !s.EndedAt.Equal(r.clock.Now()) || s.EndReason != refresh.EndedByReuse {
			r.Errorf("the session left without a family: %+v", s)
		}
		if !slices.Equal(kinds(r.events(audit.Filter{RequestID: c.Attempt.RequestID})), []audit.Kind{audit.FamilyReused, audit.SessionEnded}) {
			r.Errorf("the log says %v", r.events(audit.Filter{RequestID: c.Attempt.RequestID}))
		}
		standing := got(r.Sessions().Standing(r.Context(), f.Session, u.ID, policy()))(r)
		if standing.Alive || standing.Why != refresh.ReasonEnded {
			r.Errorf("its bearer tokens stand: %+v", standing)
		}
		for _, f := range []refresh.Family{sibling, other} {
			if out := r.redeem(r.presents(f, 1)); out.Verdict != refresh.Rotated {
				r.Errorf("another session: %s (%s)", out.Verdict, out.Reason)
			}
		}
	}},
	{"theFirstRefusalAfterAnEndIsNoted", func(r *rig) {
		f := r.login(r.user())
		got(r.Sessions().EndSessions(r.Context(), session.End{User: f.User, Session: f.Session, Reason: refresh.EndedByLogout, Actor: audit.ByUser, RequestID: "the-end"}))(r)
		r.clock.Advance(time.Minute)
		first := r.presents(f, 1)
		r.judged(first)
		r.clock.Advance(time.Minute)
		r.judged(r.presents(f, 1))
		row := r.row(f.ID)
		if row.RefusedRequest != first.Attempt.RequestID || !row.RefusedAt.Equal(r.clock.Now().Add(-time.Minute)) || row.RefusedAs != refresh.ReasonEnded || row.EndRequest != "the-end" {
			r.Errorf("noted as %s at %s by %q, ended by %q", row.RefusedAs, row.RefusedAt, row.RefusedRequest, row.EndRequest)
		}
	}},
	{"oneAnswerForOneTokenWhoeverAsks", func(r *rig) {
		f := r.rotate(r.login(r.user()), 4)
		f = r.rotate(f, 1, func(c *refresh.Call) { c.Attempt.NewKey = 200 })
		for i := range 10 {
			r.clock.Advance(5 * time.Second)
			out := r.judged(r.presents(f, f.Generation-1, func(c *refresh.Call) {
				c.Attempt.NewKey = uint8(1 + i) // each node would mint under another root key
				if i%2 == 1 {
					c.Attempt.Sender, c.Attempt.UserAgent = stranger, "curl/8.0"
				}
			}))
			if out.Verdict != refresh.Replayed || out.Next.Generation != f.Generation || out.Next.HeadKey != 200 {
				r.Fatalf("%s: generation %d under %d, want the head %d under 200", out.Verdict, out.Next.Generation, out.Next.HeadKey, f.Generation)
			}
		}
		if n := len(r.events(audit.Filter{Family: f.ID, Kind: audit.FamilyForeign})); n != 1 {
			r.Errorf("%d foreign replays of one generation in the log, want the first", n)
		}
	}},
}

// judged redeems, and wants the outcome, the row and the log that Judge asks
// for, given the row as it was.
func (r *rig) judged(c refresh.Call) refresh.Outcome {
	r.Helper()
	before, now, err := r.Families().Family(r.Context(), c.Attempt.Family)
	r.must(err)
	want := refresh.Judge(before, c.Attempt, now, c.Policy)
	if !want.Verdict.Answers() && want.LeavesTrace(c) {
		spared := c
		spared.Spare = true
		if out := r.redeem(spared); out.Verdict != want.Verdict || out.Ends != want.Ends {
			r.Errorf("to be spared: %s, ends it: %t; want %s and %t", out.Verdict, out.Ends, want.Verdict, want.Ends)
		}
		if before != nil {
			r.same("the row of a family that was spared", *before, r.row(c.Attempt.Family))
		}
		if e := r.events(audit.Filter{RequestID: c.Attempt.RequestID}); len(e) > 0 {
			r.Errorf("a family was spared, and it is in the log: %v", e)
		}
	}
	out := r.redeem(c)
	r.carriedOut(c, before, want, out)
	return out
}

// batched sends calls as one batch. Where the batch decides, everything must
// be as Judge asks; where it does not, nothing may have happened.
func (r *rig) batched(calls ...refresh.Call) []*refresh.Outcome {
	r.Helper()
	befores := make([]*refresh.Family, len(calls))
	for i, c := range calls {
		befores[i], _, _ = r.Families().Family(r.Context(), c.Attempt.Family)
	}
	outcomes := got(r.Families().RotateBatch(r.Context(), calls))(r)
	if len(outcomes) != len(calls) {
		r.Fatalf("%d outcomes for %d members", len(outcomes), len(calls))
	}
	for i, c := range calls {
		if outcomes[i] == nil {
			after, _, err := r.Families().Family(r.Context(), c.Attempt.Family)
			r.must(err)
			r.same("a member that the batch left undecided", befores[i], after)
			if e := r.events(audit.Filter{RequestID: c.Attempt.RequestID}); len(e) > 0 {
				r.Errorf("a member that the batch left undecided is in the log: %v", e)
			}
			continue
		}
		r.carriedOut(c, befores[i], refresh.Judge(befores[i], c.Attempt, r.clock.Now(), c.Policy), *outcomes[i])
	}
	return outcomes
}

func (r *rig) carriedOut(c refresh.Call, before *refresh.Family, want, out refresh.Outcome) {
	r.Helper()
	after := want.Next
	if want.Ends {
		after.EndedAt, after.EndReason, after.EndRequest = want.Now, refresh.EndedByReuse, c.Attempt.RequestID
		// Whether an outcome shows the end it made is the store's affair.
		out.Next.EndedAt, out.Next.EndReason, out.Next.EndRequest = want.Next.EndedAt, want.Next.EndReason, want.Next.EndRequest
	}
	r.same("outcome", want, out)
	if before == nil {
		return
	}
	if want.Verdict == refresh.Unknown {
		after = *before
	}
	r.same("row", after, r.row(c.Attempt.Family))
	events := r.events(audit.Filter{RequestID: c.Attempt.RequestID})
	kindsWanted := slices.Clone(want.Events)
	if want.Ends {
		kindsWanted = append(kindsWanted, audit.SessionEnded)
	}
	slices.Sort(kindsWanted)
	r.same("log", kindsWanted, kinds(events))
	for _, e := range events {
		if e.User != before.User || e.Session != before.Session || e.Kind != audit.SessionEnded && e.Family != before.ID || !e.At.Equal(want.Now) || e.Actor == "" || e.ID.IsZero() {
			r.Errorf("event %+v does not name family %s, session %s, user %s at %s", e, before.ID, before.Session, before.User, want.Now)
		}
	}
}
