// Package limit owns bounds on work in one process: how many at once, how
// many may wait, how often from one network. It does not own security
// counters; those live in the store, so that every node sees them.
package limit

import (
	"context"
	"errors"
)

// ErrFull says that a Gate's queue is full. The caller sheds the request at
// once instead of letting everybody wait.
var ErrFull = errors.New("queue full")

// Gate lets a bounded number of holders in and a bounded number wait.
// It is safe for concurrent use.
type Gate struct {
	slots   chan struct{}
	tickets chan struct{} // holders and waiters together
}

// NewGate returns a gate for n concurrent holders and at most queue waiters.
func NewGate(n, queue int) *Gate {
	return &Gate{slots: make(chan struct{}, n), tickets: make(chan struct{}, n+queue)}
}

// Enter waits for a place and returns the function that gives it back, which
// must be called exactly once. It returns ErrFull at once when the queue is
// full, and ctx's error when the caller gave up waiting.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.tickets <- struct{}{}:
	default:
		return nil, ErrFull
	}
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots; <-g.tickets }, nil
	case <-ctx.Done():
		<-g.tickets
		return nil, ctx.Err()
	}
}

// Inside returns how many hold a place now.
func (g *Gate) Inside() int { return len(g.slots) }

// Waiting returns about how many wait for one.
func (g *Gate) Waiting() int { return max(0, len(g.tickets)-len(g.slots)) }
