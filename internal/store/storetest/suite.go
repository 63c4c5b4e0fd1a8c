// Package storetest is the common suite of the database engines: whatever the
// rooms' contracts promise is held against each engine by the same stories,
// and random histories are held against the pure rule of package refresh. It
// does not own what only one engine can do; that is tested beside the engine.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"example.com/authserver/internal/store"
)

// story is one test on a database of its own.
type story struct {
	name string
	tell func(r *rig)
}

// Run holds an engine against the suite. open opens an engine on a fresh,
// migrated database of its own that takes its time from clock; it closes the
// engine when the test ends. The tests' names have the engine's in their path.
func Run(t *testing.T, name string, open func(t testing.TB, clock *Clock) store.Engine) {
	t.Run(name, func(t *testing.T) {
		for _, room := range []struct {
			name    string
			stories []story
		}{
			{"schema", schemaStories},
			{"founding", foundingStories},
			{"leases", leaseStories},
			{"keys", ringStories},
			{"verifiers", verifierStories},
			{"accounts", accountStories},
			{"logins", loginStories},
			{"sessions", sessionStories},
			{"families", familyStories},
			{"revocations", revocationStories},
			{"concurrency", concurrencyStories},
			{"sweep", sweepStories},
			{"ledger", ledgerStories},
			{"audit", auditStories},
			{"history", historyStories},
		} {
			t.Run(room.name, func(t *testing.T) {
				for _, s := range room.stories {
					t.Run(s.name, func(t *testing.T) {
						r := newRig(t, open)
						if room.name != "founding" {
							got(r.Founding().Found(t.Context(), facts))(r)
						}
						s.tell(r)
					})
				}
			})
		}
	})
}

// rig is one test with an engine and its clock.
type rig struct {
	*testing.T
	store.Engine
	clock *Clock
	n     int // of things made so far, for names
}

func newRig(t *testing.T, open func(t testing.TB, clock *Clock) store.Engine) *rig {
	t.Helper()
	clock := NewClock()
	r := &rig{T: t, Engine: open(t, clock), clock: clock}
	if _, err := r.Migrate(t.Context()); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	t.Cleanup(r.sound)
	return r
}

// Name resolves what test and engine both have; it is the engine's.
func (r *rig) Name() string { return r.Engine.Name() }

// sound re-reads the whole database after a story and wants no violation.
func (r *rig) sound() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	violations, err := r.AuditSessions(ctx)
	if err != nil {
		r.Errorf("audit: %v", err)
	}
	for _, v := range violations {
		r.Errorf("afterwards the database violates %s: %s: %s", v.Invariant, v.Subject, v.Detail)
	}
}

// must fails the test on trouble.
func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// request returns an id that no other request of this test has.
func (r *rig) request() string {
	r.n++
	return fmt.Sprintf("request-%d", r.n)
}

// got unwraps what a store method returns and fails the test on trouble.
func got[T any](value T, err error) func(r *rig) T {
	return func(r *rig) T {
		r.Helper()
		if err != nil {
			r.Fatal(err)
		}
		return value
	}
}
