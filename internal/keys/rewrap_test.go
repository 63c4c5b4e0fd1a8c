package keys

import (
	"slices"
	"testing"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

func TestRewrap_movesEveryKeyToTheCurrentMasterKey(t *testing.T) {
	d := open4test(t, quick())
	before, _ := d.ring.JWKS()
	both := MasterKeys{Current: secret.Random(32), Former: []secret.Bytes{d.masters.Current}}
	c := NewCustodian(d.store, both, d.policy, d.now)
	if n, err := c.Rewrap(t.Context(), operator); n != 3 || err != nil {
		t.Fatalf("%d rows (%v), want 3", n, err)
	}
	if n, err := c.Rewrap(t.Context(), operator); n != 0 || err != nil {
		t.Fatalf("the second time %d rows (%v)", n, err)
	}
	alone := NewRing(d.store, MasterKeys{Current: both.Current}, d.policy, d.now, nil)
	if err := alone.Start(t.Context()); err != nil {
		t.Fatalf("without the former key: %v", err)
	}
	if set, _ := alone.JWKS(); set.ETag != before.ETag {
		t.Fatal("the keys are not the same")
	}
}

func TestResetMasterKeyLost_givesUpWhatIsSealedAndNothingElse(t *testing.T) {
	d := open4test(t, quick())
	if _, err := d.custodian.ResetMasterKeyLost(t.Context(), operator); !fault.Is(err, fault.Conflict) {
		t.Fatalf("nothing is lost: %v", err)
	}
	old := kidsOf(t, d.ring)
	d.masters = masters()
	d.custodian = NewCustodian(d.store, d.masters, d.policy, d.now)
	got, err := d.custodian.ResetMasterKeyLost(t.Context(), operator)
	if err != nil || len(got.Revoked) != 3 || !slices.Equal(got.EndFamilies, []int{1}) {
		t.Fatalf("%+v (%v)", got, err)
	}
	d.ring = d.node()
	if err := d.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.after(t, 0)
	for _, kid := range kidsOf(t, d.ring) {
		if slices.Contains(old, kid) {
			t.Fatal("a key that nobody can open is still shown")
		}
	}
	if n, _, _ := d.ring.ActiveRoot(); n != 2 {
		t.Fatalf("root key %d, want a new number", n)
	}
	if _, err := d.custodian.ResetMasterKeyLost(t.Context(), operator); !fault.Is(err, fault.Conflict) {
		t.Fatalf("twice: %v", err)
	}
}
