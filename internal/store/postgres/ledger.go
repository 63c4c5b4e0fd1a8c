package postgres

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/limit"
)

// Ledger implements limit.Ledger.
type Ledger struct{ db *DB }

// Charge implements limit.Ledger. Budget rows are locked in the order of their
// bytes, those that do not stand yet included.
func (s Ledger) Charge(ctx context.Context, charges []limit.Charge) (wait time.Duration, err error) {
	if len(charges) == 0 {
		return 0, nil
	}
	allowances := make(map[limit.Budget]limit.Allowance, len(charges))
	budgets := make([][]byte, 0, len(charges))
	for _, c := range charges {
		if _, twice := allowances[c.Budget]; !twice {
			budgets = append(budgets, c.Budget[:])
		}
		allowances[c.Budget] = c.Allowance
	}
	slices.SortFunc(budgets, bytes.Compare)
	err = s.db.write(ctx, "ledger.charge", func(ctx context.Context, tx pgx.Tx) error {
		now, rows, err := s.hold(ctx, tx, budgets)
		if err != nil {
			return err
		}
		if wait = longestWait(rows, now); wait > 0 {
			return errNothing
		}
		var b pgx.Batch
		for _, row := range rows {
			a := allowances[row.budget]
			failures := row.failuresAt(now) + 1
			closedUntil := now.Add(a.Wait(failures))
			forgetAt := closedUntil
			if at := now.Add(a.Forget); at.After(forgetAt) {
				forgetAt = at
			}
			b.Queue(`-- name: ledger.count
				UPDATE budgets SET failures = $2, closed_until = $3, forget_at = $4 WHERE budget = $1`,
				row.budget[:], failures, closedUntil, forgetAt)
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	return wait, err
}

// budgetRow is one counter as it stands.
type budgetRow struct {
	budget      limit.Budget
	failures    int
	closedUntil time.Time
	forgetAt    time.Time
}

// failuresAt returns the failures that are not forgotten at now.
func (r budgetRow) failuresAt(now time.Time) int {
	if !r.forgetAt.After(now) {
		return 0
	}
	return r.failures
}

func longestWait(rows []budgetRow, now time.Time) (wait time.Duration) {
	for _, row := range rows {
		if row.failuresAt(now) > 0 {
			wait = max(wait, row.closedUntil.Sub(now))
		}
	}
	return wait
}

// hold locks the counters in order, making those that are missing, and reads
// them and then the clock. An INSERT that is told to update nothing locks the
// row all the same.
func (s Ledger) hold(ctx context.Context, tx pgx.Tx, budgets [][]byte) (now time.Time, rows []budgetRow, err error) {
	var b pgx.Batch
	b.Queue(`-- name: ledger.hold
		INSERT INTO budgets (budget, failures, closed_until, forget_at)
		SELECT b, 0, 'epoch', 'epoch' FROM unnest($1::bytea[]) WITH ORDINALITY AS u (b, n) ORDER BY n
		ON CONFLICT (budget) DO UPDATE SET failures = 0 WHERE false`, budgets)
	b.Queue(`-- name: ledger.read
		SELECT budget, failures, closed_until, forget_at FROM budgets WHERE budget = ANY ($1::bytea[]) ORDER BY budget`,
		budgets).Query(func(found pgx.Rows) error {
		rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (r budgetRow, err error) {
			var budget []byte
			err = row.Scan(&budget, &r.failures, &r.closedUntil, &r.forgetAt)
			copy(r.budget[:], budget)
			return r, err
		})
		return err
	})
	b.Queue(wallNow, s.db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	err = tx.SendBatch(ctx, &b).Close()
	return now, rows, err
}

// Closed implements limit.Ledger.
func (s Ledger) Closed(ctx context.Context, budgets []limit.Budget) (wait time.Duration, err error) {
	err = s.db.read(ctx, "ledger.closed", func(ctx context.Context, c *pgxpool.Conn) error {
		var seconds float64
		err := c.QueryRow(ctx, `-- name: ledger.closed
			SELECT COALESCE(max(EXTRACT(epoch FROM closed_until - COALESCE($2::timestamptz, now()))), 0)::float8
			FROM budgets
			WHERE budget = ANY ($1::bytea[]) AND failures > 0
				AND forget_at > COALESCE($2::timestamptz, now()) AND closed_until > COALESCE($2::timestamptz, now())`,
			budgetBytes(budgets), s.db.clock()).Scan(&seconds)
		wait = time.Duration(seconds * float64(time.Second))
		return err
	})
	return wait, err
}

func budgetBytes(budgets []limit.Budget) [][]byte {
	list := make([][]byte, 0, len(budgets))
	for _, b := range budgets {
		list = append(list, b[:])
	}
	return list
}

// Refund implements limit.Ledger.
func (s Ledger) Refund(ctx context.Context, budgets []limit.Budget) error {
	return s.change(ctx, "ledger.refund", budgets, `-- name: ledger.refund
		UPDATE budgets SET failures = greatest(failures - 1, 0), closed_until = 'epoch'
		WHERE budget IN (SELECT budget FROM budgets WHERE budget = ANY ($1::bytea[]) ORDER BY budget FOR UPDATE)`)
}

// forgetBudgets deletes counters, locking them in order.
const forgetBudgets = `-- name: ledger.forget
	DELETE FROM budgets
	WHERE budget IN (SELECT budget FROM budgets WHERE budget = ANY ($1::bytea[]) ORDER BY budget FOR UPDATE)`

// Forget implements limit.Ledger.
func (s Ledger) Forget(ctx context.Context, budgets []limit.Budget) error {
	return s.change(ctx, "ledger.forget", budgets, forgetBudgets)
}

func (s Ledger) change(ctx context.Context, name string, budgets []limit.Budget, statement string) error {
	if len(budgets) == 0 {
		return nil
	}
	return s.db.write(ctx, name, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement, budgetBytes(budgets))
		return err
	})
}

// SweepBudgets implements limit.Ledger.
func (s Ledger) SweepBudgets(ctx context.Context, limit int) (deleted int, err error) {
	err = s.db.write(ctx, "ledger.sweep", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `-- name: ledger.sweep
			DELETE FROM budgets WHERE budget IN (
				SELECT budget FROM budgets WHERE forget_at <= COALESCE($1::timestamptz, now())
				ORDER BY forget_at LIMIT $2 FOR UPDATE SKIP LOCKED)`, s.db.clock(), limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}
