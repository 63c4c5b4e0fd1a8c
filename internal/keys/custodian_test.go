package keys

import (
	"bytes"
	stdx509 "crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
	"filippo.io/mldsa/x509"
)

func TestRotate_theStandbySignsAsSoonAsItsLeadAllows(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	// On the first day there is no standby: one is published and waits its lead.
	got, err := d.custodian.Rotate(t.Context(), operator, "", time.Time{})
	if err != nil || len(got) != 2 || !got[0].Published || !got[0].From.Equal(epoch.Add(24*time.Hour)) {
		t.Fatalf("%+v (%v)", got, err)
	}
	// Asking again changes nothing.
	again, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	if err != nil || again[0].Published || again[0].Number != 2 || !again[0].From.Equal(got[0].From) {
		t.Fatalf("%+v (%v)", again, err)
	}
	d.after(t, 24*time.Hour)
	second := d.signing(t, ES256)
	if second == first || second != again[0].KID {
		t.Fatalf("%s signs, want %s", second, again[0].KID)
	}
	// Once the standby stands, rotation is at once.
	d.after(t, 25*time.Hour)
	now, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	if err != nil || now[0].Published || now[0].From.After(d.now().Add(24*time.Hour)) {
		t.Fatalf("%+v (%v)", now, err)
	}
	d.after(t, 24*time.Hour)
	if d.signing(t, ES256) == second {
		t.Fatal("the third key does not sign")
	}
}

func TestRotate_notBefore(t *testing.T) {
	d := open4test(t, quick())
	at := epoch.Add(100*time.Hour + time.Nanosecond)
	got, err := d.custodian.Rotate(t.Context(), operator, ES256, at)
	if err != nil || got[0].From.Before(at) || got[0].From.Sub(at) > time.Millisecond {
		t.Fatalf("%+v (%v)", got, err)
	}
	soon, err := d.custodian.Rotate(t.Context(), operator, ES256, epoch.Add(time.Hour))
	if err != nil || !soon[0].From.Equal(epoch.Add(24*time.Hour)) {
		t.Fatalf("a date inside the lead: %+v (%v), want the end of the lead", soon, err)
	}
	if _, err := d.custodian.Rotate(t.Context(), operator, RS256, at); !fault.Is(err, fault.InvalidRequest) {
		t.Fatalf("an algorithm that is not configured: %v", err)
	}
}

func TestCancelRotation_putsTheStandbyBackOnItsTimetable(t *testing.T) {
	d := open4test(t, quick())
	if _, err := d.custodian.CancelRotation(t.Context(), operator, ""); !fault.Is(err, fault.Conflict) {
		t.Fatalf("nothing to cancel: %v", err)
	}
	first := d.signing(t, ES256)
	if _, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{}); err != nil {
		t.Fatal(err)
	}
	got, err := d.custodian.CancelRotation(t.Context(), operator, "")
	if err != nil || len(got) != 1 || !got[0].From.Equal(epoch.Add(2160*time.Hour)) {
		t.Fatalf("%+v (%v)", got, err)
	}
	d.after(t, 48*time.Hour)
	if d.signing(t, ES256) != first {
		t.Fatal("the canceled rotation took place")
	}
}

func TestBack_theFormerKeySignsAgainAndNoTokenDies(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	if _, err := d.custodian.Back(t.Context(), operator, ES256); !fault.Is(err, fault.Conflict) {
		t.Fatalf("there is nothing to go back to: %v", err)
	}
	d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	d.after(t, 24*time.Hour+time.Minute)
	second := d.signing(t, ES256)
	if second == first {
		t.Fatal("not rotated")
	}
	got, err := d.custodian.Back(t.Context(), operator, "")
	if err != nil || len(got) != 1 || got[0].KID != first || !got[0].From.Equal(d.now()) {
		t.Fatalf("%+v (%v)", got, err)
	}
	d.after(t, time.Second)
	if d.signing(t, ES256) != first {
		t.Fatal("the former key does not sign")
	}
	if _, _, ok := d.ring.Public(second); !ok {
		t.Fatal("tokens of the other key died")
	}
	if want := []string{"sign ES256 1 active", "sign ES256 2 published"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, ES256), want)
	}
	d.after(t, 2159*time.Hour)
	if d.signing(t, ES256) != first {
		t.Fatal("the timetable took the step back too soon")
	}
	d.after(t, time.Hour)
	if d.signing(t, ES256) != second {
		t.Fatal("the timetable stopped")
	}
	d.after(t, 3*time.Hour)
	if _, err := d.custodian.Back(t.Context(), operator, ES256); !fault.Is(err, fault.Conflict) {
		t.Fatalf("the former key is gone: %v", err)
	}
}

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

func TestCustodian_decidesAnewWhenSomebodyElseWasFirst(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	d.store.meddle = func() { // between the read and the write another operator revokes the key
		if _, err := d.custodian.Revoke(t.Context(), operator, first, false); err != nil {
			t.Error(err)
		}
	}
	got, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	if err != nil || got[0].Number != 3 {
		t.Fatalf("%+v (%v), want the key after the one that was made meanwhile", got, err)
	}
	if want := []string{"sign ES256 1 revoked", "sign ES256 2 active", "sign ES256 3 published"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, ES256), want)
	}
}

