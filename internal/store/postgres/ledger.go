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

// Charge implements limit.Ledger in one round trip and one transaction. First it locks
// the rows, in the order of their bytes, and makes those that are missing, so that the
// second statement sees what every guess before it has left, and decides over all of them
// at once. A login waits for this before its hash, so the commit does not wait for the
// disk: what a crash forgets is the last guesses of half a second.
func (s Ledger) Charge(ctx context.Context, charges []limit.Charge) (wait time.Duration, err error) {
	if len(charges) == 0 {
		return 0, nil
	}
	c := newColumns(charges)
	err = s.db.atOnce(ctx, "ledger.charge", 2*time.Second, func(b *pgx.Batch) {
		wait = 0
		b.Queue(`-- name: ledger.hurry
			SELECT set_config('synchronous_commit', 'off', true)`)
		b.Queue(`-- name: ledger.lock
			INSERT INTO budgets AS b (budget, failures, closed_until, forget_at)
			SELECT budget, 0, 'epoch', COALESCE($3::timestamptz, clock_timestamp()) + forget
			FROM unnest($1::bytea[], $2::interval[]) WITH ORDINALITY AS u (budget, forget, n) ORDER BY n
			ON CONFLICT (budget) DO UPDATE SET failures = b.failures`, c.budgets, c.forget, s.db.clock())
		// Where one is closed, the rows that the first statement made go again: whoever
		// guesses from many addresses would fill the table otherwise.
		b.Queue(`-- name: ledger.charge
			WITH clock AS MATERIALIZED (SELECT COALESCE($6::timestamptz, clock_timestamp()) AS now),
			shut AS MATERIALIZED (
				SELECT max(b.closed_until - c.now) AS wait FROM budgets b, clock c
				WHERE b.budget = ANY ($1::bytea[]) AND b.failures > 0 AND b.forget_at > c.now
					AND b.closed_until > c.now AND b.closed_until <= c.now + $7::interval),
			charge AS (
				SELECT u.budget, u.free, u.first, u.longest, u.forget, c.now
				FROM unnest($1::bytea[], $2::int4[], $3::interval[], $4::interval[], $5::interval[])
					AS u (budget, free, first, longest, forget), clock c),
			counted AS (
				UPDATE budgets b SET (failures, closed_until, forget_at) = (
					SELECT n.failures,
						c.now + CASE WHEN n.failures < c.free THEN interval '0'
							ELSE least(c.longest, c.first * power(2, least(n.failures - c.free, $8::int4))) END,
						c.now + greatest(c.forget, c.longest)
					FROM (SELECT CASE WHEN b.forget_at > c.now THEN least(b.failures, 2147483646) + 1 ELSE 1 END AS failures) n)
				FROM charge c WHERE b.budget = c.budget AND (SELECT wait FROM shut) IS NULL),
			unused AS (
				DELETE FROM budgets WHERE budget = ANY ($1::bytea[]) AND failures = 0 AND (SELECT wait FROM shut) IS NOT NULL)
			SELECT COALESCE(EXTRACT(epoch FROM wait), 0)::float8 FROM shut`,
			c.budgets, c.free, c.first, c.longest, c.forget, s.db.clock(), limit.ClosedAtMost, mostDoublings).QueryRow(func(row pgx.Row) error {
			return scanWait(row, &wait)
		})
	})
	if err != nil {
		return 0, err
	}
	return wait, nil
}

// mostDoublings of any first wait are longer than any longest one, and of an hour still an
// interval: PostgreSQL multiplies before it takes the smaller one, and fails beyond.
const mostDoublings = 30

// scanWait reads seconds.
func scanWait(row pgx.Row, wait *time.Duration) error {
	var seconds float64
	err := row.Scan(&seconds)
	*wait = time.Duration(seconds * float64(time.Second))
	return err
}

// chargeColumns are charges as the statement takes them, each budget once, in
// the order of their bytes.
type chargeColumns struct {
	budgets                [][]byte
	free                   []int32
	first, longest, forget []time.Duration
}

func newColumns(charges []limit.Charge) (c chargeColumns) {
	sorted := slices.Clone(charges)
	slices.SortFunc(sorted, func(a, b limit.Charge) int { return bytes.Compare(a.Budget[:], b.Budget[:]) })
	sorted = slices.CompactFunc(sorted, func(a, b limit.Charge) bool { return a.Budget == b.Budget })
	for _, charge := range sorted {
		a := charge.Allowance
		c.budgets = append(c.budgets, charge.Budget[:])
		c.free = append(c.free, int32(min(a.Free, 1<<31-1)))
		c.first, c.longest, c.forget = append(c.first, a.First), append(c.longest, a.Longest), append(c.forget, a.Forget)
	}
	return c
}

// Closed implements limit.Ledger.
func (s Ledger) Closed(ctx context.Context, budgets []limit.Budget) (wait time.Duration, err error) {
	err = s.db.read(ctx, "ledger.closed", func(ctx context.Context, c *pgxpool.Conn) error {
		return scanWait(c.QueryRow(ctx, `-- name: ledger.closed
			SELECT COALESCE(max(EXTRACT(epoch FROM closed_until - COALESCE($2::timestamptz, now()))), 0)::float8
			FROM budgets
			WHERE budget = ANY ($1::bytea[]) AND failures > 0
				AND forget_at > COALESCE($2::timestamptz, now()) AND closed_until > COALESCE($2::timestamptz, now())
				AND closed_until <= COALESCE($2::timestamptz, now()) + $3::interval`,
			budgetBytes(budgets), s.db.clock(), limit.ClosedAtMost), &wait)
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

// Refund implements limit.Ledger. Guesses that were never made leave no rows: whoever
// finds the hash queue full could otherwise fill the table, a row for each address
// that he makes up.
func (s Ledger) Refund(ctx context.Context, budgets []limit.Budget) error {
	return s.change(ctx, "ledger.refund", budgets, `-- name: ledger.refund
		WITH held AS (
			SELECT budget, failures FROM budgets WHERE budget = ANY ($1::bytea[]) ORDER BY budget FOR UPDATE),
		empty AS (
			DELETE FROM budgets b USING held WHERE b.budget = held.budget AND held.failures <= 1)
		UPDATE budgets b SET failures = held.failures - 1, closed_until = 'epoch'
		FROM held WHERE b.budget = held.budget AND held.failures > 1`)
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
