package keys

import (
	"errors"
	"testing"
	"time"

	"example.com/authserver/internal/fault"
	"pgregory.net/rapid"
)

// world is a ring with an operator who does anything at any time, nodes that
// sleep, and verifiers that cache the key set for as long as its header allows
// and never ask again for a kid they do not know.
type world struct {
	*rapid.T
	*hands
	store     *memory
	policy    Policy
	masters   MasterKeys
	custodian *Custodian

	emergency map[string]bool // kids that were told to sign before their lead was over
	tokens    []signed
	sets      []served
}

type signed struct {
	kid string
	exp time.Time
}

type served struct {
	at   time.Time
	kids map[string]bool
}

func (w *world) turn() {
	ring, _ := w.store.ReadRing(w.Context())
	steps := Plan(ring, ring.StoreNow, w.policy)
	if len(steps) == 0 {
		return
	}
	change, err := smith{w.masters, w.policy.RSABits}.carryOut(ring, steps, By{}, w.now)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.store.ChangeRing(w.Context(), change); err != nil {
		w.Fatal(err)
	}
	again, _ := w.store.ReadRing(w.Context())
	for _, step := range steps {
		for _, more := range Plan(again, again.StoreNow, w.policy) {
			if more.Do == step.Do && more.Key.Name() == step.Key.Name() {
				w.Fatalf("carried out, the step %q is asked for again", wanted([]Step{step}))
			}
		}
	}
}

func (w *world) operate() {
	ctx := w.Context()
	a := rapid.SampledFrom([]Algorithm{"", ES256, EdDSA}).Draw(w.T, "algorithm")
	var err error
	switch rapid.SampledFrom([]string{"", "", "rotate", "rotate at", "cancel", "back", "root", "revoke", "longer"}).Draw(w.T, "act") {
	case "rotate":
		_, err = w.custodian.Rotate(ctx, operator, a, time.Time{})
	case "rotate at":
		in := time.Duration(rapid.Int64Range(0, int64(w.policy.RotateEvery)).Draw(w.T, "in"))
		_, err = w.custodian.Rotate(ctx, operator, a, w.now().Add(in))
	case "cancel":
		_, err = w.custodian.CancelRotation(ctx, operator, a)
	case "back":
		_, err = w.custodian.Back(ctx, operator, a)
	case "root":
		_, err = w.custodian.RotateRefresh(ctx, operator)
	case "longer":
		w.policy.TokenLife += time.Hour
		w.custodian.policy = w.policy
		w.turn() // a node that lets tokens live longer extends its keys before it signs
	case "revoke":
		var standing []string
		for _, l := range w.lives() {
			if l.Stands(w.now()) {
				standing = append(standing, l.Key.KID)
			}
		}
		// By place, not by kid: kids are random, and a failure must be found again.
		kid := standing[rapid.IntRange(0, len(standing)-1).Draw(w.T, "which")]
		_, err = w.custodian.Revoke(ctx, operator, kid, rapid.Bool().Draw(w.T, "compromised"))
		for _, l := range w.lives() {
			if l.Key.ActiveAt != nil && l.Key.ActiveAt.Equal(w.now()) && l.Key.ActiveAt.Before(l.Key.PublishedAt.Add(w.policy.Lead)) {
				w.emergency[l.Key.KID] = true
			}
		}
	}
	if err != nil && !fault.Is(err, fault.Conflict) && !(fault.Is(err, fault.InvalidRequest) && a == EdDSA) {
		w.Fatal(err)
	}
}

func (w *world) lives() []Life {
	ring, _ := w.store.ReadRing(w.Context())
	return Timeline(ring.Keys, w.policy)
}

