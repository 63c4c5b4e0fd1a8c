package storetest

import (
	"testing"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

// sweepAll goes once over the table in steps of limit and returns how many
// families it deleted and how many steps it took.
func (r *rig) sweepAll(limit int, p refresh.Policy) (deleted, steps int) {
	r.Helper()
	for place := refresh.Edge; ; {
		next, n, err := r.Families().Sweep(r.Context(), place, limit, p, r.clock.Now().Add(-7*day))
		r.must(err)
		deleted, steps = deleted+n, steps+1
		if n > limit {
			r.Fatalf("%d deleted in a step of %d", n, limit)
		}
		if next == refresh.Edge {
			return deleted, steps
		}
		if next <= place {
			r.Fatalf("the sweep went from %d to %d", place, next)
		}
		if steps > 100_000 { // a store may delete one in a step
			r.Fatal("the sweep does not end")
		}
		place = next
	}
}

// SweepAround sweeps what was dead before an instant from a random place to the end of
// the table, and from its beginning to the end. It returns how many families it
// deleted, how many steps were not the last, and how many the greatest deleted.
func SweepAround(t testing.TB, families refresh.Store, limit int, p refresh.Policy, before time.Time) (deleted, steps, most int) {
	t.Helper()
	for place, turned := refresh.Anywhere, false; ; steps++ {
		next, n, err := families.Sweep(t.Context(), place, limit, p, before)
		if err != nil {
			t.Fatal(err)
		}
		deleted, most = deleted+n, max(most, n)
		if next == refresh.Edge && turned {
			return deleted, steps, most
		}
		if place != refresh.Anywhere && next != refresh.Edge && next <= place {
			t.Fatalf("the sweep went from %d to %d", place, next)
		}
		place, turned = next, turned || next == refresh.Edge
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
	{"inBoundedSteps", func(r *rig) {
		var all []refresh.Family
		for range 6 {
			u := r.user()
			for range 4 {
				all = append(all, r.login(u))
			}
		}
		var ended []refresh.Family
		for i, f := range all {
			if i%2 == 0 {
				logout(r, f)
				ended = append(ended, f)
			}
		}
		r.clock.Advance(8 * day)

		if n, steps := r.sweepAll(5, policy()); n != len(ended) || steps < 3 {
			r.Errorf("%d deleted in %d steps of at most five, want %d", n, steps, len(ended))
		}
		for i, f := range all {
			if r.stands(f) != (i%2 == 1) {
				r.Errorf("family %d of %d stands: %t", i, len(all), r.stands(f))
			}
		}
		if n, steps := r.sweepAll(5, policy()); n != 0 || steps != 1 {
			r.Errorf("a second round deletes %d more in %d steps, want none in one", n, steps)
		}
	}},
	{"aroundFromAnywhere", func(r *rig) {
		const ended = 12
		for range ended {
			logout(r, r.login(r.user()))
		}
		r.clock.Advance(8 * day)
		if deleted, _, _ := SweepAround(r.T, r.Families(), 5, policy(), r.clock.Now().Add(-7*day)); deleted != ended {
			r.Errorf("%d deleted from a random place to the end and from the beginning on, want %d", deleted, ended)
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
			n := got(r.SweepAudit(r.Context(), r.clock.Now().Add(-2*day), 2))(r)
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
