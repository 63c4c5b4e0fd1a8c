package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	lib "modernc.org/sqlite/lib"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store"
)

// Options says how to open a database.
type Options struct {
	// Path of the database file. It is made, readable by its owner alone, with
	// its directory, if it is not there.
	Path string
	// Server takes the lock file beside the database, which one server at a
	// time can hold. The command line works beside a server and takes none.
	Server bool
	// Now replaces the process clock, in tests only.
	Now func() time.Time
}

// DB is an open database and implements store.Engine. It is safe for
// concurrent use.
type DB struct {
	path  string
	clock func() time.Time
	lock  *fileLock // nil on the command line

	writer  chan *conn // holds the one writing connection while nobody uses it
	readers chan *conn // tokens of the read pool; nil stands for one not yet dialed
	opened  atomic.Int32
	closed  atomic.Bool
	closing sync.Once

	marks  marks
	folder *folder // nil on the command line

	troubles sync.Mutex
	trouble  error // of the background; nil while all is well
	listener func(error)
}

// The sizes and patience of the connections. A page cache is in KiB, and small:
// the operating system caches the file anyway.
const (
	readersMax   = 4
	writerCache  = 2048
	readerCache  = 512
	busyPatience = 5 * time.Second // how long a lock of another process, or the writer, is waited for
)

// Open opens the database at o.Path and makes it if need be; it does not
// migrate. store.ErrInUse when o.Server is set and another server runs on the
// same file.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{clock: o.Now, writer: make(chan *conn, 1), readers: make(chan *conn, readersMax)}
	if db.clock == nil {
		db.clock = time.Now
	}
	var err error
	if db.path, err = place(o.Path); err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	if err = writable(db.path); err != nil {
		return nil, err
	}
	if o.Server {
		if db.lock, err = takeLock(db.path + ".lock"); err != nil {
			return nil, err
		}
		db.folder = startFolder(db)
	}
	w, err := db.dialWriter(ctx)
	if err != nil {
		db.folder.close()
		db.lock.release()
		return nil, opening(db.path, err)
	}
	db.writer <- w
	for range readersMax {
		db.readers <- nil
	}
	return db, nil
}

// opening tells what of a file is wrong for good from trouble.
func opening(path string, err error) error {
	switch code(err) {
	case lib.SQLITE_NOTADB:
		return &store.Unfit{Err: fmt.Errorf("%s is no database of SQLite", path)}
	case lib.SQLITE_READONLY:
		return &store.Unfit{Err: fmt.Errorf("%s, or a file or directory of it, may not be written by this user", path)}
	}
	return fmt.Errorf("open %s: %w", path, err)
}

// OnTrouble implements store.Engine: a sync of what was folded has failed, which
// happens at most once.
func (db *DB) OnTrouble(f func(err error)) {
	db.troubles.Lock()
	defer db.troubles.Unlock()
	if db.listener = f; db.trouble != nil {
		f(db.trouble)
	}
}

func (db *DB) report(err error) {
	db.troubles.Lock()
	defer db.troubles.Unlock()
	if db.trouble = err; db.listener != nil {
		db.listener(err)
	}
}

var placing sync.Mutex

