package keys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/fault"
)

func TestRevoke_theStandbyThatVerifiersHoldTakesOver(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	d.after(t, 24*time.Hour)
	d.after(t, 24*time.Hour)
	b, err := d.custodian.Blast(t.Context(), first, false)
	if err != nil || b.State != Active || b.Successor == "" || !b.SuccessorHeld || b.CachesFor != 20*time.Minute ||
		b.CachesForAtWorst != 24*time.Hour+10*time.Minute || !b.TokensUntil.Equal(d.now().Add(10*time.Minute)) || len(b.EndFamilies) != 0 {
		t.Fatalf("%+v (%v)", b, err)
	}
	if d.store.changes != 2 {
		t.Fatal("looking changed something")
	}
	done, err := d.custodian.Revoke(t.Context(), operator, first, false)
	if err != nil || done.Successor != b.Successor {
		t.Fatalf("%+v (%v)", done, err)
	}
	d.after(t, 0)
	if d.signing(t, ES256) != b.Successor {
		t.Fatal("the standby does not sign")
	}
	if _, _, ok := d.ring.Public(first); ok || slices.Contains(kidsOf(t, d.ring), first) {
		t.Fatal("the revoked key is still taken")
	}
	for _, k := range d.store.ring.Keys {
		if k.KID == first && len(k.Sealed) > 0 {
			t.Fatal("its material was not erased")
		}
	}
	if _, err := d.custodian.Revoke(t.Context(), operator, first, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("twice: %v", err)
	}
	if _, err := d.custodian.Revoke(t.Context(), operator, "nobody", false); !fault.Is(err, fault.KeyNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestRevoke_withoutAStandbyANewKeySignsAtOnceAndItSaysWhatThatMeans(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	b, err := d.custodian.Revoke(t.Context(), operator, first, false)
	if err != nil || b.Successor != "" || !strings.Contains(strings.Join(b.Warnings, "\n"), "No standby is published") {
		t.Fatalf("%+v (%v)", b, err)
	}
	d.after(t, 0)
	if d.signing(t, ES256) == first || len(kidsOf(t, d.ring)) != 2 {
		t.Fatal("no new key signs")
	}
}

func TestRevoke_aCompromisedStoreTakesTheStandbyToo(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	d.after(t, 25*time.Hour)
	b, err := d.custodian.Revoke(t.Context(), operator, first, true)
	if err != nil || len(b.Discards) != 1 || b.Successor != "" {
		t.Fatalf("%+v (%v)", b, err)
	}
	d.after(t, 0)
	kid := d.signing(t, ES256)
	if kid == first || kid == b.Discards[0] {
		t.Fatal("a key of the compromised store signs")
	}
	if want := []string{"sign ES256 1 revoked", "sign ES256 2 revoked", "sign ES256 3 active"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, ES256), want)
	}
	if !strings.Contains(strings.Join(b.Warnings, "\n"), d.signing(t, EdDSA)) {
		t.Error("it does not name what else was in the store")
	}
}

func TestRevoke_aRootKeySaysWhichFamiliesToEnd(t *testing.T) {
	d := open4test(t, quick())
	d.custodian.RotateRefresh(t.Context(), operator)
	b, err := d.custodian.Revoke(t.Context(), operator, "refresh-1", true)
	if err != nil || !slices.Equal(b.EndFamilies, []int{1, 2}) || !b.Settled.Equal(d.now().Add(time.Minute)) {
		t.Fatalf("%+v (%v)", b, err)
	}
	d.after(t, 0)
	if n, _, err := d.ring.ActiveRoot(); n != 3 || err != nil {
		t.Fatalf("root key %d (%v), want a new one at once", n, err)
	}
	if _, ok := d.ring.Root(1); ok {
		t.Fatal("tokens under the revoked root key still pass")
	}
}

