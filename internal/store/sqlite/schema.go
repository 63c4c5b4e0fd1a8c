package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"

	"example.com/authserver/internal/store"
	"example.com/authserver/migrations"
)

// Schema implements store.Engine.
func (db *DB) Schema(ctx context.Context) (store.Schema, error) {
	p, closing, err := db.migrator()
	if err != nil {
		return store.Schema{}, err
	}
	defer closing()
	return db.schema(ctx, p)
}

func (db *DB) schema(ctx context.Context, p *goose.Provider) (s store.Schema, err error) {
	err = db.snapshot(ctx, "schema.read", func(c *conn) error {
		var tables int64
		if _, err := c.one(`-- name: schema.tables
			SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('goose_db_version', 'schema_info')`,
			nil, func(r *row) { tables = r.integer() }); err != nil || tables < 2 {
			return err // with less than both no migration was ever completed
		}
		_, err := c.one(`-- name: schema.versions
			SELECT coalesce(max(v.version_id), 0), coalesce((SELECT compatible_from FROM schema_info), 0)
			FROM goose_db_version v WHERE v.is_applied = 1`,
			nil, func(r *row) { s.Applied, s.CompatibleFrom = r.integer(), r.integer() })
		return err
	})
	for _, source := range p.ListSources() {
		s.Newest = source.Version
		if source.Version > s.Applied {
			s.Pending = append(s.Pending, nameOf(source))
		}
	}
	return s, err
}

// nameOf names a migration as `migrate` prints it.
func nameOf(s *goose.Source) string { return strings.TrimSuffix(filepath.Base(s.Path), ".sql") }

// Migrate implements store.Engine. Processes that come at once wait for each
// other at the directory; the server that is already running goes on.
func (db *DB) Migrate(ctx context.Context) (applied []string, err error) {
	if applied, err = db.migrate(ctx); err != nil {
		return applied, err
	}
	return applied, db.tellUntold(ctx)
}

func (db *DB) migrate(ctx context.Context) (applied []string, err error) {
	p, closing, err := db.migrator()
	if err != nil {
		return nil, err
	}
	defer closing()
	if s, err := db.schema(ctx, p); err != nil || len(s.Pending) == 0 {
		return nil, err // the ordinary start needs no lock
	}
	unlock, err := lockDirectory(ctx, filepath.Dir(db.path))
	if err != nil {
		return nil, fmt.Errorf("lock the directory of %s: %w", db.path, err)
	}
	defer unlock()
	s, err := db.schema(ctx, p)
	if err != nil || len(s.Pending) == 0 {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	// What has begun is finished: an interrupted migration would only be rolled
	// back and begun again.
	results, err := p.Up(context.WithoutCancel(ctx))
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	for _, r := range results {
		applied = append(applied, nameOf(r.Source))
	}
	if err != nil {
		return applied, fmt.Errorf("migrate %s: %w", db.path, err)
	}
	return applied, nil
}

// migrator returns goose over the embedded files, with a connection of its own
// that is dialed when it is needed.
func (db *DB) migrator() (*goose.Provider, func(), error) {
	files, err := fs.Sub(migrations.SQLite, "sqlite")
	if err != nil {
		return nil, nil, err
	}
	pool, err := sql.Open("sqlite", db.dsn()+"?_txlock=immediate&_busy_timeout=5000&_synchronous=FULL&_foreign_keys=on")
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(1)
	p, err := goose.NewProvider(goose.DialectSQLite3, pool, files,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		_ = pool.Close()
		return nil, nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	return p, func() { _ = pool.Close() }, nil
}
