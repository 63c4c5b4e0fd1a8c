package login

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/limit"
)

// Wrong passwords are counted on account x network, in the store, before they
// have happened. Who is no stranger to the account has a budget that no
// stranger can use up: a network it logged in from within 90 days, or a
// request that carries one of its living tokens. So an outsider can slow down
// his own guessing and nothing else.
//
// The numbers are the same for every network, known or not, because whoever
// could tell them apart could tell whether an address has an account.
var (
	// network is for one network or one living session.
	network = limit.Allowance{Free: 10, First: time.Second, Longest: 15 * time.Minute, Forget: 24 * time.Hour}
	// strangers is for all unknown networks together: a net of many machines
	// gets a few thousand guesses a day, and then it waits.
	strangers = limit.Allowance{Free: 5000, First: time.Minute, Longest: 15 * time.Minute, Forget: 24 * time.Hour}
)

// Passwords are verified in turns. A try is charged before it is verified, so
// those on one budget go one by one: a handful of parallel logins with the
// right password would otherwise look like failures to each other. And one
// network has only a few of the places before the hash, or a single host could
// keep everybody else out.
const (
	networkTurns = 8
	turnQueue    = 256 // at forty hashes a second the last one waits some six seconds
)

// turn waits for both turns and returns the function that passes them on. An
// error is a fault: temporarily_unavailable.
func (d *Desk) turn(ctx context.Context, from string, b limit.Budget) (leave func(), err error) {
	leaveNetwork, err := d.networks.Enter(ctx, from)
	if err != nil {
		return nil, noTurn(err)
	}
	leaveBudget, err := d.budgets.Enter(ctx, b)
	if err != nil {
		leaveNetwork()
		return nil, noTurn(err)
	}
	return func() { leaveBudget(); leaveNetwork() }, nil
}

func noTurn(err error) error {
	reason := "login_wait_ended"
	if errors.Is(err, limit.ErrFull) {
		reason = "login_queue_full"
	}
	return fault.Trouble(err).After(2 * time.Second).WithReason(reason)
}

// chargesFor chooses the budgets a try is counted on. An unknown address has
// budgets, too, so that being throttled says nothing.
func chargesFor(key string, r Request, cred Credential) []limit.Charge {
	switch {
	case !r.LiveUser.IsZero() && r.LiveUser == cred.User.ID:
		return []limit.Charge{{Budget: limit.BudgetOf("login/session", key, r.LiveSession.String()), Allowance: network}}
	case cred.KnownNetwork:
		return []limit.Charge{{Budget: limit.BudgetOf("login/known", key, r.Network), Allowance: network}}
	default:
		return []limit.Charge{
			{Budget: limit.BudgetOf("login/stranger", key, r.Network), Allowance: network},
			{Budget: limit.BudgetOf("login/strangers", key), Allowance: strangers},
		}
	}
}

func (d *Desk) charge(ctx context.Context, charges []limit.Charge) error {
	wait, err := d.ledger.Charge(ctx, charges)
	if err != nil {
		return fault.Trouble(err)
	}
	if wait > 0 {
		return fault.New(fault.TooManyAttempts, "Too many wrong passwords for this account from this network.").After(wait).WithReason("throttled")
	}
	return nil
}

// refund takes back what was charged for a guess that was never made. If it
// fails, the guess stays counted and is forgotten within a day.
func (d *Desk) refund(ctx context.Context, charges []limit.Charge) {
	_ = d.ledger.Refund(context.WithoutCancel(ctx), budgets(charges))
}

func budgets(charges []limit.Charge) []limit.Budget {
	list := make([]limit.Budget, len(charges))
	for i, c := range charges {
		list[i] = c.Budget
	}
	return list
}