func TestRevoke_ofAnAlgorithmNoLongerConfiguredLeavesNothingBehind(t *testing.T) {
	d := open4test(t, quick())
	old := d.signing(t, EdDSA)
	d.policy.Algorithms = []Algorithm{ES256}
	d.custodian = NewCustodian(d.store, d.masters, d.policy, d.now)
	b, err := d.custodian.Revoke(t.Context(), operator, old, false)
	if err != nil || !strings.Contains(strings.Join(b.Warnings, "\n"), "not configured any more") {
		t.Fatalf("%+v (%v)", b, err)
	}
	if got := d.lines(t, Sign, EdDSA); !slices.Equal(got, []string{"sign EdDSA 1 revoked"}) {
		t.Fatalf("timetable %q", got)
	}
}

// A standby that nobody looks after would sign when its date comes, and the key before
// the revoked one would come back for ever.
func TestRevoke_theLastKeyOfAnAlgorithmTakesItsNeighboursAlong(t *testing.T) {
	d := open4test(t, quick())
	rotate := func() {
		t.Helper()
		if _, err := d.custodian.Rotate(t.Context(), operator, EdDSA, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	rotate()
	d.after(t, 24*time.Hour)
	rotate()
	if want := []string{"sign EdDSA 1 retiring", "sign EdDSA 2 active", "sign EdDSA 3 published"}; !slices.Equal(d.lines(t, Sign, EdDSA), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, EdDSA), want)
	}
	second := d.signing(t, EdDSA)
	d.policy.Algorithms = []Algorithm{ES256}
	d.custodian = NewCustodian(d.store, d.masters, d.policy, d.now)
	b, err := d.custodian.Revoke(t.Context(), operator, second, false)
	if err != nil || len(b.Discards) != 1 || b.Successor != "" {
		t.Fatalf("%+v (%v)", b, err)
	}
	want := []string{"sign EdDSA 1 gone", "sign EdDSA 2 revoked", "sign EdDSA 3 revoked"}
	for range 2 {
		if got := d.lines(t, Sign, EdDSA); !slices.Equal(got, want) {
			t.Fatalf("timetable %q, want %q", got, want)
		}
		d.move(100 * 24 * time.Hour)
	}
}

func TestRevoke_erasesInTheSameChangeAndBringsNobodyBack(t *testing.T) {
	d := open4test(t, quick())
	d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	d.after(t, 24*time.Hour)
	second := d.signing(t, ES256)
	d.move(3 * time.Hour) // the first key is gone, and every node sleeps
	if got := d.lines(t, Sign, ES256)[0]; got != "sign ES256 1 gone" {
		t.Fatal(got)
	}
	if _, err := d.custodian.Revoke(t.Context(), operator, second, false); err != nil {
		t.Fatal(err)
	}
	if want := []string{"sign ES256 1 gone", "sign ES256 2 revoked", "sign ES256 3 active"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, ES256), want)
	}
	for _, k := range d.store.ring.Keys {
		if k.Algorithm == ES256 && k.Number < 3 && len(k.Sealed) > 0 {
			t.Errorf("key %s still has material", k.Name())
		}
	}
	if _, err := d.custodian.Back(t.Context(), operator, ES256); !fault.Is(err, fault.Conflict) {
		t.Fatalf("back to a revoked or a gone key: %v", err)
	}
}

// What is announced about a revoked key is signed by a key that verifiers hold,
// until their caches hold the successor.
func TestHerald_isAKeyThatVerifiersHold(t *testing.T) {
	d := open4test(t, quick())
	herald := func() string {
		t.Helper()
		kid, _, _, err := d.ring.Herald()
		if err != nil {
			t.Fatal(err)
		}
		return kid
	}
	first := d.signing(t, ES256)
	if herald() != first {
		t.Errorf("at the founding %s signs, want the default key", herald())
	}
	d.after(t, time.Minute)
	held := kidsOf(t, d.ring)
	if _, err := d.custodian.Revoke(t.Context(), operator, first, false); err != nil {
		t.Fatal(err)
	}
	d.after(t, 0)
	successor := d.signing(t, ES256)
	if kid := herald(); kid == first || kid == successor || !slices.Contains(held, kid) {
		t.Errorf("%s announces that %s is revoked, want one of %q that stands", kid, first, held)
	}
	d.after(t, 2*quick().MaxAge)
	if herald() != successor {
		t.Errorf("%s signs when every cache holds the successor %s", herald(), successor)
	}
}
