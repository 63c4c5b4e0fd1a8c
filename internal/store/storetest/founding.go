package storetest

import (
	"sync"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/store"
)

// facts are what most tests' stores were founded with.
var facts = store.Facts{Issuer: "http://localhost:8080", MasterID: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}

var schemaStories = []story{
	{"upToDate", func(r *rig) {
		s := got(r.Schema(r.Context()))(r)
		if s.Applied < 1 || s.Applied != s.Newest || s.CompatibleFrom < 1 || s.CompatibleFrom > s.Newest || len(s.Pending) != 0 || s.Check() != nil {
			r.Errorf("%+v: %v", s, s.Check())
		}
		if again := got(r.Migrate(r.Context()))(r); len(again) != 0 {
			r.Errorf("migrated again: %v", again)
		}
	}},
	{"migratedByManyAtOnce", func(r *rig) {
		atOnce(5, func(i int) {
			if applied, err := r.Migrate(r.Context()); err != nil || len(applied) > 0 {
				r.Errorf("node %d: applied %v, %v", i, applied, err)
			}
		})
	}},
	{"asksTheDatabase", func(r *rig) {
		r.must(r.Ping(r.Context()))
		if p := r.Pool(); p.Max < 1 || p.Open > p.Max+p.ServerMax || p.Busy > p.Open {
			r.Errorf("%+v", p)
		}
		if r.Name() != "postgres" && r.Name() != "sqlite" {
			r.Errorf("the engine is called %q", r.Name())
		}
		for _, f := range got(r.Doctor(r.Context()))(r) {
			if f.Setting == "" || f.Seen == "" || f.Expected == "" {
				r.Errorf("a finding without what was seen or expected: %+v", f)
			}
		}
		if b := r.Families().BatchLimits(); b.Size < 1 || b.InFlight < 1 {
			r.Errorf("%+v", b)
		}
	}},
}

var foundingStories = []story{
	{"tenAtOnceGetTheFactsOfOne", func(r *rig) {
		if f, ok, err := r.Founding().Facts(r.Context()); ok || err != nil || f != (store.Facts{}) {
			r.Fatalf("an empty store has %+v, %t, %v", f, ok, err)
		}
		var mu sync.Mutex
		seen := map[store.Facts]int{}
		atOnce(10, func(i int) {
			f, err := r.Founding().Found(r.Context(), store.Facts{Issuer: "http://localhost:8080", MasterID: [8]byte{byte(i + 1)}})
			if err != nil {
				r.Errorf("node %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			seen[f]++
		})
		f, ok, err := r.Founding().Facts(r.Context())
		if !ok || err != nil || seen[f] != 10 || f.MasterID == [8]byte{} {
			r.Errorf("%d facts; those that hold are %+v, %t, %v", len(seen), f, ok, err)
		}
		if again := got(r.Founding().Found(r.Context(), store.Facts{Issuer: "https://other.example", MasterID: [8]byte{99}}))(r); again != f {
			r.Errorf("founded again: %+v, want %+v", again, f)
		}
	}},
	{"anotherIssuer", func(r *rig) {
		got(r.Founding().Found(r.Context(), facts))(r)
		r.must(r.Founding().SetIssuer(r.Context(), "https://id.example.com", "operator:x"))
		f, ok, err := r.Founding().Facts(r.Context())
		if !ok || err != nil || f.Issuer != "https://id.example.com" || f.MasterID != facts.MasterID {
			r.Errorf("%+v, %t, %v", f, ok, err)
		}
		e := r.events(audit.Filter{Kind: audit.IssuerChanged})
		if len(e) != 1 || e[0].Actor != "operator:x" || !e[0].At.Equal(r.clock.Now()) {
			r.Errorf("the log says %+v", e)
		}
	}},
}

var leaseStories = []story{
	{"oneHolderUntilItRunsOut", func(r *rig) {
		hold := func(name, holder string, want bool) {
			r.Helper()
			if ok := got(r.Leases().Hold(r.Context(), name, holder, time.Minute))(r); ok != want {
				r.Errorf("%s holds %s: %t, want %t", holder, name, ok, want)
			}
		}
		hold("sweep", "a", true)
		hold("sweep", "b", false)
		hold("keys", "b", true) // another lease
		r.clock.Advance(time.Minute - tick)
		hold("sweep", "b", false)
		hold("sweep", "a", true) // renewed
		r.clock.Advance(time.Minute - tick)
		hold("sweep", "b", false)
		r.clock.Advance(tick)
		hold("sweep", "b", true)
		hold("sweep", "a", false)
		if until := got(r.Leases().Until(r.Context(), "sweep"))(r); !until.Equal(r.clock.Now().Add(time.Minute)) {
			r.Errorf("it runs out at %s, want a minute after %s", until, r.clock.Now())
		}
		if until := got(r.Leases().Until(r.Context(), "never held"))(r); !until.IsZero() {
			r.Errorf("what nobody held runs out at %s", until)
		}

		// A clock that was wrong for a while must not have given it away for a year.
		r.clock.Advance(365 * 24 * time.Hour)
		hold("wrong clock", "a", true)
		r.clock.Advance(-365 * 24 * time.Hour)
		hold("wrong clock", "b", true)
		hold("wrong clock", "a", false)

		r.must(r.Leases().Release(r.Context(), "sweep", "a")) // not its to give up
		hold("sweep", "a", false)
		r.must(r.Leases().Release(r.Context(), "sweep", "b"))
		hold("sweep", "a", true)
		r.must(r.Leases().Release(r.Context(), "never held", "a"))
	}},
	{"ofManyAtOnceOneHoldsIt", func(r *rig) {
		for range 5 {
			var mu sync.Mutex
			var holders []int
			atOnce(8, func(i int) {
				ok, err := r.Leases().Hold(r.Context(), "sweep", string(rune('a'+i)), time.Minute)
				if err != nil {
					r.Errorf("%v", err)
				}
				if ok {
					mu.Lock()
					defer mu.Unlock()
					holders = append(holders, i)
				}
			})
			if len(holders) != 1 {
				r.Errorf("%v hold one lease", holders)
			}
			r.clock.Advance(time.Hour)
		}
	}},
	{"keysHaveTheSame", func(r *rig) {
		first := got(r.Keys().HoldLease(r.Context(), "plan", "a", time.Minute))(r)
		other := got(r.Keys().HoldLease(r.Context(), "plan", "b", time.Minute))(r)
		again := got(r.Keys().HoldLease(r.Context(), "plan", "a", time.Minute))(r)
		r.clock.Advance(time.Minute)
		late := got(r.Keys().HoldLease(r.Context(), "plan", "b", time.Minute))(r)
		if !first || other || !again || !late {
			r.Errorf("a %t, b %t, a again %t, b later %t; want true, false, true, true", first, other, again, late)
		}
	}},
}
