package keys

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// heldBy tells what Weigh makes of a verifier that fetched at one instant.
func heldBy(e Evidence, userAgent string) (h Holder) {
	for _, h = range e.Holders {
		if h.UserAgent == userAgent {
			return h
		}
	}
	return Holder{}
}

func TestWeigh_aNewKeyLeavesBehindWhoDidNotFetchSince(t *testing.T) {
	d := open4test(t, quick())
	before, err := d.ring.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	fetched := func(name string, set JWKS) Verifier {
		return Verifier{Network: "10.0.0.1", UserAgent: name, ETag: set.ETag, SetAt: set.ChangedAt, FirstAt: d.now(), FetchedAt: d.now()}
	}
	weigh := func(list ...Verifier) (Evidence, Status) {
		t.Helper()
		s, err := d.custodian.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return Weigh(s, list, d.policy), s
	}
	slow, quick := fetched("slow", before), fetched("quick", before)
	e, s := weigh(slow, quick)
	if e.Newest != 2 || e.Older != 0 || !e.ChangedAt.Equal(before.ChangedAt) {
		t.Fatalf("with one set: %+v", e)
	}
	for _, k := range s.Keys {
		if k.InJWKS && e.Held[k.KID] != 2 {
			t.Errorf("%s is held by %d, want 2", k.KID, e.Held[k.KID])
		}
	}

	d.after(t, d.policy.standbyAfter()+time.Second) // the standbys are published
	now, err := d.ring.JWKS()
	if err != nil || !now.ChangedAt.After(before.ChangedAt) {
		t.Fatalf("the set changed at %s, before that at %s: %v", now.ChangedAt, before.ChangedAt, err)
	}
	quick = fetched("quick", now)
	others := fetched("", now)
	others.Network = ""
	e, s = weigh(quick, slow, others)
	if e.Newest != 1 || e.Older != 1 || e.Unknown != 1 || e.Holders[0].UserAgent != "slow" {
		t.Fatalf("with a standby: %+v", e)
	}
	var standbys []string
	for _, k := range s.Keys {
		if k.State == Published && k.Purpose == Sign {
			standbys = append(standbys, k.KID)
			if e.Held[k.KID] != 1 {
				t.Errorf("the standby %s is held by %d, want 1", k.KID, e.Held[k.KID])
			}
		}
	}
	if diff := cmp.Diff(standbys, heldBy(e, "slow").Lacks); diff != "" || len(standbys) == 0 {
		t.Errorf("what the slow one lacks (-want +got)\n%s", diff)
	}
	if h := heldBy(e, "slow"); !h.Due.Equal(slow.FetchedAt.Add(d.policy.cachedFor())) {
		t.Errorf("the slow one may keep its set until %s", h.Due)
	}
	if h := heldBy(e, "quick"); h.Holds != HoldsNewest || h.Lacks != nil || h.Trusts != nil {
		t.Errorf("the quick one: %+v", h)
	}

	// A revoked key: who fetched before may still believe it.
	kid := d.signing(t, EdDSA)
	d.move(time.Second)
	if _, err := d.custodian.Revoke(t.Context(), operator, kid, false); err != nil {
		t.Fatal(err)
	}
	e, _ = weigh(quick, slow)
	if h := heldBy(e, "quick"); h.Holds != HoldsOlder || cmp.Diff([]string{kid}, h.Trusts) != "" || h.Lacks != nil {
		t.Errorf("after the revocation: %+v", h)
	}
	d.ring.tend(t.Context())
	after, err := d.ring.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	e, _ = weigh(fetched("quick", after), slow)
	if h := heldBy(e, "quick"); h.Holds != HoldsNewest || h.Trusts != nil {
		t.Errorf("after it fetched again: %+v", h)
	}
	if h := heldBy(e, "slow"); cmp.Diff([]string{kid}, h.Trusts) != "" {
		t.Errorf("the slow one trusts %v", h.Trusts)
	}
}
