package limit

import (
	"context"
	"sync"
)

// Turns is a Gate for each key: a bounded number inside and a bounded number
// waiting, and different keys do not wait for one another. It remembers only
// keys that are in use. It is safe for concurrent use.
type Turns[Key comparable] struct {
	inside, queue int

	mu   sync.Mutex
	open map[Key]*turn
}

type turn struct {
	gate *Gate
	held int // who waits or is inside
}

// NewTurns returns turns for inside concurrent holders of each key and at most
// queue waiters.
func NewTurns[Key comparable](inside, queue int) *Turns[Key] {
	return &Turns[Key]{inside: inside, queue: queue, open: make(map[Key]*turn)}
}

// Enter waits for a turn of key; as Gate.Enter.
func (t *Turns[Key]) Enter(ctx context.Context, key Key) (leave func(), err error) {
	t.mu.Lock()
	mine := t.open[key]
	if mine == nil {
		mine = &turn{gate: NewGate(t.inside, t.queue)}
		t.open[key] = mine
	}
	mine.held++
	t.mu.Unlock()

	pass, err := mine.gate.Enter(ctx)
	if err != nil {
		t.drop(key, mine)
		return nil, err
	}
	return func() {
		pass()
		t.drop(key, mine)
	}, nil
}

// Keys returns how many keys are in use.
func (t *Turns[Key]) Keys() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

func (t *Turns[Key]) drop(key Key, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.held--; mine.held == 0 {
		delete(t.open, key)
	}
}
