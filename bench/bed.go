package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// bed is a filled database of its own: what the measurements of great numbers
// need of either engine.
type bed struct {
	engine string
	fleet  *fleet
	start  func() (*authserver, error)
	audit  func() ([]byte, error) // what audit sessions --json says
	remove func() error           // the server must have ended

	// query asks for one number.
	query func(ctx context.Context, statement string) (int64, error)
	// exec runs one statement.
	exec func(ctx context.Context, statement string) error
	// size is that of the table of families (Postgres) or of the database.
	size func(ctx context.Context) (int64, error)
	wear func(ctx context.Context) (updated, inPage int64, err error) // nil on SQLite
}

// postgresBed makes a database in the cluster and fills it.
func (b *bench) postgresBed(name string, families, expired int) (*bed, error) {
	if err := b.ensureCluster(); err != nil {
		return nil, err
	}
	c, err := b.cluster.open(b.ctx, name)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "data-"+name)
	say("  seeding %d families and %d expired ones in %s ...", families, expired, name)
	f, err := seedPostgres(b.ctx, c, dir, families, expired)
	if err == nil {
		// What the seeding left to be written is not to be written while somebody
		// measures.
		_, err = c.conn.Exec(b.ctx, `CHECKPOINT`)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("seed %s: %w", name, err), b.cluster.drop(context.WithoutCancel(b.ctx), c))
	}
	number := func(ctx context.Context, statement string) (n int64, err error) {
		err = c.conn.QueryRow(ctx, statement).Scan(&n)
		return n, err
	}
	return &bed{
		engine: "Postgres", fleet: f,
		start:  func() (*authserver, error) { return b.startServer(dir, c.url(name)) },
		audit:  func() ([]byte, error) { return b.auditSessions(dir, c.url(name)) },
		remove: func() error { return b.cluster.drop(context.WithoutCancel(b.ctx), c) },
		query:  number,
		exec: func(ctx context.Context, statement string) error {
			_, err := c.conn.Exec(ctx, statement)
			return err
		},
		size: func(ctx context.Context) (int64, error) { return number(ctx, `SELECT pg_table_size('families')`) },
		wear: func(ctx context.Context) (updated, inPage int64, err error) {
			return updatesOf(ctx, c.conn)
		},
	}, nil
}

func updatesOf(ctx context.Context, conn *pgx.Conn) (updated, inPage int64, err error) {
	err = conn.QueryRow(ctx, `-- name: bench.updates
		SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'families'`).Scan(&updated, &inPage)
	return updated, inPage, err
}

// sqliteBed founds an installation on SQLite and fills it.
func (b *bench) sqliteBed(name string, families, expired int) (*bed, error) {
	dir := filepath.Join(b.dir, "sqlite-"+name)
	say("  seeding %d families and %d expired ones in %s ...", families, expired, name)
	f, err := seedSQLite(b.ctx, dir, families, expired)
	if err != nil {
		return nil, fmt.Errorf("seed %s: %w", name, err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "authserver.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	number := func(ctx context.Context, statement string) (n int64, err error) {
		err = db.QueryRowContext(ctx, statement).Scan(&n)
		return n, err
	}
	return &bed{
		engine: "SQLite", fleet: f,
		start:  func() (*authserver, error) { return b.startServer(dir, "") },
		audit:  func() ([]byte, error) { return b.auditSessions(dir, "") },
		remove: db.Close,
		query:  number,
		exec: func(ctx context.Context, statement string) error {
			_, err := db.ExecContext(ctx, statement)
			return err
		},
		size: func(ctx context.Context) (int64, error) {
			return number(ctx, `SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()`)
		},
	}, nil
}

// holdSweep takes the lease of the cleanup of families for ourselves, also from a
// server, so that none sweeps until freeSweep. It is to be held again within three
// minutes: a lease that is longer than theirs is no obstacle to servers.
func (d *bed) holdSweep(ctx context.Context) error {
	until := `now() + interval '3 minutes'`
	if d.engine == "SQLite" {
		until = fmt.Sprint(time.Now().Add(3 * time.Minute).UnixMicro())
	}
	return d.exec(ctx, `INSERT INTO leases (name, holder, until) VALUES ('job:families', 'bench', `+until+`)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until`)
}

func (d *bed) freeSweep(ctx context.Context) error {
	return d.exec(ctx, `DELETE FROM leases WHERE name = 'job:families' AND holder = 'bench'`)
}