// look checks what must hold at every instant, and signs one token with each
// active key.
func (w *world) look() {
	now, lives := w.now(), w.lives()
	active := map[Algorithm]int{}
	set := served{now, map[string]bool{}}
	revoked := map[string]bool{}
	for _, l := range lives {
		k := l.Key
		early := k.ActiveAt != nil && k.ActiveAt.Before(k.PublishedAt.Add(w.policy.Lead))
		if k.Purpose == Sign && early && !k.PublishedAt.Equal(epoch) && !w.emergency[k.KID] {
			w.Fatalf("key %s: published %s, signs from %s, less than a lead apart", k.Name(), k.PublishedAt, k.ActiveAt)
		}
		switch state := l.State(now); {
		case state == Active:
			active[k.Algorithm]++
			if len(k.Sealed) == 0 {
				w.Fatalf("key %s is active and erased", k.Name())
			}
			if k.Purpose == Sign {
				w.tokens = append(w.tokens, signed{k.KID, now.Add(w.policy.TokenLife)})
			}
		case state == Revoked:
			revoked[k.KID] = true
		}
		if k.Purpose == Sign && l.Stands(now) {
			set.kids[k.KID] = true
		}
	}
	for _, a := range []Algorithm{ES256, RootMAC} {
		if active[a] != 1 {
			w.Fatalf("%d active keys of %s, want 1", active[a], a)
		}
	}
	if active[EdDSA] > 1 {
		w.Fatalf("%d active keys of EdDSA", active[EdDSA])
	}
	if len(set.kids) == 0 {
		w.Fatal("the key set is empty")
	}
	w.sets = append(w.sets, set)

	cached := w.policy.MaxAge + w.policy.staleWhileRevalidate()
	for len(w.sets) > 0 && now.Sub(w.sets[0].at) > cached {
		w.sets = w.sets[1:]
	}
	var alive []signed
	for _, token := range w.tokens {
		if !now.Before(token.exp) || revoked[token.kid] {
			continue
		}
		alive = append(alive, token)
		for _, set := range w.sets {
			if !set.kids[token.kid] && !w.emergency[token.kid] {
				w.Fatalf("at %s a verifier that fetched at %s does not know the key %s of a token good until %s",
					now, set.at, token.kid, token.exp)
			}
		}
	}
	w.tokens = alive
}

// Two months of anything: at every instant there is one active key, keys wait
// their lead, the set is never empty, and no verifier meets a kid it does not
// hold, emergencies excepted.
func TestPlan_twoMonthsOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := DefaultPolicy()
		p.Algorithms = []Algorithm{ES256}
		p.MaxAge = 12 * time.Hour
		p.Lead = 2*p.MaxAge + time.Duration(rapid.Int64Range(0, 48).Draw(rt, "lead"))*time.Hour
		p.RotateEvery = p.Lead + time.Duration(rapid.Int64Range(0, 300).Draw(rt, "rotate"))*time.Hour
		p.TokenLife = 6 * time.Hour
		if err := p.Validate(); err != nil {
			rt.Fatal(err)
		}
		clock := newHands()
		w := &world{T: rt, hands: clock, store: newMemory(clock.now), policy: p, masters: masters(), emergency: map[string]bool{}}
		w.custodian = NewCustodian(w.store, w.masters, p, clock.now)
		w.turn()
		w.look()
		later := rapid.IntRange(0, 60).Draw(rt, "day of the second algorithm")
		for d := range 60 {
			if d == later {
				w.policy.Algorithms = []Algorithm{ES256, EdDSA}
				w.custodian.policy = w.policy
			}
			asleep := rapid.IntRange(0, 4).Draw(rt, "asleep") == 0
			hour := rapid.IntRange(0, 5).Draw(rt, "hour")
			for h := range 6 {
				w.move(4*time.Hour - time.Duration(h)*time.Minute)
				if !asleep {
					w.turn()
				}
				if h == hour {
					w.operate()
				}
				w.look()
			}
		}
	})
}

func TestCustodian_givesUpWhenTheRingNeverHoldsStill(t *testing.T) {
	d := open4test(t, quick())
	var meddle func()
	meddle = func() {
		d.store.mu.Lock()
		d.store.ring.Revision++
		d.store.meddle = meddle
		d.store.mu.Unlock()
	}
	d.store.meddle = meddle
	_, err := d.custodian.Rotate(t.Context(), operator, "", time.Time{})
	if !fault.Is(err, fault.Conflict) || !errors.Is(err, ErrRingChanged) {
		t.Fatalf("got %v, want a conflict", err)
	}
}
