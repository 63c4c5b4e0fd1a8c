package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"example.com/authserver/internal/store"
	"example.com/authserver/migrations"
)

// migration is one embedded file.
type migration struct {
	version int64
	name    string // without the suffix: "0001_core"
}

func migrationFiles() (fs.FS, []migration, error) {
	files, err := fs.Sub(migrations.Postgres, "postgres")
	if err != nil {
		return nil, nil, err
	}
	entries, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, nil, err
	}
	var list []migration
	for _, entry := range entries {
		name := strings.TrimSuffix(entry, ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil || version < 1 {
			return nil, nil, fmt.Errorf("migration file %s: want a name like 0001_core.sql", entry)
		}
		list = append(list, migration{version, name})
	}
	slices.SortFunc(list, func(a, b migration) int { return cmp.Compare(a.version, b.version) })
	return files, list, nil
}

// Schema implements store.Engine.
func (db *DB) Schema(ctx context.Context) (s store.Schema, err error) {
	_, known, err := migrationFiles()
	if err != nil {
		return s, err
	}
	var applied []int64
	err = db.read(ctx, "schema.read", func(ctx context.Context, c *pgxpool.Conn) error {
		var exists bool
		err := c.QueryRow(ctx, `-- name: schema.exists
			SELECT to_regclass('goose_db_version') IS NOT NULL AND to_regclass('schema_info') IS NOT NULL`).Scan(&exists)
		if err != nil || !exists {
			return err
		}
		err = c.QueryRow(ctx, `-- name: schema.compatible_from
			SELECT compatible_from FROM schema_info`).Scan(&s.CompatibleFrom)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		rows, err := c.Query(ctx, `-- name: schema.applied
			SELECT version_id FROM goose_db_version WHERE is_applied AND version_id > 0 ORDER BY version_id`)
		if err != nil {
			return err
		}
		applied, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err != nil {
		return s, err
	}
	if len(applied) > 0 {
		s.Applied = applied[len(applied)-1]
	}
	for _, m := range known {
		s.Newest = m.version
		if !slices.Contains(applied, m.version) {
			s.Pending = append(s.Pending, m.name)
		}
	}
	return s, nil
}

// How nodes that start at once take turns with the migrations: a lease row,
// because a pooler breaks advisory locks. A node that dies with the lease holds
// the others up for migrationLease.
const (
	migrationLease = 10 * time.Second
	migrationTurn  = 200 * time.Millisecond
	migrationTurns = 1500 // five minutes
)

// How long a migration tries to get its tables, how long it leaves them alone between two
// tries, and after how many of half a second it waits longer in each.
const (
	tablePatience = 10 * time.Minute
	tablePause    = 2 * time.Second
	shortTries    = 3
)

// Migrate implements store.Engine. Each file is one transaction; a node that
// dies between two leaves a schema that the next one completes.
func (db *DB) Migrate(ctx context.Context) (applied []string, err error) {
	schema, err := db.Schema(ctx)
	if err != nil {
		return nil, err
	}
	if err := schema.Check(); err != nil {
		return nil, err
	}
	if len(schema.Pending) == 0 {
		return nil, nil
	}
	waits := 0
	for started, attempt := time.Now(), 1; ; attempt++ {
		some, err := db.migrateOnce(ctx, waits >= shortTries)
		applied = append(applied, some...)
		pause := migrationTurn
		switch {
		case err == nil:
			return applied, nil
		case codeOf(err) == lockNotAvailable:
			// A migration waits half a second for a table: behind a backup that
			// reads it for an hour it would hold up every request of the running
			// nodes, which queue behind it. Behind a vacuum it waits for a little more than
			// deadlock_timeout, after a few tries: no sooner does PostgreSQL send an automatic
			// one away, which may go through a large table for an hour as well.
			if time.Since(started) > tablePatience {
				return applied, fmt.Errorf("a table was in use whenever it was asked for in %s; look for a long transaction or a vacuum in pg_stat_activity: %w", tablePatience, err)
			}
			waits++
			pause = tablePause
		case !catalogCollision(err) || attempt >= attempts:
			// Nodes that create the lease table at the same instant collide in the
			// catalog, IF NOT EXISTS or not.
			return applied, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return applied, ctx.Err()
		}
	}
}

// migrateOnce runs what is pending. The migrations wait for half a second for a table, or, if
// patient, where a table is being vacuumed, for a little more than deadlock_timeout, unless
// that is longer than everybody could wait behind it.
func (db *DB) migrateOnce(ctx context.Context, patient bool) (applied []string, err error) {
	pool := stdlib.OpenDB(*db.main.Config().ConnConfig, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		if !patient {
			return nil
		}
		_, err := c.Exec(ctx, `-- name: schema.patience
			SELECT set_config('authserver.patience', setting::int + 200 || unit, false) FROM pg_settings
			WHERE name = 'deadlock_timeout' AND setting::int <= 2000 AND EXISTS (
				SELECT FROM pg_locks WHERE granted AND mode = 'ShareUpdateExclusiveLock' AND locktype = 'relation'
					AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
					AND relation = ANY (ARRAY[to_regclass('users'), to_regclass('sessions'), to_regclass('families'), to_regclass('server_state'), to_regclass('revocations')]::oid[]))`)
		return err
	}))
	defer func() { _ = pool.Close() }()
	pool.SetMaxOpenConns(2) // one migrates, one renews the lease
	files, _, err := migrationFiles()
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLeaseDuration(migrationLease),
		lock.WithTableHeartbeatInterval(migrationLease/5),
		lock.WithTableLockTimeout(migrationTurn, migrationTurns),
		lock.WithTableUnlockTimeout(migrationTurn, 50),
		lock.WithTableLogger(slog.New(slog.DiscardHandler)), // what matters comes back as an error
	)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files,
		goose.WithLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		if r.Error == nil {
			applied = append(applied, strings.TrimSuffix(r.Source.Path, ".sql"))
		}
	}
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// catalogCollision reports what concurrent CREATE TABLE IF NOT EXISTS may say.
func catalogCollision(err error) bool {
	switch codeOf(err) {
	case uniqueViolation, "42P07", "42710", "XX000": // duplicate table or object, "tuple concurrently updated"
		return true
	}
	return lostTie(err)
}