// place makes the file and its directory if need be, for their owner alone, and
// returns the file's one true path: two names of one file must not get two lock
// files.
//
// Closing any descriptor of a file drops all POSIX locks this process holds on
// it, those of other connections included. So the file is touched only where
// it does not exist, and by one goroutine at a time.
func place(path string) (string, error) {
	if path == "" {
		return "", errors.New("the path is empty; want one like data/authserver.db")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	placing.Lock()
	defer placing.Unlock()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// dsn spells the path as a URI, so that no character of it is taken for a
// parameter.
func (db *DB) dsn() string {
	return (&url.URL{Scheme: "file", OmitHost: false, Path: filepath.ToSlash(db.path)}).String()
}

// common pragmas of all connections. Temporary tables and sorters stay in
// memory, and the file is not mapped: a mapped page that cannot be read ends
// the process with SIGBUS.
func pragmas(cacheKiB int) []string {
	return []string{
		fmt.Sprintf("busy_timeout=%d", busyPatience.Milliseconds()),
		"foreign_keys=ON", "temp_store=MEMORY", "mmap_size=0", fmt.Sprintf("cache_size=-%d", cacheKiB),
		"trusted_schema=OFF",
	}
}

func (db *DB) dialWriter(ctx context.Context) (*conn, error) {
	c, err := dial(db.dsn(), append(pragmas(writerCache), "synchronous=FULL", "wal_autocheckpoint="+db.autoCheckpoint()))
	if err != nil {
		return nil, err
	}
	if err := db.enterWAL(ctx, c); err != nil {
		c.close()
		return nil, err
	}
	// From here on the writer waits for locks in begin, in small steps.
	if _, err := c.exec("PRAGMA busy_timeout=0"); err != nil {
		c.close()
		return nil, err
	}
	db.opened.Add(1)
	return c, nil
}

// enterWAL turns write-ahead logging on, which the file remembers. It needs the
// file for itself for an instant, and SQLite does not wait for that by its busy
// timeout: processes that start at once take turns here.
func (db *DB) enterWAL(ctx context.Context, c *conn) error {
	deadline := time.Now().Add(busyPatience)
	for {
		mode, err := c.pragma("PRAGMA journal_mode")
		if err == nil && mode == "wal" {
			break
		}
		if err == nil {
			mode, err = c.pragma("PRAGMA journal_mode=WAL")
		}
		if err == nil && mode == "wal" {
			break
		}
		if err == nil {
			return fmt.Errorf("journal mode stays %q; want wal (is the file on a network file system?)", mode)
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, busyStep); err != nil {
			return err
		}
	}
	_, err := c.exec(fmt.Sprintf("PRAGMA journal_size_limit=%d", logKept))
	return err
}

// pragma returns the one text that a pragma answers with.
func (c *conn) pragma(sql string) (answer string, err error) {
	_, err = c.one(sql, nil, func(r *row) { answer = fmt.Sprint(r.take()) })
	return answer, err
}

func (db *DB) dialReader() (*conn, error) {
	c, err := dial(db.dsn(), append(pragmas(readerCache), "query_only=ON"))
	if err == nil {
		db.opened.Add(1)
	}
	return c, err
}

func (db *DB) hangUp(c *conn) {
	c.close()
	db.opened.Add(-1)
}

// now is the store's clock: UTC, in whole microseconds, as columns keep it.
func (db *DB) now() time.Time { return micro(db.clock()) }

func micro(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// Name implements store.Engine.
func (*DB) Name() string { return "sqlite" }

// Families implements store.Engine.
func (db *DB) Families() refresh.Store { return Families{db} }

// Sessions implements store.Engine.
func (db *DB) Sessions() session.Store { return Sessions{db} }

// Accounts implements store.Engine.
func (db *DB) Accounts() account.Store { return Accounts{db} }

// Logins implements store.Engine.
func (db *DB) Logins() login.Store { return Logins{db} }

// Keys implements store.Engine.
func (db *DB) Keys() keys.Store { return Keys{db} }

// Revocations implements store.Engine.
func (db *DB) Revocations() revocation.Store { return Revocations{db} }

// Verifiers implements store.Engine.
func (db *DB) Verifiers() keys.VerifierStore { return Verifiers{db} }

// Audit implements store.Engine.
func (db *DB) Audit() audit.Store { return Audit{db} }

// Ledger implements store.Engine.
func (db *DB) Ledger() limit.Ledger { return Ledger{db} }

// Leases implements store.Engine.
func (db *DB) Leases() store.Leases { return Leases{db} }

// Founding implements store.Engine.
func (db *DB) Founding() store.Founding { return Founding{db} }

// Ping implements store.Engine.
func (db *DB) Ping(ctx context.Context) error {
	return db.read(ctx, "ping", func(c *conn) error {
		// A constant would not touch the file.
		_, err := c.one("PRAGMA schema_version", nil, func(r *row) { r.integer() })
		return err
	})
}

// Pool implements store.Engine.
func (db *DB) Pool() store.Pool {
	return store.Pool{
		Max:  1 + readersMax,
		Open: int(db.opened.Load()),
		Busy: 1 - len(db.writer) + readersMax - len(db.readers),
	}
}

// Close waits for the connections in use and closes them all. The last one to
// leave a file folds the log into it, unless it must not: see errUnsynced.
func (db *DB) Close() {
	db.closing.Do(func() {
		db.closed.Store(true)
		synced := db.folder.close()
		for range readersMax {
			if c := <-db.readers; c != nil && synced {
				db.hangUp(c)
			}
		}
		if c := <-db.writer; c != nil && synced {
			db.hangUp(c)
		}
		close(db.readers)
		close(db.writer)
		db.lock.release()
	})
}
