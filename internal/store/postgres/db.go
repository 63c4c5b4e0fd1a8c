package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/refresh"
)

const (
	// patience bounds every act once it has its connection. Nobody can cut it
	// short.
	patience = 15 * time.Second
	// lockPatience is how long an ordinary transaction waits for one row.
	lockPatience = 5 * time.Second
	// attempts is how often a transaction is tried when others are in its way.
	attempts = 5
)

// clock is the instant that statements use in place of now(): nil except in
// tests.
func (db *DB) clock() *time.Time {
	if db.now == nil {
		return nil
	}
	t := db.now().UTC().Truncate(time.Microsecond)
	return &t
}

// errNothing makes write roll back and report no error: there was nothing to do.
var errNothing = errors.New("nothing to write")

// read runs act on a connection. ctx bounds the wait for the connection alone;
// cutting a statement short would cost the connection.
func (db *DB) read(ctx context.Context, name string, act func(ctx context.Context, c *pgxpool.Conn) error) error {
	return db.readWithin(ctx, name, patience, act)
}

func (db *DB) readWithin(ctx context.Context, name string, bound time.Duration, act func(ctx context.Context, c *pgxpool.Conn) error) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: get a database connection: %w", name, err)
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bound)
	defer cancel()
	if err := act(ctx, conn); err != nil {
		db.mind(conn, err)
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// acquire takes a connection for an ordinary statement. Where the server grants no more of
// them and the batches have all that there are, these give theirs up: they can fly over one
// that is lent, while without any nobody could read the keys and this node would sign nothing.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := db.main.Acquire(ctx)
	if codeOf(err) != tooManyConns {
		return conn, err
	}
	// Connections that are being made count for nothing: others are refused as well.
	main, batch := db.main.Stat(), db.batch.Stat()
	if main.AcquiredConns()+main.IdleConns() > 0 || batch.TotalConns() == 0 {
		return conn, err
	}
	db.lending.Store(time.Now().Add(lendingFor).UnixNano()) // else a batch would be the quicker one again
	db.batch.Reset()
	return db.main.Acquire(ctx) // it may be too early for that: whoever asks tries again
}

