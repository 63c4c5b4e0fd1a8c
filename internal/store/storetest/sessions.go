package storetest

import (
	"slices"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

func (r *rig) list(u account.User, ended bool) []id.Session {
	r.Helper()
	var ids []id.Session
	for _, s := range got(r.Sessions().Sessions(r.Context(), u.ID, policy(), ended))(r) {
		if s.User != u.ID {
			r.Errorf("session %s of user %s is in the list of %s", s.ID, s.User, u.ID)
		}
		ids = append(ids, s.ID)
	}
	return ids
}

func (r *rig) end(e session.End) int {
	r.Helper()
	return got(r.Sessions().EndSessions(r.Context(), e))(r)
}

func (r *rig) standing(f refresh.Family) session.Standing {
	r.Helper()
	return got(r.Sessions().Standing(r.Context(), f.Session, f.User, policy()))(r)
}

// over wants that a family and its session ended, for one reason, by one request.
func (r *rig) over(f refresh.Family, at time.Time, reason refresh.EndReason, request string) {
	r.Helper()
	row := r.row(f.ID)
	if !row.EndedAt.Equal(at) || row.EndReason != reason || row.EndRequest != request {
		r.Errorf("family %s ended at %s by %s, request %q; want %s by %s, %q", f.ID, row.EndedAt, row.EndReason, row.EndRequest, at, reason, request)
	}
	s := got(r.Sessions().Session(r.Context(), f.Session, policy()))(r)
	if s == nil || !s.EndedAt.Equal(at) || s.EndReason != reason {
		r.Errorf("session %s: %+v; want it ended at %s by %s", f.Session, s, at, reason)
	}
}

// alive wants that none of them ended.
func (r *rig) alive(families ...refresh.Family) {
	r.Helper()
	for _, f := range families {
		if row := r.row(f.ID); !row.EndedAt.IsZero() {
			r.Errorf("family %s ended by %s", f.ID, row.EndReason)
		}
		if st := r.standing(f); !st.Alive {
			r.Errorf("session %s does not stand: %s", f.Session, st.Why)
		}
	}
}

var sessionStories = []story{
	{"asItsOwnerSeesIt", func(r *rig) {
		u := r.user()
		f := r.login(u, func(o *login.Opening) { o.Kind = session.Offline })
		born := r.clock.Now()
		r.clock.Advance(time.Hour)
		r.rotate(f, 1, func(c *refresh.Call) { c.Attempt.UserAgent, c.Attempt.IP = "phone/1.1", "2001:db8::1" })
		used := r.clock.Now()
		r.clock.Advance(time.Hour)
		want := session.Session{
			ID: f.Session, User: u.ID, Kind: session.Offline, Client: "first-party", DeviceName: "Ada's phone",
			UserAgent: "phone/1.1", IP: "2001:db8::1", CreatedAt: born, LastRefreshedAt: used,
			IdleExpiresAt: used.Add(30 * day), ExpiresAt: born.Add(90 * day),
		}
		r.same("the list", []session.Session{want}, got(r.Sessions().Sessions(r.Context(), u.ID, policy(), false))(r))
		r.same("the one", &want, got(r.Sessions().Session(r.Context(), f.Session, policy()))(r))

		r.end(session.End{User: u.ID, Session: f.Session, Reason: refresh.EndedByOperator, Actor: "operator:x"})
		want.EndedAt, want.EndReason = r.clock.Now(), refresh.EndedByOperator
		r.same("the one that ended", &want, got(r.Sessions().Session(r.Context(), f.Session, policy()))(r))
		r.same("the list with what ended", []session.Session{want}, got(r.Sessions().Sessions(r.Context(), u.ID, policy(), true))(r))
		if s := got(r.Sessions().Session(r.Context(), id.NewSession(), policy()))(r); s != nil {
			r.Errorf("a session that never was: %+v", s)
		}
	}},
	{"idleEndIsNeverBeyondTheAbsoluteOne", func(r *rig) {
		u := r.user()
		r.login(u, absolute(time.Hour))
		s := got(r.Sessions().Sessions(r.Context(), u.ID, policy(), false))(r)
		if len(s) != 1 || !s[0].IdleExpiresAt.Equal(s[0].ExpiresAt) || !s[0].ExpiresAt.Equal(r.clock.Now().Add(time.Hour)) {
			r.Errorf("%+v", s)
		}
		p := policy()
		p.IdleTTL = time.Minute
		s = got(r.Sessions().Sessions(r.Context(), u.ID, p, false))(r)
		if len(s) != 1 || !s[0].IdleExpiresAt.Equal(r.clock.Now().Add(time.Minute)) {
			r.Errorf("under a policy of a minute: %+v", s)
		}
	}},
	{"onlyTheLivingNewestFirst", func(r *rig) {
		u, other := r.user(), r.user()
		var order []id.Session
		open := func(change ...func(*login.Opening)) refresh.Family {
			f := r.login(u, change...)
			order = append([]id.Session{f.Session}, order...)
			r.clock.Advance(time.Minute)
			return f
		}
		first, idle, expired, endedOne, last := open(), open(idleTTL(time.Hour)), open(absolute(time.Hour)), open(), open()
		r.login(other)
		logout(r, endedOne)
		r.clock.Advance(time.Hour)
		r.same("the living", []id.Session{last.Session, first.Session}, r.list(u, false))
		all := r.list(u, true)
		for _, f := range []refresh.Family{first, endedOne, last} {
			if !slices.Contains(all, f.Session) {
				r.Errorf("session %s is missing in the list with what ended", f.Session)
			}
		}
		if !slices.IsSortedFunc(all, func(a, b id.Session) int { return slices.Index(order, a) - slices.Index(order, b) }) {
			r.Errorf("not newest first: %v", all)
		}
		_, _ = idle, expired
		r.same("nobody's list", []id.Session(nil), r.list(account.User{ID: id.NewUser()}, true))
	}},
	{"standing", func(r *rig) {
		u := r.user()
		r.must(r.Accounts().SetRole(r.Context(), u.ID, "admin", true, "operator:x", r.request()))
		created := r.clock.Now()
		r.clock.Advance(time.Minute)
		f := r.login(u)
		r.same("alive", session.Standing{Alive: true, Email: u.Email, UserCreatedAt: created, Roles: []string{"admin"}, Now: r.clock.Now()}, r.standing(f))

		refused := func(what string, st session.Standing, why ...refresh.Reason) {
			r.Helper()
			if st.Alive || !slices.Contains(why, st.Why) || !st.Now.Equal(r.clock.Now()) {
				r.Errorf("%s: alive %t, %q at %s; want %v", what, st.Alive, st.Why, st.Now, why)
			}
		}
		refused("another user's", got(r.Sessions().Standing(r.Context(), f.Session, r.user().ID, policy()))(r), refresh.ReasonNoFamily)
		refused("no session", got(r.Sessions().Standing(r.Context(), id.NewSession(), u.ID, policy()))(r), refresh.ReasonNoFamily)
		p := policy()
		p.IdleTTL = time.Minute
		r.clock.Advance(time.Minute - tick)
		if st := got(r.Sessions().Standing(r.Context(), f.Session, u.ID, p))(r); !st.Alive {
			r.Errorf("a grain before the idle end: %s", st.Why)
		}
		r.clock.Advance(tick)
		refused("idle", got(r.Sessions().Standing(r.Context(), f.Session, u.ID, p))(r), refresh.ReasonIdle)

		short := r.login(u, absolute(time.Hour))
		r.clock.Advance(time.Hour - tick)
		if st := r.standing(short); !st.Alive {
			r.Errorf("a grain before the absolute end: %s", st.Why)
		}
		r.clock.Advance(tick)
		refused("absolute", r.standing(short), refresh.ReasonAbsolute, refresh.ReasonIdle)

		logout(r, short)
		refused("ended", r.standing(short), refresh.ReasonEnded)
		got(r.Sessions().RaiseFloor(r.Context(), f.BornAt.Add(tick), "operator:x", r.request()))(r)
		refused("below the floor", r.standing(f), refresh.ReasonFloor)
		later := r.login(u)
		ban(r, later)
		refused("banned", r.standing(later), refresh.ReasonEnded, refresh.ReasonDisabled)
		r.must(r.Accounts().Enable(r.Context(), u.ID, "operator:x", r.request()))
		refused("banned and pardoned", r.standing(later), refresh.ReasonEnded)
	}},
	{"endOneOthersAll", func(r *rig) {
		u, other := r.user(), r.user()
		a, b, c, d, strangers := r.login(u), r.login(u), r.login(u), r.login(u), r.login(other)
		r.clock.Advance(time.Minute)
		begun := r.clock.Now()

		if n := r.end(session.End{User: u.ID, Session: a.Session, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "one"}); n != 1 {
			r.Errorf("one: %d ended", n)
		}
		r.over(a, begun, refresh.EndedByUser, "one")
		r.alive(b, c, d, strangers)
		events := r.events(audit.Filter{RequestID: "one"})
		if len(events) != 1 || events[0].Kind != audit.SessionEnded || events[0].Session != a.Session || events[0].User != u.ID || events[0].Actor != audit.ByUser || !events[0].At.Equal(begun) {
			r.Errorf("the log of one: %+v", events)
		}

		r.clock.Advance(time.Minute)
		if n := r.end(session.End{User: u.ID, Session: a.Session, Reason: refresh.EndedByOperator, Actor: audit.ByUser, RequestID: "again"}); n != 0 {
			r.Errorf("again: %d ended", n)
		}
		if n := r.end(session.End{User: u.ID, Session: strangers.Session, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "a stranger's"}); n != 0 {
			r.Errorf("a stranger's: %d ended", n)
		}
		if n := r.end(session.End{User: id.NewUser(), Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "nobody's"}); n != 0 {
			r.Errorf("nobody's: %d ended", n)
		}
		r.over(a, begun, refresh.EndedByUser, "one") // keeps its reason
		r.alive(strangers)

		second := r.clock.Now()
		if n := r.end(session.End{User: u.ID, Except: c.Session, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "others"}); n != 2 {
			r.Errorf("others: %d ended, want 2", n)
		}
		r.over(b, second, refresh.EndedByUser, "others")
		r.over(d, second, refresh.EndedByUser, "others")
		r.alive(c, strangers)
		if n := len(r.events(audit.Filter{RequestID: "others"})); n != 2 {
			r.Errorf("others: %d events, want one for each of 2 sessions", n)
		}

		if n := r.end(session.End{User: u.ID, Reason: refresh.EndedByOperator, Actor: "operator:x", RequestID: "all"}); n != 1 {
			r.Errorf("all: %d ended, want the 1 that was left", n)
		}
		r.over(c, second, refresh.EndedByOperator, "all")
		r.alive(strangers)
		for _, request := range []string{"again", "a stranger's", "nobody's"} {
			if e := r.events(audit.Filter{RequestID: request}); len(e) > 0 {
				r.Errorf("%s: %v", request, e)
			}
		}
	}},
	{"aNamedSessionIsNotExcepted", func(r *rig) {
		u := r.user()
		a, b := r.login(u), r.login(u)
		if n := r.end(session.End{User: u.ID, Session: a.Session, Except: a.Session, Reason: refresh.EndedByUser, Actor: audit.ByUser}); n != 1 {
			r.Errorf("%d ended, want 1", n)
		}
		r.alive(b)
	}},
	{"theOldestEndBeyondABound", func(r *rig) {
		u := r.user()
		var all []refresh.Family
		for range 5 {
			all = append(all, r.login(u))
			r.clock.Advance(time.Second)
		}
		stranger := r.login(r.user())
		if n := got(r.Sessions().EndOldest(r.Context(), u.ID, 5, r.request()))(r); n != 0 {
			r.Errorf("within the bound %d ended", n)
		}
		if n := got(r.Sessions().EndOldest(r.Context(), u.ID, 3, "limit"))(r); n != 2 {
			r.Errorf("%d ended, want the 2 beyond the bound", n)
		}
		for _, f := range all[:2] {
			r.over(f, r.clock.Now(), refresh.EndedByLimit, "limit")
		}
		r.alive(append(all[2:], stranger)...)
		if n := got(r.Sessions().EndOldest(r.Context(), u.ID, 3, r.request()))(r); n != 0 {
			r.Errorf("a second time %d ended", n)
		}
	}},
	{"theFloorIsFinalAndNeverSinks", func(r *rig) {
		u := r.user()
		old := []refresh.Family{r.login(u), r.login(r.user()), r.login(r.user())}
		r.clock.Advance(time.Minute)
		floor := r.clock.Now()
		young := r.login(u) // born at the floor
		r.clock.Advance(time.Minute)

		if f := got(r.Sessions().RaiseFloor(r.Context(), floor, "operator:x", "floor"))(r); !f.Equal(floor) {
			r.Errorf("raised to %s, want %s", f, floor)
		}
		e := r.events(audit.Filter{RequestID: "floor"})
		if len(e) != 1 || e[0].Kind != audit.SessionsFloor || e[0].Actor != "operator:x" {
			r.Errorf("the log says %+v", e)
		}
		for i, f := range old { // before any row is written
			if st := r.standing(f); st.Alive || st.Why != refresh.ReasonFloor {
				r.Errorf("a bearer token below the floor: alive %t, %s", st.Alive, st.Why)
			}
			if i == 0 {
				if out := r.batched(r.presents(f, 1))[0]; out != nil {
					r.Errorf("the batch does not read the floor: %s", out.Verdict)
				}
			}
			if out := r.judged(r.presents(f, 1)); out.Verdict != refresh.Revoked || out.Reason != refresh.ReasonFloor {
				r.Errorf("below the floor: %s (%s)", out.Verdict, out.Reason)
			}
		}
		r.same("the owner's list", []id.Session{young.Session}, r.list(u, false))
		if n := got(r.Sessions().CountLiving(r.Context(), policy()))(r); n != 1 {
			r.Errorf("%d live, want 1", n)
		}

		for _, want := range []int{2, 1, 0} {
			if n := got(r.Sessions().EndBelowFloor(r.Context(), 2))(r); n != want {
				r.Errorf("two at a time ended %d, want %d", n, want)
			}
		}
		for _, f := range old {
			if row := r.row(f.ID); row.EndReason != refresh.EndedByFloor || !row.EndedAt.Equal(r.clock.Now()) {
				r.Errorf("ended at %s by %s", row.EndedAt, row.EndReason)
			}
			if n := len(r.events(audit.Filter{Session: f.Session, Kind: audit.SessionEnded})); n != 1 {
				r.Errorf("%d ends of session %s in the log, want 1", n, f.Session)
			}
		}
		r.alive(young)

		if f := got(r.Sessions().RaiseFloor(r.Context(), floor.Add(-time.Hour), "operator:x", r.request()))(r); !f.Equal(floor) {
			r.Errorf("it sank to %s", f)
		}
		if out := r.judged(r.presents(young, 1)); out.Verdict != refresh.Rotated {
			r.Errorf("born at the floor: %s (%s)", out.Verdict, out.Reason)
		}
	}},
	{"endUnderOneRootKey", func(r *rig) {
		var under, elsewhere []refresh.Family
		for range 5 {
			under = append(under, r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 7 }))
			elsewhere = append(elsewhere, r.rotate(r.login(r.user()), 1))
		}
		moved := r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 7 })
		moved = r.rotate(moved, 1, func(c *refresh.Call) { c.Attempt.NewKey = 8 })
		gone := r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 7 })
		logout(r, gone)
		if n := got(r.Sessions().CountUnderRoot(r.Context(), 7))(r); n != 5 {
			r.Errorf("%d would end, want 5", n)
		}
		ended := 0
		for range 10 {
			n := got(r.Sessions().EndUnderRoot(r.Context(), 7, 2, "operator:x"))(r)
			if n > 2 {
				r.Errorf("%d ended at once, want at most 2", n)
			}
			if ended += n; n == 0 {
				break
			}
		}
		if ended != 5 {
			r.Errorf("%d ended, want 5", ended)
		}
		for _, f := range under {
			if row := r.row(f.ID); row.EndReason != refresh.EndedByRootKey {
				r.Errorf("ended by %q", row.EndReason)
			}
			if e := r.events(audit.Filter{Session: f.Session, Kind: audit.SessionEnded}); len(e) != 1 || e[0].Actor != "operator:x" {
				r.Errorf("the log of session %s: %+v", f.Session, e)
			}
		}
		r.alive(append(elsewhere, moved)...)
		if row := r.row(gone.ID); row.EndReason != refresh.EndedByLogout {
			r.Errorf("what had ended before ended by %s", row.EndReason)
		}
		if n := got(r.Sessions().CountUnderRoot(r.Context(), 7))(r); n != 0 {
			r.Errorf("%d would end afterwards", n)
		}
	}},
	{"familiesOfASessionAndOfARequest", func(r *rig) {
		u := r.user()
		f, other := r.login(u), r.login(u)
		f = r.rotate(f, 1)
		found := got(r.Sessions().Families(r.Context(), f.Session))(r)
		r.same("of the session", []refresh.Family{f}, found)
		r.same("of no session", []refresh.Family(nil), got(r.Sessions().Families(r.Context(), id.NewSession()))(r))

		r.end(session.End{User: u.ID, Session: f.Session, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "the-end"})
		c := r.presents(f, 2)
		c.Attempt.RequestID = "the-refusal"
		r.judged(c)
		row := r.row(f.ID)
		for _, request := range []string{"the-end", "the-refusal"} {
			r.same(request, []refresh.Family{row}, got(r.Sessions().ByRequest(r.Context(), request))(r))
		}
		r.same("the ended session's", []refresh.Family{row}, got(r.Sessions().Families(r.Context(), f.Session))(r))
		for _, request := range []string{"", "another"} {
			r.same("request "+request, []refresh.Family(nil), got(r.Sessions().ByRequest(r.Context(), request))(r))
		}
		r.alive(other)
	}},
	{"countTheLiving", func(r *rig) {
		var all []refresh.Family
		for range 4 {
			all = append(all, r.login(r.user()))
		}
		r.login(r.user(), absolute(time.Hour))
		r.login(r.user(), idleTTL(time.Hour))
		count := func(want int) {
			r.Helper()
			if n := got(r.Sessions().CountLiving(r.Context(), policy()))(r); n != want {
				r.Errorf("%d live, want %d", n, want)
			}
		}
		count(6)
		r.clock.Advance(time.Hour)
		count(4)
		logout(r, all[0])
		count(3)
		ban(r, all[1])
		count(2)
		r.clock.Advance(30 * day)
		count(0)
	}},
	{"aThousandAtMost", func(r *rig) {
		u := r.user()
		for range 1003 {
			r.login(u)
		}
		if n := len(r.list(u, false)); n != 1000 {
			r.Errorf("%d in the list, want 1000", n)
		}
		if n := r.end(session.End{User: u.ID, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: "all"}); n != 1003 {
			r.Errorf("%d ended, want all 1003", n)
		}
	}},
}
