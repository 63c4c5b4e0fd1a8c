package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/authserver/internal/audit"
)

// The leases that pick the node that acts, and how long they last. They save
// work, no more: two nodes that act at once ask for the same numbers.
const (
	planLease     = "keys.plan"
	planLeaseTime = 30 * time.Second
	rootLease     = "keys.roots"
	rootLeaseTime = day
)

// restAfterFailure is how long a node leaves the plan alone after it could not
// be carried out.
const restAfterFailure = 10 * time.Second

// Start reads the ring and takes what is urgent (in a fresh store: all keys)
// until nothing urgent is left; from then on Ready tells. An error that wraps
// ErrMasterKey is final, any other one says that the store could not be used.
func (r *Ring) Start(ctx context.Context) error {
	if err := r.masters.Check(StoredRing{}); err != nil {
		return err
	}
	for range 10 {
		ring, err := r.read(ctx)
		if err != nil {
			return err
		}
		steps := urgent(r.plan(ring, r.Now()))
		if len(steps) == 0 {
			return nil
		}
		// Of ten nodes that meet an empty store one wins; the others read its keys.
		if err := r.act(ctx, ring, steps); err != nil && !errors.Is(err, ErrRingChanged) {
			return err
		}
	}
	return fmt.Errorf("start the key ring: %w ten times in a row", ErrRingChanged)
}

// Look reads the ring and acts on nothing: for whoever signs nothing, and may have other
// settings than the servers.
func (r *Ring) Look(ctx context.Context) error {
	if err := r.masters.Check(StoredRing{}); err != nil {
		return err
	}
	_, err := r.read(ctx)
	return err
}

// Run reads the ring at every poll and carries out the plan, until ctx ends.
// It owns the ring's background work and is called once.
func (r *Ring) Run(ctx context.Context) error {
	timer := time.NewTimer(r.policy.poll())
	defer timer.Stop()
	defer r.scan.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.hint:
		case l := <-r.live:
			r.retireRoots(ctx, l)
		}
		r.tend(ctx)
		timer.Reset(r.policy.poll())
	}
}

// Hint says that the stored ring may have changed; Run reads it soon. Nothing
// depends on it. It never blocks.
func (r *Ring) Hint() {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// tend is one turn of Run. What goes wrong is told to the observer and tried
// again at a later turn; a crash anywhere leaves either the old ring or the new
// one.
func (r *Ring) tend(ctx context.Context) {
	ring, err := r.read(ctx)
	if err != nil {
		return
	}
	began, now := r.clock(), r.Now()
	steps := r.plan(ring, now)
	must := urgent(steps)
	switch {
	case len(must) > 0:
		steps = must
	case began.Before(r.restFrom), !r.steady():
		return
	case len(steps) > 0:
		if !r.holds(ctx, planLease, planLeaseTime) {
			return
		}
	case restingRoots(ring, now, r.policy) && began.Sub(r.rootsAsk) >= day:
		if !r.holds(ctx, rootLease, rootLeaseTime) {
			return
		}
		r.rootsAsk = began
		r.scan.Go(func() { r.askRoots(ctx, ring, now) })
		return
	}
	r.actAndRead(ctx, ring, steps)
}

func (r *Ring) actAndRead(ctx context.Context, ring StoredRing, steps []Step) {
	if len(steps) == 0 {
		return
	}
	began := r.clock()
	if err := r.act(ctx, ring, steps); err != nil && !errors.Is(err, ErrRingChanged) {
		r.restFrom = began.Add(restAfterFailure)
		return
	}
	_, _ = r.read(ctx) // a failure is told to the observer, and the next turn reads again
}

// liveRoots is an answer of Store.LiveRoots, and the ring that was read before.
type liveRoots struct {
	ring    StoredRing
	at      time.Time
	numbers []int
	err     error
}

// askRoots reads every family, which may take minutes. The ring must not wait for it: a
// node whose ring is old does not sign.
func (r *Ring) askRoots(ctx context.Context, ring StoredRing, at time.Time) {
	numbers, err := r.store.LiveRoots(ctx)
	select {
	case r.live <- liveRoots{ring, at, numbers, err}:
	case <-ctx.Done():
	}
}

// retireRoots destroys the root keys that no family named. Where the ring has changed
// since it was read, nothing happens until the next day.
func (r *Ring) retireRoots(ctx context.Context, l liveRoots) {
	if l.err != nil {
		r.observer.RingChanged(nil, fmt.Errorf("ask which refresh root keys are in use: %w", l.err))
		return
	}
	r.actAndRead(ctx, l.ring, PlanRoots(l.ring, l.at, r.policy, l.numbers))
}

// plan is Plan, but no signing key is dated anew while the two clocks disagree: by one
// that was set back for a moment no key signs yet.
func (r *Ring) plan(ring StoredRing, now time.Time) []Step {
	steps := Plan(ring, now, r.policy)
	if r.current.Load().off <= clockTolerance {
		return steps
	}
	return slices.DeleteFunc(steps, func(s Step) bool { return s.Do == Date && s.Key.Purpose == Sign })
}

func (r *Ring) holds(ctx context.Context, lease string, ttl time.Duration) bool {
	held, err := r.store.HoldLease(ctx, lease, r.holder, ttl)
	if err != nil {
		r.observer.RingChanged(nil, fmt.Errorf("take the lease %s: %w", lease, err))
	}
	return held && err == nil
}

func (r *Ring) act(ctx context.Context, ring StoredRing, steps []Step) error {
	change, err := r.smith.carryOut(ring, steps, By{Actor: audit.BySystem}, r.clock)
	if err == nil {
		_, err = r.store.ChangeRing(ctx, change)
	}
	if err != nil {
		err = fmt.Errorf("carry out the key plan: %w", err)
	}
	r.observer.RingChanged(steps, err)
	return err
}

func urgent(steps []Step) []Step {
	var out []Step
	for _, s := range steps {
		if s.Urgent {
			out = append(out, s)
		}
	}
	return out
}