func TestCustodian_everyActIsAuditedBeforeAndWithTheChange(t *testing.T) {
	d := open4test(t, quick())
	first := d.signing(t, ES256)
	for _, test := range []struct {
		name string
		kind audit.Kind
		act  func() error
	}{
		{"rotate", audit.KeyActivated, func() error { _, err := d.custodian.Rotate(t.Context(), operator, ES256, time.Time{}); return err }},
		{"root", audit.KeyActivated, func() error { _, err := d.custodian.RotateRefresh(t.Context(), operator); return err }},
		{"revoke", audit.KeyRevoked, func() error { _, err := d.custodian.Revoke(t.Context(), operator, first, false); return err }},
		{"rewrap", audit.KeysRewrapped, func() error { _, err := d.custodian.Rewrap(t.Context(), operator); return err }},
	} {
		d.store.events = nil
		if err := test.act(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if len(d.store.events) < 2 {
			t.Fatalf("%s: %d events, want what was asked and what was done", test.name, len(d.store.events))
		}
		for i, e := range d.store.events {
			want := "done"
			if i == 0 {
				want = "asked"
				if e.Kind != test.kind {
					t.Errorf("%s: first event %s, want %s", test.name, e.Kind, test.kind)
				}
			}
			if e.Details["step"] != want || e.Actor != "operator:ada" || e.RequestID != "r1" || e.ID.IsZero() {
				t.Errorf("%s: event %d is %+v", test.name, i, e)
			}
		}
	}
	d.store.events = nil
	d.custodian.Revoke(t.Context(), operator, first, false)
	if len(d.store.events) != 0 {
		t.Error("a refused act is noted as asked for")
	}
}

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

func TestCustodian_leavesAFreshStoreFresh(t *testing.T) {
	d := &desk{hands: newHands(), masters: masters(), policy: quick()}
	d.store = newMemory(d.now)
	c := NewCustodian(d.store, d.masters, d.policy, d.now)
	if _, err := c.Rotate(t.Context(), operator, "", time.Time{}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("rotate: %v", err)
	}
	if d.store.changes != 0 {
		t.Fatal("the store is no longer fresh: its first keys would wait a day")
	}
}

func TestExport_whatGatewaysTake(t *testing.T) {
	p := quick()
	p.Algorithms = append(p.Algorithms, RS256, MLDSA44)
	d := open4test(t, p)
	set, _ := d.ring.JWKS()
	jwks, err := d.custodian.Export(t.Context(), "", Set)
	if err != nil || !bytes.Equal(bytes.TrimSpace(jwks), set.Body) {
		t.Fatalf("jwks: %s (%v)", jwks, err)
	}
	keys, err := d.custodian.Export(t.Context(), "", PEM)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block, rest := pem.Decode(keys); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || block.Type != "PUBLIC KEY" {
			t.Errorf("block %d, %s: %v", n, block.Type, err)
		}
		n++
	}
	if n != 4 || bytes.Contains(keys, []byte("PRIVATE")) || bytes.Contains(keys, []byte("refresh")) {
		t.Fatalf("%d blocks:\n%s", n, keys)
	}
	for _, a := range []Algorithm{ES256, RS256, EdDSA} {
		kid := d.signing(t, a)
		text, err := d.custodian.Export(t.Context(), kid, X509)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		cert, err := stdx509.ParseCertificate(block.Bytes)
		if err != nil || cert.Subject.CommonName != kid || cert.CheckSignatureFrom(cert) == nil && cert.IsCA {
			t.Fatalf("%s: %v", a, err)
		}
		if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			t.Errorf("%s: its own key does not verify it: %v", a, err)
		}
	}
	if _, err := d.custodian.Export(t.Context(), d.signing(t, MLDSA44), X509); !fault.Is(err, fault.InvalidRequest) {
		t.Errorf("ML-DSA in a certificate: %v", err)
	}
	if _, err := d.custodian.Export(t.Context(), "refresh-1", PEM); !fault.Is(err, fault.KeyNotFound) {
		t.Errorf("a root key: %v", err)
	}
	if _, err := d.custodian.Export(t.Context(), "", "der"); !fault.Is(err, fault.InvalidRequest) {
		t.Errorf("an unknown format: %v", err)
	}
}

func TestBack_movesLaterStandbysBehind(t *testing.T) {
	p := quick()
	p.TokenLife = 48 * time.Hour // the first key stays long enough to meet the third
	d := open4test(t, p)
	first := d.signing(t, ES256)
	d.custodian.Rotate(t.Context(), operator, ES256, time.Time{})
	d.after(t, 24*time.Hour)
	d.after(t, 24*time.Hour)
	if want := []string{"sign ES256 1 retiring", "sign ES256 2 active", "sign ES256 3 published"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("timetable %q, want %q", d.lines(t, Sign, ES256), want)
	}
	if _, err := d.custodian.Back(t.Context(), operator, ES256); err != nil {
		t.Fatal(err)
	}
	d.after(t, 0)
	if d.signing(t, ES256) != first {
		t.Fatal("the former key does not sign")
	}
	d.after(t, 2160*time.Hour)
	if want := []string{"sign ES256 1 retiring", "sign ES256 2 active", "sign ES256 3 published"}; !slices.Equal(d.lines(t, Sign, ES256), want) {
		t.Fatalf("one period later %q, want %q: the second before the third", d.lines(t, Sign, ES256), want)
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
