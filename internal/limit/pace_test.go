package limit_test

import (
	"strconv"
	"testing"
	"time"

	"example.com/authserver/internal/limit"
)

func TestPace_letsABurstThroughAndThenTheRate(t *testing.T) {
	p := limit.NewPace[string](10, 3)
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for range 3 {
		if wait := p.Wait("a", now); wait != 0 {
			t.Fatalf("within the burst: wait %s", wait)
		}
	}
	if wait := p.Wait("a", now); wait != 100*time.Millisecond {
		t.Errorf("beyond the burst: wait %s, want 100ms", wait)
	}
	if wait := p.Wait("b", now); wait != 0 {
		t.Errorf("another key waits %s", wait)
	}
	if wait := p.Wait("a", now.Add(100*time.Millisecond)); wait != 0 {
		t.Errorf("after the wait: %s", wait)
	}
}

// Whoever invents keys does not fill the memory.
func TestPace_memoryIsBounded(t *testing.T) {
	p := limit.NewPace[string](0.01, 1)
	now := time.Now()
	for i := range 200_000 {
		if wait := p.Wait(strconv.Itoa(i), now); wait > 0 {
			t.Fatalf("stranger %d had to wait", i)
		}
	}
	if n := p.Keys(); n > 65536 {
		t.Errorf("%d keys are remembered", n)
	}
}
