package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// RotateSQL are the statements of RotateBatch, the ordinary one first.
var RotateSQL = []string{rotateBatch, rotateNewcomers}

// BatchSettings are what that plan is made under.
const BatchSettings = batchSettings

// SweepSQL are the statements of Families.Sweep.
var SweepSQL = map[string]string{"look": sweepLook, "dead": sweepDead}

// OldestTransaction is the age that doctor judges.
func (db *DB) OldestTransaction(ctx context.Context) (age time.Duration, err error) {
	err = db.read(ctx, "doctor.look", func(ctx context.Context, c *pgxpool.Conn) error {
		v, err := readVitals(ctx, c)
		age = v.oldest
		return err
	})
	return age, err
}

// HeldByBatches returns how many connections the batches have.
func (db *DB) HeldByBatches() int { return int(db.batch.Stat().TotalConns()) }
