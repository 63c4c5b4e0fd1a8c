package keys

import (
	"testing"
	"time"
)

// Making an RSA key takes its time. The lead counts from when others can see
// the row, so both dates move by what it took.
func TestCarryOut_theLeadBeginsWhenTheKeyIsMade(t *testing.T) {
	clock := newHands()
	slow := func() time.Time {
		clock.move(1500*time.Microsecond + time.Second)
		return clock.now()
	}
	p := quick()
	steps := Plan(StoredRing{Revision: 1, Keys: []StoredKey{row(1, at(0)), rootRow(1, at(0))}}, epoch, p)
	change, err := smith{masters(), 2048}.carryOut(StoredRing{Revision: 1}, steps, operator, slow)
	if err != nil {
		t.Fatal(err)
	}
	k := change.Insert[0]
	if want := epoch.Add(1002 * time.Millisecond); !k.PublishedAt.Equal(want) || !k.ActiveAt.Equal(want.Add(p.Lead)) {
		t.Fatalf("published %s, signs from %s, want %s and a lead later", k.PublishedAt, k.ActiveAt, want)
	}
	if change.Audit[0].Details["active_at"] != instant(*k.ActiveAt) || change.Audit[0].Details["kid"] != k.KID {
		t.Fatalf("the audit event says %v", change.Audit[0].Details)
	}
	if !steps[0].Key.PublishedAt.Equal(epoch) {
		t.Fatal("the plan itself was changed")
	}
}
