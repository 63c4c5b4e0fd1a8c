package sqlite_test

import (
	"path/filepath"
	"testing"

	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/internal/store/storetest"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, "sqlite", func(t testing.TB, clock *storetest.Clock) store.Engine {
		return open(t, sqlite.Options{Path: filepath.Join(t.TempDir(), "authserver.db"), Server: true, Now: clock.Now})
	})
}

// open opens a database, migrates it and closes it when the test ends.
func open(t testing.TB, o sqlite.Options) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}
