package limit_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"example.com/authserver/internal/limit"
)

func TestGate_shedsAtOnceWhenTheQueueIsFull(t *testing.T) {
	g := limit.NewGate(1, 1)
	leave, err := g.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan func())
	go func() {
		second, err := g.Enter(t.Context())
		if err != nil {
			t.Error(err)
		}
		entered <- second
	}()
	for g.Waiting() == 0 { // the goroutine above takes the one place in the queue
	}
	if _, err := g.Enter(t.Context()); !errors.Is(err, limit.ErrFull) {
		t.Fatalf("third caller: %v, want ErrFull", err)
	}
	leave()
	second := <-entered
	if g.Inside() != 1 {
		t.Fatalf("%d inside, want 1", g.Inside())
	}
	second()
	if g.Inside() != 0 || g.Waiting() != 0 {
		t.Fatal("the gate is not empty at the end")
	}
}

func TestGate_aCallerThatGivesUpLeavesItsPlace(t *testing.T) {
	g := limit.NewGate(1, 1)
	leave, _ := g.Enter(t.Context())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Enter(gone); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if g.Waiting() != 0 {
		t.Fatal("the place in the queue was not given back")
	}
	leave()
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":             "192.0.2.7",
		"::ffff:192.0.2.7":      "192.0.2.7",
		"2001:db8:1:2:3:4:5:6":  "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":   "2001:db8:1:2::/64",
		"fe80::1%eth0":          "fe80::/64",
		"2001:0DB8:0001:2::abc": "2001:db8:1:2::/64",
	} {
		if got := limit.Network(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Network(%s) = %s, want %s", addr, got, want)
		}
	}
	if got := limit.Network(netip.Addr{}); got != "unknown" {
		t.Errorf("no address: %s", got)
	}
}
