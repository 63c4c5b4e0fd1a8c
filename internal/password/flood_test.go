package password

import (
	"context"
	"errors"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

func TestHasher_shedsAtOnceWhenTheQueueIsFull(t *testing.T) {
	release := make(chan struct{})
	begun := make(chan struct{}, 3)
	o := &tally{during: func() { begun <- struct{}{}; <-release }}
	h := small(t, o)
	results := make(chan error, 2)
	hash := func() { _, err := h.Hash(t.Context(), secret.NewText(staple)); results <- err }
	go hash()
	<-begun
	go hash()
	for h.Waiting() == 0 { // the one place in the queue
		runtime.Gosched()
	}
	_, err := h.VerifyEqual(t.Context(), "", secret.NewText(staple), nil)
	f := fault.Of(err)
	if f.Code != fault.Unavailable || f.RetryAfter <= 0 || f.Reason != "hash_queue_full" {
		t.Fatalf("with a full queue: %#v, want Unavailable with RetryAfter", f)
	}
	if o.shed != 1 {
		t.Fatalf("the observer was told of %d", o.shed)
	}
	if h.Inside() != 1 || h.Waiting() != 1 {
		t.Fatalf("%d inside and %d waiting, want 1 and 1", h.Inside(), h.Waiting())
	}
	close(release)
	for range 2 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if h.Inside() != 0 || h.Waiting() != 0 {
		t.Fatal("a place was not given back")
	}
}

func TestHasher_whoeverGivesUpLeavesTheQueue(t *testing.T) {
	release := make(chan struct{})
	begun := make(chan struct{}, 2)
	h := small(t, &tally{during: func() { begun <- struct{}{}; <-release }})
	first := make(chan error)
	go func() { _, err := h.Hash(t.Context(), secret.NewText(staple)); first <- err }()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error)
	go func() { _, err := h.Hash(ctx, secret.NewText(staple)); second <- err }()
	for h.Waiting() == 0 {
		runtime.Gosched()
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) {
		t.Fatalf("who gave up got %v", err)
	}
	if h.Waiting() != 0 {
		t.Fatal("still in the queue")
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if _, err := h.Hash(ctx, secret.NewText(staple)); !errors.Is(err, context.Canceled) {
		t.Fatalf("who had left before asking got %v", err)
	}
}

func TestHasher_workOnceBegunOutlivesTheCaller(t *testing.T) {
	o := &tally{}
	h := small(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	held := 0
	o.during = func() {
		cancel() // the client hangs up during the first computation
		held += h.Inside()
	}
	got, err := h.VerifyEqual(ctx, "", secret.NewText(staple), []Scheme{scheme(t, "bcrypt cost=4"), scheme(t, "scrypt ln=4,r=8,p=1")})
	if err != nil || got.Match {
		t.Fatalf("%+v, %v", got, err)
	}
	if held != 3 {
		t.Fatalf("the place was held in %d of 3 computations", held)
	}
	if h.Inside() != 0 {
		t.Fatal("the place was not given back")
	}
}

func TestHasher_memoryStaysBoundedInAFlood(t *testing.T) {
	const slots, callers = 2, 24
	var mu sync.Mutex
	var peak uint64
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	o := &tally{during: func() {
		mu.Lock()
		defer mu.Unlock()
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64()+sample[1].Value.Uint64())
	}}
	h := newHasher(Policy{Slots: slots, Queue: callers}, 1<<30, o)
	runtime.GC()
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if _, err := h.Hash(t.Context(), secret.NewText(staple)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// What the slots hold, as much garbage again, and one block in the making.
	if bound := 2*before + (2*slots+2)*DefaultMemory<<10; peak > bound {
		t.Fatalf("the heap reached %d MiB, want at most %d", peak>>20, bound>>20)
	}
}
