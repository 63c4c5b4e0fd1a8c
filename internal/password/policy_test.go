package password

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestPolicy_refusesLessThanTheFloor(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		want   string // "" for none
	}{
		{Policy{}, ""},
		{DefaultPolicy(), ""},
		{Policy{Memory: 65536, Time: 3, Parallelism: 4, Slots: 2, Queue: 100}, ""},
		{Policy{Memory: 19455}, "memory is 19455, want 19456 to 262144 KiB"},
		{Policy{Memory: 1 << 20}, "memory is 1048576"},
		{Policy{Memory: -1}, "memory is -1"},
		{Policy{Time: 1}, "time is 1, want 2 to 53 passes"},
		{Policy{Memory: 262144, Time: 53}, "memory times passes"},
		{Policy{Parallelism: -1}, "parallelism is -1, want 1 to 16"},
		{Policy{Parallelism: 17}, "parallelism is 17"},
		{Policy{Slots: -1}, "slots is -1"},
		{Policy{Queue: -1}, "queue is -1"},
	} {
		err := c.policy.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.policy, err, c.want)
		}
		if h, newErr := New(c.policy, nil); (newErr == nil) != (err == nil) || (h == nil) != (err != nil) {
			t.Errorf("%+v: New returned %v, %v", c.policy, h, newErr)
		}
	}
	if got := DefaultPolicy().scheme().String(); got != defaultScheme {
		t.Errorf("the default is %s, and called %s", got, defaultScheme)
	}
}

func TestPolicy_slotsLeaveACoreAndThreeQuartersOfTheMemory(t *testing.T) {
	const MiB, GiB = 1 << 20, 1 << 30
	for _, c := range []struct {
		policy       Policy
		cores        int
		memory       int64
		slots, queue int
	}{
		{Policy{}, 1, 8 * GiB, 1, 128},
		{Policy{}, 2, 8 * GiB, 1, 128},
		{Policy{}, 4, 8 * GiB, 3, 384},
		{Policy{}, 64, 512 * MiB, 6, 768},
		{Policy{}, 64, 64 * MiB, 1, 128},
		{Policy{Parallelism: 4}, 16, 8 * GiB, 3, 384},
		{Policy{Memory: 262144}, 64, 2 * GiB, 2, 256},
		{Policy{Slots: 5}, 2, 8 * GiB, 5, 640},
		{Policy{Slots: 5, Queue: 1}, 2, 8 * GiB, 5, 1},
	} {
		got := c.policy.sized(c.cores, c.memory)
		if got.Slots != c.slots || got.Queue != c.queue {
			t.Errorf("%+v on %d cores and %d MiB: %d slots, queue %d; want %d and %d", c.policy, c.cores, c.memory/MiB, got.Slots, got.Queue, c.slots, c.queue)
		}
	}
}

func TestBudget_largeHashesWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		giveSmall := b.take(30)
		taken := false
		done := make(chan struct{})
		go func() {
			give := b.take(100_000) // more than there is: it runs alone
			taken = true
			give()
			close(done)
		}()
		synctest.Wait()
		if taken {
			t.Fatal("a hash larger than the budget ran beside another")
		}
		giveSmall()
		<-done
		b.take(100)()
		if b.used != 0 {
			t.Fatalf("%d KiB were not given back", b.used)
		}
	})
}
