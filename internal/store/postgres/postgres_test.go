package postgres_test

import (
	"context"
	"testing"
	"time"

	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/storetest"
)

// migrated makes a fresh database with the schema in it.
func migrated(t testing.TB) string {
	t.Helper()
	return storetest.PostgresLike(t, "migrated", migrateTo)
}

func migrateTo(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := postgres.Open(ctx, postgres.Options{URL: secret.NewText(url), MaxConns: 12})
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Migrate(ctx)
	return err
}

func open(t testing.TB, o postgres.Options) *postgres.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := postgres.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, "postgres", func(t testing.TB, clock *storetest.Clock) store.Engine {
		return open(t, postgres.Options{URL: secret.NewText(migrated(t)), MaxConns: 24, Now: clock.Now})
	})
}
