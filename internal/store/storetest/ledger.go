package storetest

import (
	"sync/atomic"
	"time"

	"example.com/authserver/internal/limit"
)

// tight closes after the second failure.
var tight = limit.Allowance{Free: 2, First: 2 * time.Second, Longest: time.Minute, Forget: time.Hour}

func (r *rig) charge(a limit.Allowance, budgets ...limit.Budget) time.Duration {
	r.Helper()
	var charges []limit.Charge
	for _, b := range budgets {
		charges = append(charges, limit.Charge{Budget: b, Allowance: a})
	}
	return got(r.Ledger().Charge(r.Context(), charges))(r)
}

// closed charges b until it makes one wait.
func closed(r *rig, b limit.Budget) {
	r.Helper()
	for range tight.Free {
		if wait := r.charge(tight, b); wait != 0 {
			r.Fatalf("closed after fewer than %d failures: %s", tight.Free, wait)
		}
	}
}

var ledgerStories = []story{
	{"waitsDouble", func(r *rig) {
		b, a := limit.BudgetOf("login", "ada"), limit.Allowance{Free: 3, First: 2 * time.Second, Longest: 10 * time.Second, Forget: time.Hour}
		for range a.Free {
			if wait := r.charge(a, b); wait != 0 {
				r.Fatalf("a free failure waits %s", wait)
			}
		}
		for i, want := range []time.Duration{2, 4, 8, 10, 10} {
			want *= time.Second
			for range 3 { // asking does not lengthen it
				if wait := r.charge(a, b); wait != want {
					r.Fatalf("wait %d is %s, want %s", i, wait, want)
				}
			}
			r.clock.Advance(want - tick)
			if wait := r.charge(a, b); wait != tick {
				r.Fatalf("a grain before the end of wait %d: %s", i, wait)
			}
			r.clock.Advance(tick)
			if wait := r.charge(a, b); wait != 0 { // this is the next failure
				r.Fatalf("after wait %d: %s", i, wait)
			}
		}
	}},
	{"theLongestWaitIsReachedFromAnyFirst", func(r *rig) {
		b, a := limit.BudgetOf("login", "ada"), limit.Allowance{Free: 1, First: 20 * time.Minute, Longest: time.Hour, Forget: 24 * time.Hour}
		for range 70 { // doublings that no interval holds
			if wait := r.charge(a, b); wait != 0 {
				r.Fatalf("waits %s", wait)
			}
			r.clock.Advance(a.Longest)
		}
		r.charge(a, b)
		if wait := got(r.Ledger().Closed(r.Context(), []limit.Budget{b}))(r); wait != a.Longest {
			r.Errorf("the 71st failure waits %s, want %s", wait, a.Longest)
		}
	}},
	{"closedCountsNothingOnAnyBudget", func(r *rig) {
		shut, open := limit.BudgetOf("login", "shut"), limit.BudgetOf("login", "open")
		closed(r, shut)
		for range 5 {
			if wait := r.charge(tight, open, shut); wait != 2*time.Second {
				r.Fatalf("waits %s", wait)
			}
		}
		closed(r, open) // had not been charged
	}},
	{"closedCountsNothingWhereItWouldClose", func(r *rig) {
		shut, brink, fresh := limit.BudgetOf("login", "shut"), limit.BudgetOf("login", "brink"), limit.BudgetOf("login", "fresh")
		closed(r, shut)
		r.charge(tight, brink) // the next one closes it
		for range 5 {
			if wait := r.charge(tight, brink, fresh, shut); wait != 2*time.Second {
				r.Fatalf("waits %s", wait)
			}
		}
		if wait := got(r.Ledger().Closed(r.Context(), []limit.Budget{brink, fresh}))(r); wait != 0 {
			r.Errorf("what is on the brink was closed for %s by guesses that were not made", wait)
		}
		r.clock.Advance(2 * time.Second)
		if wait := r.charge(tight, brink, fresh, shut); wait != 0 {
			r.Fatalf("waits %s, want that all are open", wait)
		}
		for b, want := range map[limit.Budget]time.Duration{shut: 4 * time.Second, brink: 2 * time.Second, fresh: 0} {
			if wait := got(r.Ledger().Closed(r.Context(), []limit.Budget{b}))(r); wait != want {
				r.Errorf("waits %s after its next failure, want %s", wait, want)
			}
		}
	}},
	{"theLongestWaitIsTold", func(r *rig) {
		a, b := limit.BudgetOf("login", "a"), limit.BudgetOf("login", "b")
		slow := limit.Allowance{Free: 1, First: 30 * time.Second, Longest: time.Minute, Forget: time.Hour}
		closed(r, a)
		r.charge(slow, b)
		wait := got(r.Ledger().Charge(r.Context(), []limit.Charge{{Budget: b, Allowance: slow}, {Budget: a, Allowance: tight}}))(r)
		if wait != 30*time.Second {
			r.Errorf("waits %s, want the longer 30s", wait)
		}
	}},
	{"parallelGuessesNeverExceedTheAllowance", func(r *rig) {
		a := limit.Allowance{Free: 7, First: time.Minute, Longest: time.Hour, Forget: time.Hour}
		for round := range 3 {
			person, network := limit.BudgetOf("p", string(rune('a'+round))), limit.BudgetOf("n", string(rune('a'+round)))
			var passed atomic.Int32
			atOnce(40, func(i int) {
				charges := []limit.Charge{{Budget: person, Allowance: a}, {Budget: network, Allowance: a}}
				if i%2 == 0 { // in whatever order they are named
					charges[0], charges[1] = charges[1], charges[0]
				}
				wait, err := r.Ledger().Charge(r.Context(), charges)
				if err != nil {
					r.Errorf("charge %d: %v", i, err)
				}
				if wait == 0 && err == nil {
					passed.Add(1)
				}
			})
			if int(passed.Load()) != a.Free {
				r.Errorf("%d guesses passed together, want %d", passed.Load(), a.Free)
			}
		}
	}},
	{"refundTakesOneFailureAndItsWaitBack", func(r *rig) {
		b := limit.BudgetOf("login", "ada")
		closed(r, b)
		r.must(r.Ledger().Refund(r.Context(), []limit.Budget{b, limit.BudgetOf("login", "never charged")}))
		if wait := r.charge(tight, b); wait != 0 {
			r.Errorf("after a refund: %s", wait)
		}
		if wait := r.charge(tight, b); wait != 2*time.Second {
			r.Errorf("the refunded failure came again: %s, want 2s", wait)
		}
		for range 5 { // never below nothing
			r.must(r.Ledger().Refund(r.Context(), []limit.Budget{b}))
		}
		closed(r, b)
		if wait := r.charge(tight, b); wait != 2*time.Second {
			r.Errorf("refunds were saved up: %s", wait)
		}
	}},
	{"forget", func(r *rig) {
		a, b := limit.BudgetOf("login", "a"), limit.BudgetOf("login", "b")
		closed(r, a)
		closed(r, b)
		r.must(r.Ledger().Forget(r.Context(), []limit.Budget{a, limit.BudgetOf("login", "never charged")}))
		closed(r, a)
		if wait := r.charge(tight, b); wait == 0 {
			r.Error("the other budget was forgotten, too")
		}
		r.must(r.Ledger().Forget(r.Context(), nil))
	}},
	{"forgetsItselfAfterItsLastFailure", func(r *rig) {
		b := limit.BudgetOf("login", "ada")
		r.charge(tight, b)
		r.clock.Advance(time.Hour - time.Second)
		r.charge(tight, b) // the second failure; from here an hour
		r.clock.Advance(time.Hour - tick)
		if wait := r.charge(tight, b); wait != 0 { // the third
			r.Fatalf("long after its wait: %s", wait)
		}
		if wait := r.charge(tight, b); wait != 4*time.Second {
			r.Errorf("a grain before it is forgotten it has %s, want the third failure's 4s", wait)
		}
		r.clock.Advance(time.Hour + tick)
		closed(r, b) // a new count
	}},
	{"closedByAClockThatWasAhead", func(r *rig) {
		b := limit.BudgetOf("login", "ada")
		r.clock.Advance(30 * day)
		r.charge(tight, b)
		r.charge(tight, b)
		if wait := r.charge(tight, b); wait == 0 {
			r.Fatal("it is open: this test shows nothing")
		}
		r.clock.Advance(-30 * day)
		if wait := got(r.Ledger().Closed(r.Context(), []limit.Budget{b}))(r); wait != 0 {
			r.Errorf("closed for %s", wait)
		}
		if wait := r.charge(tight, b); wait != 0 {
			r.Errorf("a failure has to wait %s", wait)
		}
		if wait := r.charge(tight, b); wait != 4*time.Second {
			r.Errorf("after one of now %s, want the third failure's 4s", wait)
		}
	}},
	{"sweep", func(r *rig) {
		for i := range 5 {
			r.charge(tight, limit.BudgetOf("login", string(rune('a'+i))))
		}
		r.clock.Advance(time.Minute)
		young := limit.BudgetOf("login", "young")
		r.charge(tight, young)
		if n := got(r.Ledger().SweepBudgets(r.Context(), 10))(r); n != 0 {
			r.Errorf("%d swept before they are forgotten", n)
		}
		r.clock.Advance(time.Hour - time.Minute + tick)
		for _, want := range []int{3, 2, 0} {
			if n := got(r.Ledger().SweepBudgets(r.Context(), 3))(r); n != want {
				r.Errorf("%d swept by threes, want %d", n, want)
			}
		}
		r.charge(tight, young)
		if wait := r.charge(tight, young); wait == 0 {
			r.Error("the young one was swept along")
		}
	}},
}
