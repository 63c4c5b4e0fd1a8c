package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store"
)

// Options say how to open a database.
type Options struct {
	// URL is a connection string as libpq and pgx know it. Its sslmode,
	// target_session_attrs and default_query_exec_mode are honoured.
	URL secret.Text
	// MaxConns bounds this node's connections, those for batches included. 0
	// takes pool_max_conns from the URL or, without it, a share of what the
	// server allows.
	MaxConns int32
	// Now replaces the store's clock. It is for tests, which move time.
	Now func() time.Time
	// Retried is told when a transaction is tried again because another one
	// was in its way. It may be nil.
	Retried func(act string, err error)
}

// How connections are shared out.
const (
	batchesInFlight = 2
	// batchConns leaves room beside the flights for connections that were
	// given up and are still being closed.
	batchConns = batchesInFlight + 2
	leastConns = batchConns + 4
)

// DB is one open database. It is safe for concurrent use.
type DB struct {
	main      *pgxpool.Pool
	batch     *pgxpool.Pool
	serverMax int // connections that the server grants to ordinary roles
	now       func() time.Time
	retried   func(act string, err error)
	passes    passes
	newcomers atomic.Int64 // until when, in Unix seconds, batches look for families that do not know their user
	lending   atomic.Int64 // until when, in Unix nanoseconds, batches fly over what the ordinary pool has
}

var _ store.Engine = (*DB)(nil)

// CheckURL reports a URL that cannot be one of a PostgreSQL server. It connects to nothing.
func CheckURL(url secret.Text) error {
	_, err := parseURL(url)
	return err
}

func parseURL(url secret.Text) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url.Reveal())
	if err != nil {
		return nil, &store.Unfit{Err: fmt.Errorf("read the database URL: %w", err)}
	}
	return config, nil
}

// Open connects to the database. It fails when there is no server, or one that
// is too old; an empty database is fine.
func Open(ctx context.Context, o Options) (*DB, error) {
	config, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if config.ConnConfig.ConnectTimeout <= 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	db := &DB{now: o.Now, retried: o.Retried}
	if err := db.look(ctx, config.ConnConfig); err != nil {
		return nil, err
	}
	total := o.MaxConns
	if total == 0 && strings.Contains(o.URL.Reveal(), "pool_max_conns=") {
		total = config.MaxConns
	}
	if total == 0 {
		total = fairShare(db.serverMax)
	}
	if total < leastConns {
		return nil, fmt.Errorf("this node may open %d database connections; want at least %d", total, leastConns)
	}

	config.BeforeConnect = neverCancel
	config.AfterConnect = teach
	config.ConnConfig.OnNotice = noteWarning
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 10 * time.Minute
	config.MaxConnIdleTime = 10 * time.Minute
	config.HealthCheckPeriod = 30 * time.Second
	config.PingTimeout = 5 * time.Second
	forBatches := config.Copy()
	forBatches.AfterConnect = readyForBatches
	forBatches.MinConns, forBatches.MaxConns = 1, batchConns
	config.MinConns, config.MaxConns = 1, total-batchConns

	if db.main, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open the connection pool: %w", err)
	}
	if db.batch, err = pgxpool.NewWithConfig(ctx, forBatches); err != nil {
		db.main.Close()
		return nil, fmt.Errorf("open the connection pool for batches: %w", err)
	}
	return db, nil
}

// oldest is the oldest version that this package is tested with, as
// server_version_num spells it.
const oldest = 140000

// look asks the server what must be known before pools are made.
func (db *DB) look(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version int
	var encoding string
	err = conn.QueryRow(ctx, `-- name: open.look
		SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'),
			current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer`,
	).Scan(&version, &encoding, &db.serverMax)
	switch {
	case err != nil:
		return fmt.Errorf("ask the database for its settings: %w", err)
	case version < oldest:
		return &store.Unfit{Err: fmt.Errorf("the database server is version %d.%d; want PostgreSQL %d or later", version/10000, version%10000, oldest/10000)}
	case encoding != "UTF8":
		return &store.Unfit{Err: fmt.Errorf("the database is encoded in %s; want UTF8, because names and user agents come in every script (CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0)", encoding)}
	}
	return nil
}

// fairShare leaves three quarters of the server's connections to other nodes
// and to whoever comes with psql.
func fairShare(serverMax int) int32 {
	want := max(16, 4*runtime.GOMAXPROCS(0)) + batchConns
	return int32(max(leastConns, min(want, serverMax/4)))
}

var errNoCancel = errors.New("cancel requests are not sent: a cancelled COMMIT may succeed")

// neverCancel keeps a connection from sending cancel requests. pgx sends one
// whenever it gives a connection up; it dials for that a second time, which is
// where it is stopped.
func neverCancel(_ context.Context, c *pgx.ConnConfig) error {
	var connected atomic.Bool
	dial, after := c.DialFunc, c.AfterConnect
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	c.AfterConnect = func(ctx context.Context, pg *pgconn.PgConn) error {
		connected.Store(true)
		if after != nil {
			return after(ctx, pg)
		}
		return nil
	}
	return nil
}

// teach has instants come back in UTC, whatever the zone of this process, and
// says what 16 bytes are where the server is not asked for the types
// (default_query_exec_mode=exec).
func teach(_ context.Context, c *pgx.Conn) error {
	types := c.TypeMap()
	types.RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID,
		Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
	types.RegisterDefaultPgType([16]byte{}, "uuid")
	types.RegisterDefaultPgType((*[16]byte)(nil), "uuid")
	types.RegisterDefaultPgType([][16]byte{}, "_uuid")
	types.RegisterDefaultPgType([][]byte{}, "_bytea")
	return nil
}

// Close closes all connections. It waits for those in use.
func (db *DB) Close() {
	db.batch.Close()
	db.main.Close()
}

// Name implements store.Engine.
func (*DB) Name() string { return "postgres" }

// The rooms' stores.

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

// Ping implements store.Engine. A server that takes no writes, a standby say, is of no use
// to this one.
func (db *DB) Ping(ctx context.Context) error {
	var readOnly bool
	err := db.main.QueryRow(ctx, `-- name: ping
		SELECT current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
	if err == nil && readOnly {
		db.leave()
		err = errors.New("it takes no writes: a standby, or set to be read only")
	}
	if err != nil {
		return fmt.Errorf("ping the database: %w", err)
	}
	return nil
}

// OnTrouble implements store.Engine: PostgreSQL tells its own log.
func (db *DB) OnTrouble(func(err error)) {}

// Pool implements store.Engine; both pools count.
func (db *DB) Pool() store.Pool {
	m, b := db.main.Stat(), db.batch.Stat()
	return store.Pool{
		Max:       int(m.MaxConns() + b.MaxConns()),
		Open:      int(m.TotalConns() + b.TotalConns()),
		Busy:      int(m.AcquiredConns() + b.AcquiredConns()),
		ServerMax: db.serverMax,
	}
}
