package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"example.com/authserver/internal/store"
)

// The limits that doctor goes by.
const (
	checkedUpTo = 1 << 30   // larger files are not read whole
	logLarge    = 256 << 20 // of a log that somebody keeps from being folded
	spaceScarce = 256 << 20
)

// Doctor implements store.Engine.
func (db *DB) Doctor(ctx context.Context) (findings []store.Finding, err error) {
	note := func(f store.Finding) { findings = append(findings, f) }
	err = db.write(ctx, "doctor", func(t *tx) error {
		for _, want := range []struct{ pragma, value, hint string }{
			{"journal_mode", "wal", "Stop every process that uses the file and start the server again."},
			{"synchronous", "2", "A power cut may lose acknowledged sessions."},
			{"foreign_keys", "1", "Sessions may point to users that are gone."},
		} {
			seen, err := t.pragma("PRAGMA " + want.pragma)
			if err != nil {
				return err
			}
			if seen != want.value {
				note(store.Finding{Setting: want.pragma, Seen: seen, Expected: want.value, Hint: want.hint, Grave: true})
			}
		}
		return errNothing
	})
	if err != nil {
		return nil, err
	}
	db.checkFiles(note)
	db.checkDisk(note)
	return findings, db.checkContent(ctx, note)
}

// checkFiles looks at who else may read the files: they hold password hashes
// and sealed keys.
func (db *DB) checkFiles(note func(store.Finding)) {
	for _, path := range []string{filepath.Dir(db.path), db.path, db.path + "-wal", db.path + "-shm"} {
		info, err := os.Stat(path)
		if err != nil {
			continue // the log is not there while nothing was written
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			want := "0600"
			if info.IsDir() {
				want = "0700"
			}
			note(store.Finding{
				Setting: "permissions of " + path, Seen: fmt.Sprintf("%04o", mode), Expected: want,
				Hint: fmt.Sprintf("chmod %s %s", want, path), Grave: !info.IsDir() && mode&0o007 != 0,
			})
		}
	}
	if info, err := os.Stat(db.path + "-wal"); err == nil && info.Size() > logLarge {
		note(store.Finding{
			Setting: "write-ahead log", Seen: fmt.Sprintf("%d MiB", info.Size()>>20), Expected: fmt.Sprintf("under %d MiB", logLarge>>20),
			Hint: "A process keeps an old state of the database open, perhaps a backup that hangs; end it. " +
				"If there is none the disk may have refused a write: look at the system's log, and start the server again when the disk is sound.",
		})
	}
}

func (db *DB) checkDisk(note func(store.Finding)) {
	free, network, err := statDisk(filepath.Dir(db.path))
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return
	case err != nil:
		note(store.Finding{Setting: "disk", Seen: err.Error(), Expected: "a file system that can be asked", Hint: "Look at the disk."})
		return
	}
	if free < spaceScarce {
		note(store.Finding{
			Setting: "disk space", Seen: fmt.Sprintf("%d MiB free", free>>20), Expected: fmt.Sprintf("%d MiB", spaceScarce>>20),
			Hint: "On a full disk nobody can log in or refresh. Nothing that was acknowledged is lost.", Grave: true,
		})
	}
	if network != "" {
		note(store.Finding{
			Setting: "file system", Seen: network, Expected: "a local disk",
			Hint: "SQLite's log needs shared memory and locks that network file systems do not keep; move the file, or use Postgres.", Grave: true,
		})
	}
}

// checkContent reads the whole file, if that takes moments, for damaged pages.
func (db *DB) checkContent(ctx context.Context, note func(store.Finding)) error {
	if info, err := os.Stat(db.path); err != nil || info.Size() > checkedUpTo {
		return err
	}
	return db.read(ctx, "doctor.check", func(c *conn) error {
		answer, err := c.pragma("PRAGMA quick_check(1)")
		if err == nil && answer != "ok" {
			note(store.Finding{
				Setting: "content of the file", Seen: answer, Expected: "ok",
				Hint: "The file is damaged. Stop the server, keep a copy, and restore a backup.", Grave: true,
			})
		}
		return err
	})
}
