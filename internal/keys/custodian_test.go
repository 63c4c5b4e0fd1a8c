package keys

import (
	"slices"
	"testing"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
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
	// One that was put off goes back to the same date.
	if _, err := d.custodian.Rotate(t.Context(), operator, ES256, epoch.Add(9000*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got, err := d.custodian.CancelRotation(t.Context(), operator, ES256); err != nil || !got[0].From.Equal(epoch.Add(2160*time.Hour)) {
		t.Fatalf("%+v (%v)", got, err)
	}
	if _, err := d.custodian.CancelRotation(t.Context(), operator, ""); !fault.Is(err, fault.Conflict) {
		t.Fatalf("nothing is left to cancel: %v", err)
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