// scan is read for what goes through a whole table. Nobody waits for it when ctx ends,
// which costs the connection.
func (db *DB) scan(ctx context.Context, name string, act func(ctx context.Context, c *pgxpool.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, scanPatience)
	defer cancel()
	err := db.main.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		err := act(ctx, c)
		db.mind(c, err)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// write runs act in one transaction and commits it. It is tried again, up to
// five times, when the database broke a tie against it; act must therefore
// have no effect but through tx. ctx bounds the wait for a connection; from
// then on nothing but patience ends the transaction.
//
// A crash anywhere leaves all of it or nothing.
func (db *DB) write(ctx context.Context, name string, act func(ctx context.Context, tx pgx.Tx) error) error {
	return db.writeWithin(ctx, name, lockPatience, act)
}

// writeWithin is write with another bound on the wait for each row lock;
// beyond it the error is isLocked.
func (db *DB) writeWithin(ctx context.Context, name string, lockWait time.Duration, act func(ctx context.Context, tx pgx.Tx) error) error {
	return db.transact(ctx, name, lockWait, transaction{act: func(ctx context.Context, tx pgx.Tx) (*pgx.Batch, error) { return nil, act(ctx, tx) }})
}

// transaction is what one writing transaction does. It may be done several
// times over, so it has no effect but through the database.
type transaction struct {
	// first queues statements that need nothing but their arguments: they go
	// with BEGIN, in one round trip. nil when there are none.
	first func(b *pgx.Batch)
	// act does the rest. The batch that it returns goes with COMMIT, in one
	// round trip; nil when nothing is left to do. Its statements are the last of
	// the transaction: where one fails, the server skips the COMMIT behind it.
	act func(ctx context.Context, tx pgx.Tx) (last *pgx.Batch, err error)
}

// transact is writeWithin for transactions that save round trips.
func (db *DB) transact(ctx context.Context, name string, lockWait time.Duration, t transaction) error {
	return db.tryAgain(ctx, name, func() error { return db.transactOnce(ctx, lockWait, t) })
}

// tryAgain does once more, up to five times in all, what the database broke a tie against.
func (db *DB) tryAgain(ctx context.Context, name string, once func() error) error {
	for attempt := 1; ; attempt++ {
		err := once()
		if err == nil || errors.Is(err, errNothing) {
			return nil
		}
		if !lostTie(err) || attempt == attempts {
			return fmt.Errorf("%s: %w", name, err)
		}
		if db.retried != nil {
			db.retried(name, err)
		}
		// Full jitter, so that those who met once do not meet again.
		select {
		case <-time.After(rand.N(time.Duration(attempt*attempt) * 5 * time.Millisecond)):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

func (db *DB) transactOnce(ctx context.Context, lockWait time.Duration, t transaction) error {
	return db.committing(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		tx, err := begin(ctx, conn.Conn(), lockWait, t.first)
		if err != nil {
			db.mind(conn, err)
			return err
		}
		last, err := t.act(ctx, tx)
		if err != nil {
			db.mind(conn, err)
			if back := tx.Rollback(ctx); back != nil {
				conn.Conn().Close(ctx)
			}
			return err
		}
		if err := commit(ctx, conn.Conn(), tx, last); err != nil {
			db.mind(conn, err)
			return err
		}
		return nil
	})
}

// committing runs what commits on a connection, for patience at most, and takes a warning
// of the server for an unknown end. ctx bounds the wait for the connection alone.
func (db *DB) committing(ctx context.Context, act func(ctx context.Context, conn *pgxpool.Conn) error) error {
	conn, err := db.acquire(ctx)
	if err != nil {
		return fmt.Errorf("get a database connection: %w", err)
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	forgetWarning(conn.Conn().PgConn())
	if err := act(ctx, conn); err != nil {
		return err
	}
	if err := warned(conn.Conn().PgConn()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// atOnce does the statements that queue adds in one transaction and one round trip, commit
// included: a node that is stopped, or cut off, holds their locks no longer than they take.
// So it is for rows that all nodes need. None of the statements may depend on what another
// one returns. It is tried again like any transaction, and queue is called each
// time: pgx keeps in a queued statement what it prepared for it, which is gone after an error.
func (db *DB) atOnce(ctx context.Context, name string, lockWait time.Duration, queue func(b *pgx.Batch)) error {
	return db.tryAgain(ctx, name, func() error {
		return db.committing(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
			var b pgx.Batch
			b.Queue("begin isolation level read committed")
			queueBounds(&b, lockWait)
			queue(&b)
			b.Queue("commit")
			err := conn.SendBatch(ctx, &b).Close()
			if err == nil {
				return nil
			}
			db.mind(conn, err)
			if conn.Conn().PgConn().TxStatus() != 'I' { // it failed before the COMMIT
				if _, back := conn.Exec(ctx, "rollback"); back != nil {
					conn.Conn().Close(ctx)
				}
			}
			return err
		})
	})
}

// commit ends a transaction, after the statements of last, in one round trip.
//
// A crash or a lost connection in here leaves all of it or nothing, and nobody
// knows which.
func commit(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, last *pgx.Batch) error {
	if last == nil {
		if err := tx.Commit(ctx); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		return nil
	}
	var tag pgconn.CommandTag
	last.Queue("commit").Exec(func(t pgconn.CommandTag) error {
		tag = t
		return nil
	})
	err := tx.SendBatch(ctx, last).Close()
	switch {
	case err == nil && tag.String() != "COMMIT":
		return fmt.Errorf("commit: %w, the server says %q", pgx.ErrTxCommitRollback, tag)
	case err == nil:
		return nil
	}
	if conn.PgConn().TxStatus() != 'I' { // it failed before the COMMIT
		if back := tx.Rollback(ctx); back != nil {
			conn.Close(ctx)
		}
	}
	return fmt.Errorf("the last statements and the commit: %w", err)
}

// begin opens a transaction, sets its bounds and sends its first statements,
// all in one round trip. The bounds
// are of the transaction, not of the connection, so that a pooler in between
// cannot hand them to somebody else. statement_timeout is off because it would
// cancel a COMMIT; an open transaction that this process forgot is ended by
// the server.
func begin(ctx context.Context, conn *pgx.Conn, lockWait time.Duration, queueFirst func(b *pgx.Batch)) (pgx.Tx, error) {
	var b pgx.Batch
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	queueBounds(&b, lockWait)
	if queueFirst != nil {
		queueFirst(&b)
	}
	results := conn.SendBatch(ctx, &b)
	_, first := results.Exec()
	tx := results.Tx()
	_, second := results.Exec()
	if err := errors.Join(first, second, results.Close()); err != nil {
		if tx != nil {
			if back := tx.Rollback(ctx); back != nil {
				conn.Close(ctx)
			}
		}
		return nil, fmt.Errorf("begin: %w", err)
	}
	return tx, nil
}

// queueBounds sets the bounds of the transaction that a batch is in, and says that it is of
// a version that tells the revocation feed what it ends; see migration 0007.
func queueBounds(b *pgx.Batch, lockWait time.Duration) {
	b.Queue(`-- name: begin.bounds
		SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true),
			set_config('idle_in_transaction_session_timeout', '30s', true), set_config('authserver.tells', 'on', true)`,
		fmt.Sprintf("%dms", max(1, lockWait.Milliseconds())))
}

// mind drops a connection that an error showed to be of no more use, and all
// others after a failover, which come from the same server.
func (db *DB) mind(conn *pgxpool.Conn, err error) {
	code := codeOf(err)
	if !serverGoes(code) && (code != "" || !conn.Conn().IsClosed()) {
		return
	}
	abandon(conn)
	if code == readOnly {
		db.leave()
	}
}

// leave has every connection made anew: after a failover they are with a server that
// takes no writes any more.
func (db *DB) leave() {
	db.main.Reset()
	db.batch.Reset()
}

// abandon closes a connection without waiting for anything. One that pgx has given up
// it listens to for 15 s more, or for ever where it has taken its own deadline away (5.12);
// the server keeps the row locks of whoever is connected.
func abandon(conn *pgxpool.Conn) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	conn.Conn().Close(gone)
	conn.Conn().PgConn().Conn().Close()
}

// The SQLSTATEs that are told apart.
const (
	readOnly         = "25006" // this server is no primary any more
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
	cannotConnectNow = "57P03"
	tooManyConns     = "53300"
	serialization    = "40001"
	deadlock         = "40P01"
	lockNotAvailable = "55P03"
	uniqueViolation  = "23505"
	noSuchStatement  = "26000"
	planChanged      = "0A000" // "cached plan must not change result type"
)

func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// serverGoes reports codes that speak of the server, not of the statement.
func serverGoes(code string) bool {
	switch code {
	case readOnly, adminShutdown, crashShutdown, cannotConnectNow, tooManyConns:
		return true
	}
	return strings.HasPrefix(code, "08")
}

// lostTie reports that the transaction was rolled back for the sake of another
// one and may be tried again.
func lostTie(err error) bool {
	code := codeOf(err)
	return code == serialization || code == deadlock
}

func isLocked(err error) bool { return codeOf(err) == lockNotAvailable }

// warningKey is where a connection keeps the warning that came over it.
const warningKey = "authserver.warning"

// errWarned says that the server warned before it was ready again. Nobody
// knows what became of the transaction: "canceling wait for synchronous
// replication" is such a warning, after which the commit stands here and may be
// missing on the standby.
var errWarned = errors.New("the database warned, so the outcome is unknown")

func noteWarning(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" || n.Severity == "WARNING" {
		c.CustomData()[warningKey] = n.Message
	}
}

func forgetWarning(c *pgconn.PgConn) { delete(c.CustomData(), warningKey) }

func warned(c *pgconn.PgConn) error {
	if message, ok := c.CustomData()[warningKey]; ok {
		return fmt.Errorf("%w: %v", errWarned, message)
	}
	return nil
}

// clean makes text from outside fit for Postgres, which refuses zero bytes and
// invalid UTF-8; one member's bad user agent must not spoil a batch.
func clean(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// at returns an instant that may be NULL; zero then.
func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// orNull is the opposite of at.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// nullText keeps an empty string as NULL.
func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// nullIndex keeps a status index that there is none of as NULL.
func nullIndex(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// nullID keeps a zero id as NULL.
func nullID[K ~[16]byte](i K) *[16]byte {
	b := [16]byte(i)
	if b == ([16]byte{}) {
		return nil
	}
	return &b
}

// floorAt reads the floor; a store that never raised it has none.
func floorAt(t *time.Time) time.Time {
	if t == nil || t.Unix() <= 0 {
		return time.Time{}
	}
	return *t
}

func reasonOf(s *string) refresh.EndReason { return refresh.EndReason(text(s)) }
