package sqlite

import (
	"context"
	"time"

	"example.com/authserver/internal/limit"
)

// Ledger implements limit.Ledger.
type Ledger struct{ db *DB }

// Charge implements limit.Ledger. The write lock stands for the locks on the
// rows: of parallel guesses each one sees the charges of those before it.
func (s Ledger) Charge(ctx context.Context, charges []limit.Charge) (wait time.Duration, err error) {
	err = s.db.write(ctx, "ledger.charge", func(t *tx) error {
		budgets := make([]limit.Budget, 0, len(charges))
		for _, c := range charges {
			budgets = append(budgets, c.Budget)
		}
		var err error
		if wait, err = t.closed(budgets, t.now); err != nil {
			return err
		}
		if wait > 0 || len(charges) == 0 {
			return errNothing
		}
		for _, c := range charges {
			if err := t.charge(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return wait, nil
}

// Closed implements limit.Ledger.
func (s Ledger) Closed(ctx context.Context, budgets []limit.Budget) (wait time.Duration, err error) {
	err = s.db.read(ctx, "ledger.closed", func(c *conn) error {
		wait, err = c.closed(budgets, s.db.now())
		return err
	})
	return wait, err
}

func (c *conn) closed(budgets []limit.Budget, now time.Time) (wait time.Duration, err error) {
	for _, b := range budgets {
		if _, err := c.one(`-- name: ledger.closed
			SELECT closed_until FROM budgets WHERE budget = ?1 AND closed_until > ?2 AND closed_until <= ?3 AND forget_at > ?2`,
			[]any{b[:], now, now.Add(limit.ClosedAtMost)}, func(r *row) { wait = max(wait, r.instant().Sub(now)) }); err != nil {
			return 0, err
		}
	}
	return wait, nil
}

// charge counts one failure. A budget that was to be forgotten begins anew.
func (t *tx) charge(c limit.Charge) error {
	var failures int64
	if _, err := t.one(`-- name: ledger.failures
		SELECT failures FROM budgets WHERE budget = ? AND forget_at > ?`,
		[]any{c.Budget[:], t.now}, func(r *row) { failures = r.integer() }); err != nil {
		return err
	}
	failures = min(failures+1, 1<<31-1)
	_, err := t.exec(`-- name: ledger.charge
		INSERT INTO budgets (budget, failures, closed_until, forget_at) VALUES (?, ?, ?, ?)
		ON CONFLICT (budget) DO UPDATE SET
			failures = excluded.failures, closed_until = excluded.closed_until, forget_at = excluded.forget_at`,
		c.Budget[:], failures, t.now.Add(c.Allowance.Wait(int(failures))), t.now.Add(c.Allowance.Forget))
	return err
}

// Refund implements limit.Ledger. Guesses that were never made leave no rows: whoever
// finds the hash queue full could otherwise fill the table, a row for each address
// that he makes up.
func (s Ledger) Refund(ctx context.Context, budgets []limit.Budget) error {
	return s.db.write(ctx, "ledger.refund", func(t *tx) error {
		for _, b := range budgets {
			if _, err := t.exec(`-- name: ledger.refund_last
				DELETE FROM budgets WHERE budget = ? AND failures <= 1`, b[:]); err != nil {
				return err
			}
			if _, err := t.exec(`-- name: ledger.refund
				UPDATE budgets SET failures = failures - 1, closed_until = min(closed_until, ?)
				WHERE budget = ?`, t.now, b[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget implements limit.Ledger.
func (s Ledger) Forget(ctx context.Context, budgets []limit.Budget) error {
	return s.db.write(ctx, "ledger.forget", func(t *tx) error { return t.forgetBudgets(budgets) })
}

func (t *tx) forgetBudgets(budgets []limit.Budget) error {
	for _, b := range budgets {
		if _, err := t.exec(`-- name: ledger.forget
			DELETE FROM budgets WHERE budget = ?`, b[:]); err != nil {
			return err
		}
	}
	return nil
}

// SweepBudgets implements limit.Ledger.
func (s Ledger) SweepBudgets(ctx context.Context, limit int) (int, error) {
	return s.db.sweep(ctx, "ledger.sweep", `-- name: ledger.sweep
		DELETE FROM budgets WHERE budget IN (
			SELECT budget FROM budgets WHERE forget_at <= ? ORDER BY forget_at LIMIT ?)`, s.db.now(), limit)
}
