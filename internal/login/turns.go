package login

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/limit"
)

// turns lets one try of each budget be verified at a time on this node. A try
// is charged before its password is verified, so without turns a handful of
// parallel logins with the right password would look like failures to each
// other. Different budgets do not wait for one another.
type turns struct {
	mu   sync.Mutex
	open map[limit.Budget]*turn
}

type turn struct {
	gate *limit.Gate
	held int // who waits or is inside
}

// turnQueue is how many may wait for their turn; at forty hashes a second the
// last one waits some six seconds.
const turnQueue = 256

// enter waits for the turn and returns the function that passes it on. An error
// is a fault: temporarily_unavailable.
func (t *turns) enter(ctx context.Context, b limit.Budget) (leave func(), err error) {
	t.mu.Lock()
	if t.open == nil {
		t.open = make(map[limit.Budget]*turn)
	}
	mine := t.open[b]
	if mine == nil {
		mine = &turn{gate: limit.NewGate(1, turnQueue)}
		t.open[b] = mine
	}
	mine.held++
	t.mu.Unlock()

	pass, err := mine.gate.Enter(ctx)
	if err != nil {
		t.drop(b, mine)
		reason := "login_wait_ended"
		if errors.Is(err, limit.ErrFull) {
			reason = "login_queue_full"
		}
		return nil, fault.Trouble(err).After(2 * time.Second).WithReason(reason)
	}
	return func() {
		pass()
		t.drop(b, mine)
	}, nil
}

func (t *turns) drop(b limit.Budget, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.held--; mine.held == 0 {
		delete(t.open, b)
	}
}
