package keys

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authserver/internal/fault"
)

// inBubble runs a story with a started node on the bubble's own clock.
func inBubble(t *testing.T, story func(*testing.T, *memory, *Ring)) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemory(time.Now)
		r := NewRing(store, masters(), quick(), time.Now, nil)
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		store.reads = 0
		story(t, store, r)
	})
}

// To read every family may take minutes. The ring goes on meanwhile, and does not keep
// the node from stopping.
func TestRun_readsTheRingWhileAllFamiliesAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var later atomic.Int64 // than the bubble says: a month of polls would take its time
		clock := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		store := newMemory(clock)
		store.live, store.scan = []int{2}, 5*time.Minute
		r := NewRing(store, masters(), quick(), clock, nil)
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			_ = r.Run(ctx)
			close(ended)
		}()
		supersede := func() {
			if _, err := NewCustodian(store, r.masters, r.policy, clock).RotateRefresh(t.Context(), operator); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
			later.Add(int64(rootRest))
			time.Sleep(2 * time.Second)
		}
		reads := func() (reads, scans int) {
			store.mu.Lock()
			defer store.mu.Unlock()
			return store.reads, store.asked
		}
		supersede()
		before, _ := reads()
		time.Sleep(time.Minute)
		if after, scans := reads(); r.Ready() != nil || after-before < 50 || scans != 0 {
			t.Errorf("%d reads in a minute, %d scans at their end, %v; want one a second while the scan is under way", after-before, scans, r.Ready())
		}
		time.Sleep(5 * time.Minute)
		if _, ok := r.Root(1); ok {
			t.Error("no family names it: it should be erased")
		}

		supersede()
		stopped := time.Now()
		stop()
		<-ended
		if took := time.Since(stopped); took > time.Second {
			t.Errorf("it stopped after %s", took)
		}
	})
}

func TestReread_manyUnknownNumbersAreOneReadASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		var all sync.WaitGroup
		began := time.Now()
		for range 5 {
			for range 100 {
				all.Go(func() {
					if err := r.Reread(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
		}
		all.Wait()
		if spent := time.Since(began); store.reads != 2 || spent != time.Second {
			t.Fatalf("500 calls made %d reads in %s, want 2 in a second", store.reads, spent)
		}
	})
}

func TestReread_neverAnswersFromAReadThatBeganBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		if err := r.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Another node is told to use a new root key at once, and does.
		time.Sleep(10 * time.Millisecond)
		c := NewCustodian(store, r.masters, r.policy, time.Now)
		if _, err := c.Revoke(t.Context(), operator, "refresh-1", false); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.Root(2); ok {
			t.Fatal("it is known already: this test shows nothing")
		}
		if err := r.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.Root(2); !ok {
			t.Fatal("an honest user would be logged out: the number is still unknown")
		}
	})
}

func TestReread_whoGivesUpDoesNotFailTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		store.travel = time.Second
		gone, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { r.Reread(gone) }) // leads
		time.Sleep(100 * time.Millisecond)
		all.Go(func() {
			if err := r.Reread(t.Context()); err != nil {
				t.Errorf("the patient one: %v", err)
			}
		})
		synctest.Wait() // it leads the next read, since the first has begun
		impatient, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer leave()
		all.Go(func() {
			if err := r.Reread(impatient); !fault.Is(err, fault.Unavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient one: %v", err)
			}
		})
		cancel()
		all.Wait()
	})
}

func TestReread_troubleIsTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		store.breakWith(errDown)
		if err := r.Reread(t.Context()); !fault.Is(err, fault.Unavailable) || !errors.Is(err, errDown) {
			t.Fatalf("got %v, want 503", err)
		}
	})
}

func TestRun_readsEverySecondAndOnAHint(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if store.reads != 10 {
			t.Errorf("%d reads in ten seconds", store.reads)
		}
		r.Hint()
		r.Hint()
		synctest.Wait()
		if store.reads < 11 || store.reads > 12 {
			t.Errorf("%d reads after a hint", store.reads)
		}
		if len(store.leases) != 0 || store.changes != 1 {
			t.Errorf("an idle ring writes: leases %v, %d changes", store.leases, store.changes)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRing_takesTheStoresClock(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		store.travel = 4 * time.Second
		store.now = func() time.Time { return time.Now().Add(4 * time.Second) }
		if err := r.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.Offset() != 2*time.Second || !r.Now().Equal(time.Now().Add(2*time.Second)) {
			t.Errorf("offset %s, want 2s: of the 2 to 6 that the round trip leaves open, what is nearest to the 0 before", r.Offset())
		}
		first := NewRing(store, r.masters, quick(), time.Now, nil)
		if err := first.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if first.Offset() != 4*time.Second {
			t.Errorf("offset %s, want 4s: at the first read half the round trip is allowed for", first.Offset())
		}
		if err := r.Ready(); err != nil {
			t.Errorf("4 s are bearable: %v", err)
		}
		store.now = func() time.Time { return time.Now().Add(6 * time.Second) }
		if err := r.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Ready(); err != nil {
			t.Errorf("6 s, give or take 2: %v", err)
		}
		store.travel = 0
		time.Sleep(time.Second)
		if err := r.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "off by 6s") || !strings.Contains(err.Error(), "at most 5s") {
			t.Errorf("6 s for certain: %v", err)
		}
	})
}
