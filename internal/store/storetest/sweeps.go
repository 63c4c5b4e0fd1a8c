package storetest

import (
	"slices"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

// sweepAll goes once over the table in steps of limit and returns how many
// families it deleted and how many steps it took.
func (r *rig) sweepAll(limit int, p refresh.Policy) (deleted, steps int) {
	r.Helper()
	for after := (id.Family{}); ; {
		next, n, err := r.Families().Sweep(r.Context(), after, limit, p, 7*day)
		r.must(err)
		deleted, steps = deleted+n, steps+1
		if next.IsZero() {
			return deleted, steps
		}
		if next.Compare(after) <= 0 {
			r.Fatalf("the sweep went from %s to %s", after, next)
		}
		if steps > 1000 {
			r.Fatal("the sweep does not end")
		}
		after = next
	}
}

func (r *rig) stands(f refresh.Family) bool {
	r.Helper()
	row, _, err := r.Families().Family(r.Context(), f.ID)
	r.must(err)
	return row != nil
}

var sweepStories = []story{
	{"theDeadStaySevenDays", func(r *rig) {
		short := func(o *login.Opening) { o.AbsoluteTTL = time.Hour }
		u := r.user()
		living := r.login(u)
		endedOne, expired, idle := r.login(u), r.login(u, short), r.login(u, idleTTL(time.Hour))
		logout(r, endedOne)
		dead := []refresh.Family{endedOne, expired, idle}

		r.clock.Advance(7 * day) // 7 days after the end, 7 days less an hour after the others'
		r.rotate(living, 1)
		if n, _ := r.sweepAll(100, policy()); n != 0 {
			r.Errorf("%d deleted after exactly 7 days, want none", n)
		}
		r.clock.Advance(tick)
		if n, _ := r.sweepAll(100, policy()); n != 1 || r.stands(endedOne) {
			r.Errorf("%d deleted a grain later, the ended one stands: %t", n, r.stands(endedOne))
		}
		r.clock.Advance(time.Hour - tick)
		if n, _ := r.sweepAll(100, policy()); n != 0 {
			r.Errorf("%d deleted 7 days after they expired, want none", n)
		}
		r.clock.Advance(tick)
		if n, _ := r.sweepAll(100, policy()); n != 2 {
			r.Errorf("%d deleted a grain later, want the expired and the idle one", n)
		}
		for _, f := range dead {
			if r.stands(f) {
				r.Errorf("family %s still stands", f.ID)
			}
			if s := got(r.Sessions().Session(r.Context(), f.Session, policy()))(r); s != nil {
				r.Errorf("session %s was left empty and still stands", s.ID)
			}
			if out := r.judged(r.presents(f, 1)); out.Verdict != refresh.Unknown {
				r.Errorf("its token is %s, want unknown", out.Verdict)
			}
		}
		if !r.stands(living) || got(r.Sessions().Session(r.Context(), living.Session, policy()))(r) == nil {
			r.Error("the living one is gone")
		}
	}},
	{"whatEndedIsKeptSinceItsEnd", func(r *rig) {
		f := r.login(r.user(), absolute(time.Hour))
		r.clock.Advance(10 * day) // it expired long ago, and the sweep was not there
		logout(r, f)
		r.clock.Advance(7 * day)
		if n, _ := r.sweepAll(100, policy()); n != 0 || !r.stands(f) {
			r.Errorf("%d deleted seven days after the end, want it kept for explain", n)
		}
		r.clock.Advance(tick)
		if n, _ := r.sweepAll(100, policy()); n != 1 || r.stands(f) {
			r.Errorf("%d deleted a grain later, want 1", n)
		}
	}},
	{"todaysPolicyDecidesWhatIsIdle", func(r *rig) {
		f := r.login(r.user())
		r.clock.Advance(7*day + time.Hour + tick)
		if n, _ := r.sweepAll(100, policy()); n != 0 || !r.stands(f) {
			r.Errorf("%d deleted at 30 days of idleness", n)
		}
		p := policy()
		p.IdleTTL = time.Hour
		if n, _ := r.sweepAll(100, p); n != 1 || r.stands(f) {
			r.Errorf("%d deleted at an hour of idleness, want 1", n)
		}
	}},
	{"inBoundedStepsInTheOrderOfIds", func(r *rig) {
		var all []refresh.Family
		for range 6 {
			u := r.user()
			for range 4 {
				all = append(all, r.login(u))
			}
		}
		var ended []refresh.Family
		for i, f := range all {
			if i%3 == 0 {
				logout(r, f)
				ended = append(ended, f)
			}
		}
		r.clock.Advance(8 * day)

		slices.SortFunc(all, func(a, b refresh.Family) int { return a.ID.Compare(b.ID) })
		next, _, err := r.Families().Sweep(r.Context(), id.Family{}, 5, policy(), 7*day)
		r.must(err)
		if next != all[4].ID {
			r.Errorf("five families on the sweep stands at %s, want %s", next, all[4].ID)
		}
		deleted, steps := r.sweepAll(5, policy())
		for _, f := range ended {
			if r.stands(f) {
				r.Errorf("family %s still stands", f.ID)
			}
		}
		if left := len(all) - len(ended); deleted > len(ended) || steps < left/5 || steps > left/5+3 {
			r.Errorf("%d deleted in %d steps of five", deleted, steps)
		}
		if n, _ := r.sweepAll(5, policy()); n != 0 {
			r.Errorf("a second round deletes %d more", n)
		}
		if n, _ := r.sweepAll(1, policy()); n != 0 {
			r.Errorf("a round of single steps deletes %d more", n)
		}
	}},
	{"anEmptyTable", func(r *rig) {
		if n, steps := r.sweepAll(5, policy()); n != 0 || steps != 1 {
			r.Errorf("%d deleted in %d steps", n, steps)
		}
	}},
	{"auditRows", func(r *rig) {
		u := r.user()
		for range 5 {
			r.login(u)
		}
		r.clock.Advance(day)
		r.login(u)
		r.clock.Advance(day + tick)
		before := len(r.events(audit.Filter{}))
		deleted := 0
		for {
			n := got(r.SweepAudit(r.Context(), 2*day, 2))(r)
			if n > 2 {
				r.Fatalf("%d deleted in a step of 2", n)
			}
			if deleted += n; n == 0 {
				break
			}
		}
		left := r.events(audit.Filter{})
		if deleted < 6 || deleted+len(left) != before || len(left) != 1 {
			r.Errorf("of %d events %d were deleted and %d are left, want the 1 that is not older than two days", before, deleted, len(left))
		}
	}},
}
