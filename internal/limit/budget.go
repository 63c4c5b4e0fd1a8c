package limit

import (
	"context"
	"crypto/sha256"
	"time"
)

// Budget names one security counter of failures: 16 bytes of SHA-256 over what
// is counted, so that the table of counters holds no addresses.
type Budget [16]byte

// BudgetOf names the counter of one kind over the given parts.
func BudgetOf(kind string, parts ...string) Budget {
	h := sha256.New()
	h.Write([]byte(kind))
	for _, p := range parts {
		h.Write([]byte{0})
		h.Write([]byte(p))
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return Budget(sum[:16])
}

// Allowance is how many failures a budget takes before it makes one wait, and
// how the waiting grows. A budget is forgotten Forget after its last failure.
type Allowance struct {
	Free    int           // failures without a wait
	First   time.Duration // the wait after the Free-th failure, doubled by each further one
	Longest time.Duration // the longest wait, an hour at most: see ClosedAtMost
	Forget  time.Duration
}

// ClosedAtMost is for how long a budget may be closed. One that is closed for longer
// was closed by a clock that has been set back since, and is open.
const ClosedAtMost = time.Hour + time.Minute

// Wait returns how long a budget stays closed after its n-th failure.
func (a Allowance) Wait(n int) time.Duration {
	if n < a.Free {
		return 0
	}
	wait := a.First
	for range n - a.Free {
		if wait *= 2; wait >= a.Longest {
			return a.Longest
		}
	}
	return min(wait, a.Longest)
}

// Charge is one budget with its allowance.
type Charge struct {
	Budget    Budget
	Allowance Allowance
}

// Ledger keeps budgets where every node sees them. Errors are trouble.
type Ledger interface {
	// Charge counts a failure on every given budget before it has happened, in
	// one transaction under the rows' locks, so that parallel guesses cannot
	// pass together. When any of them is closed, nothing is counted and the
	// longest wait is returned.
	Charge(ctx context.Context, charges []Charge) (wait time.Duration, err error)
	// Closed returns how long the longest closed of these budgets stays closed;
	// 0 when all are open. It counts nothing.
	Closed(ctx context.Context, budgets []Budget) (wait time.Duration, err error)
	// Refund takes one failure back from each budget, and its wait: the
	// failure that was charged for did not happen.
	Refund(ctx context.Context, budgets []Budget) error
	// Forget deletes the budgets: whoever was guessing was the owner.
	Forget(ctx context.Context, budgets []Budget) error
	// SweepBudgets deletes at most limit forgotten budgets and returns how many.
	SweepBudgets(ctx context.Context, limit int) (int, error)
}
