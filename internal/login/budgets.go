package login

import (
	"context"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/limit"
)

// Wrong passwords are counted on account x network, in the store, before they
// have happened. Who is no stranger to the account has a budget that no
// stranger can use up: a network it logged in from within 90 days, or a
// request that carries one of its living tokens. So an outsider can slow down
// his own guessing and nothing else.
var (
	// familiar is for known networks and living tokens.
	familiar = limit.Allowance{Free: 20, First: time.Second, Longest: 5 * time.Minute, Forget: 24 * time.Hour}
	// stranger is for one unknown network.
	stranger = limit.Allowance{Free: 10, First: 2 * time.Second, Longest: time.Hour, Forget: 24 * time.Hour}
	// strangers is for all unknown networks together: a net of many machines
	// gets a few thousand guesses a day, and then it waits.
	strangers = limit.Allowance{Free: 5000, First: time.Minute, Longest: 15 * time.Minute, Forget: 24 * time.Hour}
)

// chargesFor chooses the budgets a try is counted on. An unknown address has
// budgets, too, so that being throttled says nothing.
func chargesFor(key string, r Request, cred Credential) []limit.Charge {
	switch {
	case !r.LiveUser.IsZero() && r.LiveUser == cred.User.ID:
		return []limit.Charge{{Budget: limit.BudgetOf("login/session", key, r.LiveSession.String()), Allowance: familiar}}
	case cred.KnownNetwork:
		return []limit.Charge{{Budget: limit.BudgetOf("login/known", key, r.Network), Allowance: familiar}}
	default:
		return []limit.Charge{
			{Budget: limit.BudgetOf("login/stranger", key, r.Network), Allowance: stranger},
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
