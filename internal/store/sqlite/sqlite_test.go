package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/internal/store/storetest"
)

func TestEngine(t *testing.T) {
	storetest.Run(t, "sqlite", func(t testing.TB, clock *storetest.Clock) store.Engine {
		return open(t, sqlite.Options{Path: filepath.Join(memory(t), "authserver.db"), Server: true, Now: clock.Now})
	})
}

// memory returns a directory whose files need no disk, where there is one: the
// suite is about what is stored, and a hundred thousand commits that wait for
// the disk would only take their time. Durability has tests of its own.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "authserver-test-*")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
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
