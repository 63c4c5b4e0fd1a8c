package keys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/fault"
)

func kidsOf(t *testing.T, r *Ring) []string {
	t.Helper()
	set, err := r.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct{ Keys []JWK }
	if err := json.Unmarshal(set.Body, &parsed); err != nil {
		t.Fatal(err)
	}
	var kids []string
	for _, k := range parsed.Keys {
		kids = append(kids, k.KID)
	}
	return kids
}

func TestRing_tenNodesOnAnEmptyStoreAgree(t *testing.T) {
	for range 20 {
		d := &desk{hands: newHands(), masters: masters(), policy: quick()}
		d.store = newMemory(d.now)
		nodes := make([]*Ring, 10)
		var all sync.WaitGroup
		for i := range nodes {
			nodes[i] = d.node()
			all.Go(func() {
				if err := nodes[i].Start(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if d.store.changes != 1 || len(d.store.ring.Keys) != 3 {
			t.Fatalf("%d changes made %d keys, want 1 and 3", d.store.changes, len(d.store.ring.Keys))
		}
		first, _ := nodes[0].JWKS()
		kid, _, _, _ := nodes[0].Signer("")
		for _, n := range nodes {
			set, err := n.JWKS()
			if err != nil || !bytes.Equal(set.Body, first.Body) || set.ETag != first.ETag {
				t.Fatalf("two nodes show different sets: %v", err)
			}
			if k, _, _, err := n.Signer(""); err != nil || k != kid {
				t.Fatalf("one signs with %s, another with %s (%v)", kid, k, err)
			}
		}
	}
}

func TestRing_signsForThirtySecondsAfterItsLastRead(t *testing.T) {
	d := open4test(t, quick())
	number, root, err := d.ring.ActiveRoot()
	if err != nil || number != 1 || root.Len() != 32 {
		t.Fatalf("root %d of %d bytes: %v", number, root.Len(), err)
	}
	set, _ := d.ring.JWKS()
	d.store.breakWith(errDown)
	d.move(FreshFor)
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); err != nil {
		t.Fatalf("at the border: %v", err)
	}
	d.move(time.Nanosecond)
	_, _, _, err = d.ring.Signer("")
	if f := fault.Of(err); f.Code != fault.Unavailable || f.RetryAfter == 0 || !errors.Is(err, errDown) {
		t.Errorf("beyond it: %v, want 503 with the cause", err)
	}
	if _, _, err := d.ring.ActiveRoot(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the root key is still handed out: %v", err)
	}
	if err := d.ring.Ready(); err == nil || !strings.Contains(err.Error(), "want at most 30s") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("ready says %v", err)
	}
	for range 60 { // an hour of outage changes nothing for those who verify
		d.move(time.Minute)
		d.ring.tend(t.Context())
		if again, err := d.ring.JWKS(); err != nil || again.ETag != set.ETag {
			t.Fatalf("the key set went away: %v", err)
		}
	}
	if _, ok := d.ring.Root(1); !ok {
		t.Error("old refresh tokens can no longer be checked")
	}
	d.store.breakWith(nil)
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestRing_saysNothingBeforeItsFirstRead(t *testing.T) {
	d := open4test(t, quick())
	n := d.node()
	if _, err := n.JWKS(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("key set: %v", err)
	}
	if _, _, _, err := n.Signer(""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("signer: %v", err)
	}
	if n.Ready() == nil {
		t.Error("it is ready")
	}
	if _, _, ok := n.Public("x"); ok {
		t.Error("it knows a key")
	}
}

func TestRing_neverShowsAnEmptySet(t *testing.T) {
	d := open4test(t, quick())
	for i := range d.store.ring.Keys {
		k := &d.store.ring.Keys[i]
		*k = destroyed(*k)
	}
	d.store.ring.Revision++
	if _, err := d.ring.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if set, err := d.ring.JWKS(); !fault.Is(err, fault.Unavailable) || set.Body != nil {
		t.Fatalf("%s %v, want 503", set.Body, err)
	}
}

func TestRing_rotatesByTheClockAlone(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	d.after(t, 24*time.Hour) // the standby is published
	if got := len(kidsOf(t, d.ring)); got != 4 {
		t.Fatalf("%d keys in the set, want 4", got)
	}
	before, _ := d.ring.JWKS()
	d.after(t, 2136*time.Hour-10*time.Second)
	if d.signing(t, ES256) != first {
		t.Fatal("the successor signs too early")
	}
	// From here on nobody reads the store: the rows say it all.
	d.move(10 * time.Second)
	second := d.signing(t, ES256)
	if second == first {
		t.Fatal("the successor does not sign at its date")
	}
	if set, _ := d.ring.JWKS(); set.ETag != before.ETag {
		t.Fatal("the set changed though no key came or went")
	}
	d.move(2*time.Hour - time.Millisecond)
	if alg, key, ok := d.ring.Public(first); !ok || alg != ES256 || key == nil {
		t.Fatal("the retired key left the set early")
	}
	d.move(time.Millisecond)
	set, _ := d.ring.JWKS()
	if set.ETag == before.ETag || bytes.Contains(set.Body, []byte(first)) {
		t.Fatal("the retired key stays in the set")
	}
	if _, _, ok := d.ring.Public(first); ok {
		t.Fatal("our own endpoints still take it")
	}
	d.after(t, time.Second)
	for _, k := range d.store.ring.Keys {
		if k.KID == first && len(k.Sealed) > 0 {
			t.Fatal("its material was not erased")
		}
	}
}

func TestRing_anAlgorithmConfiguredLaterWaitsItsLead(t *testing.T) {
	p := quick()
	p.Algorithms = []Algorithm{ES256}
	d := open4test(t, p)
	d.policy.Algorithms = []Algorithm{EdDSA, ES256} // and as the default at that
	d.ring = d.node()
	d.custodian = NewCustodian(d.store, d.masters, d.policy, d.now)
	if err := d.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.after(t, time.Second)
	for _, asked := range []Algorithm{"", EdDSA, ES256} {
		if _, method, _, err := d.ring.Signer(asked); err != nil || method.Alg() != "ES256" {
			t.Fatalf("%q is answered by %v (%v), want ES256 until the lead is over", asked, method, err)
		}
	}
	s, err := d.ring.Status()
	if err != nil || s.Default != ES256 || len(s.Waiting) != 1 || !s.Waiting[0].Until.Equal(epoch.Add(24*time.Hour+time.Second)) {
		t.Fatalf("status %+v (%v)", s, err)
	}
	d.after(t, 24*time.Hour)
	if _, method, _, err := d.ring.Signer(""); err != nil || method.Alg() != "EdDSA" {
		t.Fatalf("after the lead %v signs (%v)", method, err)
	}
	// Dropped from the configuration it signs until another one may.
	d.policy.Algorithms = []Algorithm{ES384}
	d.ring = d.node()
	if err := d.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, method, _, err := d.ring.Signer(""); err != nil || method.Alg() != "ES256" {
		t.Fatalf("with nothing configured that signs: %v (%v)", method, err)
	}
}

func TestRing_longerTokensWaitForTheRowsToSaySo(t *testing.T) {
	d := open4test(t, quick())
	d.policy.TokenLife = time.Hour
	n := d.node()
	before := d.store.ring.Revision
	if err := n.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.store.ring.Revision != before {
		t.Error("who only looks has changed the keys")
	}
	if _, _, _, err := n.Signer(""); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("it signs tokens that outlive their key: %v", err)
	}
	// The lease is another node's: this step does not need it.
	d.store.leases[planLease] = lease{"somebody", d.now().Add(time.Hour)}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := n.Signer(""); err != nil {
		t.Fatal(err)
	}
}

func TestRing_leavesThePlanToTheHolderOfTheLease(t *testing.T) {
	d := open4test(t, quick())
	d.move(25 * time.Hour)
	d.store.leases[planLease] = lease{"somebody", d.now().Add(time.Minute)}
	d.ring.tend(t.Context())
	if len(kidsOf(t, d.ring)) != 2 {
		t.Fatal("it acted without the lease")
	}
	d.move(time.Minute) // somebody died
	d.ring.tend(t.Context())
	if len(kidsOf(t, d.ring)) != 4 {
		t.Fatal("nobody acts")
	}
}

func TestRing_readsAgainAfterAFailoverThatLostAChange(t *testing.T) {
	d := open4test(t, quick())
	lost := d.store.ring
	lost.Keys = slices.Clone(lost.Keys)
	if _, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{}); err != nil {
		t.Fatal(err)
	}
	d.ring.tend(t.Context())
	if len(kidsOf(t, d.ring)) != 3 {
		t.Fatal("the standby is not shown")
	}
	lost.Revision = d.store.ring.Revision // the promoted replica came to the same number by another way
	d.store.ring = lost
	d.ring.tend(t.Context())
	if len(kidsOf(t, d.ring)) != 2 {
		t.Fatal("it shows a key that is no longer in the store")
	}
}

func TestRing_hotPathsDoNotAllocate(t *testing.T) {
	d := open4test(t, quick())
	for name, call := range map[string]func(){
		"Signer":     func() { d.ring.Signer("") },
		"ActiveRoot": func() { d.ring.ActiveRoot() },
		"Root":       func() { d.ring.Root(1) },
		"JWKS":       func() { d.ring.JWKS() },
		"Now":        func() { d.ring.Now() },
	} {
		if n := testing.AllocsPerRun(100, call); n > 0 {
			t.Errorf("%s allocates %.0f times", name, n)
		}
	}
}

func TestRing_everyReaderMayComeAtOnce(t *testing.T) {
	d := open4test(t, quick())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, _, _, err := d.ring.Signer(EdDSA); err != nil {
					t.Error(err)
				}
				d.ring.ActiveRoot()
				d.ring.JWKS()
				d.ring.Public("x")
			}
		})
	}
	for range 100 {
		d.move(time.Millisecond)
		d.ring.read(t.Context())
		if _, err := d.custodian.Rotate(t.Context(), operator, EdDSA, time.Time{}); err != nil {
			t.Error(err)
		}
		d.ring.read(t.Context())
	}
	cancel()
	all.Wait()
}
