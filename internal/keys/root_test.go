package keys

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"example.com/authserver/internal/secret"
)

func TestRing_aNewRootKeyIsKnownBeforeItIsUsed(t *testing.T) {
	d := open4test(t, quick())
	r, err := d.custodian.RotateRefresh(t.Context(), operator)
	if err != nil || r.Number != 2 || r.From.Sub(d.now()) != time.Minute {
		t.Fatalf("%+v (%v)", r, err)
	}
	d.after(t, 30*time.Second)
	if n, _, _ := d.ring.ActiveRoot(); n != 1 {
		t.Fatal("it is used before every node can know it")
	}
	if _, ok := d.ring.Root(2); !ok {
		t.Fatal("it is not known after a read")
	}
	d.after(t, 30*time.Second)
	if n, _, _ := d.ring.ActiveRoot(); n != 2 {
		t.Fatal("it is not used")
	}
	old, ok := d.ring.Root(1)
	if !ok || old.Len() != 32 {
		t.Fatal("old tokens cannot be checked any more")
	}
	for _, body := range []string{"refresh-1", "refresh-2"} {
		if set, _ := d.ring.JWKS(); bytes.Contains(set.Body, []byte(body)) {
			t.Fatal("a root key is in the key set")
		}
	}
	d.store.live = []int{1, 2}
	d.after(t, rootRest)
	d.after(t, 23*time.Hour)
	if _, ok := d.ring.Root(1); !ok || d.store.asked != 1 {
		t.Fatalf("asked %d times, want once a day; known: %v", d.store.asked, ok)
	}
	d.store.live = []int{2}
	d.after(t, time.Hour)
	if _, ok := d.ring.Root(1); ok || d.store.asked != 2 {
		t.Fatalf("no family names it, asked %d times: it should be erased", d.store.asked)
	}
}

func TestRing_aRunningNodeThatLacksTheMasterKeyStopsSigning(t *testing.T) {
	d := open4test(t, quick())
	other := MasterKeys{Current: secret.Random(32), Former: []secret.Bytes{d.masters.Current}}
	if n, err := NewCustodian(d.store, other, d.policy, d.now).Rewrap(t.Context(), operator); err != nil || n != 3 {
		t.Fatalf("rewrapped %d: %v", n, err)
	}
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); err != nil {
		t.Fatalf("what it read before is good for 30 s: %v", err)
	}
	d.move(31 * time.Second)
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); !errors.Is(err, ErrMasterKey) {
		t.Fatalf("ready says %v", err)
	}
	if err := d.node().Start(t.Context()); !errors.Is(err, ErrMasterKey) {
		t.Fatalf("a start without the key: %v", err)
	}
}

func TestRing_newKeysAreSealedUnderTheMasterKeyThatEveryNodeHas(t *testing.T) {
	d := open4test(t, quick())
	rolled := MasterKeys{Current: secret.Random(32), Former: []secret.Bytes{d.masters.Current}}
	n := NewRing(d.store, rolled, d.policy, d.now, nil)
	d.move(25 * time.Hour)
	n.tend(t.Context()) // publishes standbys, before anybody said rewrap
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); err != nil {
		t.Fatalf("the node that was not rolled yet: %v", err)
	}
	if len(kidsOf(t, d.ring)) != 4 {
		t.Fatal("no standby was published")
	}
}
