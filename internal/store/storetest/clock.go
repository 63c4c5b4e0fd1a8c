package storetest

import (
	"sync"
	"time"
)

// Clock is a clock that stands until a test moves it. It is safe for
// concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock at some moment, to the microsecond, which is the
// grain of both stores.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 11, 5, 12, 0, 0, 123456000, time.UTC)}
}

// Now returns the time. It is what an engine's Options.Now takes.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d, backwards too, and returns the time.
func (c *Clock) Advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// Leap implements refresh.Clock: that this clock moves surprises nobody.
func (c *Clock) Leap() time.Duration { return 0 }
