package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// tx is a transaction of the writing connection. It holds the write lock of the
// file from its beginning.
type tx struct {
	*conn
	now time.Time // the store's clock, read after the lock was had
}

var (
	errClosed  = errors.New("the database is closed")
	errNothing = errors.New("nothing to write") // rolls a transaction back without being trouble
	errNoTurn  = errors.New("the writer was not free in time")
)

// busyStep is how often a lock of another process is tried for. The server's
// transactions follow each other within microseconds, so the command line finds
// a gap only if it looks often.
const busyStep = time.Millisecond

// write runs do in one transaction and commits it durably before it returns
// nil. On any error, one of do's too, all of it is rolled back, and the
// connection is as good as new. errNothing from do rolls back and returns nil.
//
// ctx ends the waiting for the writer, and nothing after that: what has begun
// is finished, because a COMMIT that is torn off has an unknown end. A disk
// that does not answer therefore holds its caller; those who wait behind it
// are let go after busyPatience.
func (db *DB) write(ctx context.Context, name string, do func(t *tx) error) error {
	return db.writeWithin(ctx, name, busyPatience, do)
}

// writeWithin is write with another patience for the writer and for locks of
// other processes; when it ends the error is a busy one, see isBusy.
func (db *DB) writeWithin(ctx context.Context, name string, wait time.Duration, do func(t *tx) error) (err error) {
	deadline := time.Now().Add(wait)
	c, err := db.takeWriter(ctx, wait)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	healthy := false
	defer func() {
		if !healthy { // also on a panic of do
			db.hangUp(c)
			c = nil
		}
		db.writer <- c
	}()
	if err := begin(ctx, c, deadline); err != nil {
		healthy = true
		return fmt.Errorf("%s: %w", name, err)
	}
	err = do(&tx{conn: c, now: db.now()})
	if err == nil {
		if _, err = c.exec("COMMIT"); err == nil {
			healthy = true
			db.folder.afterCommit(c)
			return nil
		}
	}
	healthy = rollBack(c)
	if errors.Is(err, errNothing) {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// takeWriter waits for the one writing connection; first come, first served.
func (db *DB) takeWriter(ctx context.Context, wait time.Duration) (c *conn, err error) {
	if db.closed.Load() {
		return nil, errClosed
	}
	var open bool
	select {
	case c, open = <-db.writer:
	default:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case c, open = <-db.writer:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, fmt.Errorf("%w (waited %s)", errNoTurn, wait)
		}
	}
	if !open {
		return nil, errClosed
	}
	if c == nil { // the last one was given up
		if c, err = db.dialWriter(ctx); err != nil {
			db.writer <- nil
			return nil, err
		}
	}
	return c, nil
}

// begin takes the write lock of the file, which only another process can hold.
func begin(ctx context.Context, c *conn, deadline time.Time) error {
	for {
		_, err := c.exec("BEGIN IMMEDIATE")
		if err == nil || !isBusy(err) || !time.Now().Before(deadline) {
			return err
		}
		if err := pause(ctx, busyStep/2+rand.N(busyStep)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rollBack ends the transaction that is under way and reports whether the
// connection can be used again. Grave errors (a full disk, a failed read) may
// have rolled back already, and then there is nothing to do.
func rollBack(c *conn) bool {
	_, err := c.exec("ROLLBACK")
	if err == nil {
		return true
	}
	if _, err := c.exec("BEGIN"); err != nil { // fails inside of a transaction
		return false
	}
	_, err = c.exec("ROLLBACK")
	return err == nil
}

// read runs do on a connection of the read pool. Every statement sees all that
// was committed before it began; two statements may see two states, unless they
// run within snapshot.
func (db *DB) read(ctx context.Context, name string, do func(c *conn) error) (err error) {
	c, err := db.takeReader(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	healthy := false
	defer func() {
		if !healthy {
			db.hangUp(c)
			c = nil
		}
		db.readers <- c
	}()
	err = do(c)
	// A connection that met trouble is not worth keeping.
	if healthy = err == nil; !healthy {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// snapshot is read within one transaction: all statements see one state.
func (db *DB) snapshot(ctx context.Context, name string, do func(c *conn) error) error {
	return db.read(ctx, name, func(c *conn) error {
		if _, err := c.exec("BEGIN"); err != nil {
			return err
		}
		if err := do(c); err != nil {
			return err // the connection goes, and the transaction with it
		}
		_, err := c.exec("COMMIT")
		return err
	})
}

func (db *DB) takeReader(ctx context.Context) (c *conn, err error) {
	if db.closed.Load() {
		return nil, errClosed
	}
	var open bool
	select {
	case c, open = <-db.readers:
	default:
		timer := time.NewTimer(busyPatience)
		defer timer.Stop()
		select {
		case c, open = <-db.readers:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, fmt.Errorf("no reader was free in %s", busyPatience)
		}
	}
	if !open {
		return nil, errClosed
	}
	if c == nil {
		if c, err = db.dialReader(); err != nil {
			db.readers <- nil
			return nil, err
		}
	}
	return c, nil
}

// code returns the primary result code of an error of SQLite; 0 for others.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// isBusy reports whether somebody else held the write lock for too long.
func isBusy(err error) bool {
	return errors.Is(err, errNoTurn) || code(err) == lib.SQLITE_BUSY
}

// isRefusal reports whether SQLite refused the values of a statement, and not
// the service: a constraint, a type, a size.
func isRefusal(err error) bool {
	switch code(err) {
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG, lib.SQLITE_RANGE:
		return true
	}
	return false
}
