// Package upgrade runs two versions of the server on one database: the released
// one, built from its commit, and the one of this tree.
package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "embed"

	"example.com/authserver/test/rig"
)

// release is the commit of version 0.1.0, as CHANGELOG.md names it.
//
//go:embed release.txt
var release string

// builds are the binaries of the stories, made once.
type builds struct {
	released string // version 0.1.0
	current  string // this tree
	// later is this tree with two migrations that are still to come. The second
	// one stops half-way for as long as somebody holds the lock of pausedAt.
	later string
	err   error
}

var (
	made builds
	once sync.Once
	dir  string
)

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "authserver-upgrade-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func binaries(t *testing.T) builds {
	t.Helper()
	once.Do(func() { made.err = made.make(context.Background()) })
	if made.err != nil {
		t.Fatal(made.err)
	}
	return made
}

func (b *builds) make(ctx context.Context) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	old := filepath.Join(dir, "source")
	if err := checkOut(ctx, root, strings.TrimSpace(release), old); err != nil {
		return err
	}
	overlay, err := overlay(root)
	if err != nil {
		return err
	}
	b.released, b.current, b.later = filepath.Join(dir, "released"), filepath.Join(dir, "current"), filepath.Join(dir, "later")
	for _, build := range []struct {
		root, binary string
		flags        []string
	}{{old, b.released, nil}, {root, b.current, nil}, {root, b.later, []string{"-overlay", overlay}}} {
		if err := rig.Build(ctx, build.root, build.binary, build.flags...); err != nil {
			return err
		}
	}
	return nil
}

// checkOut writes the tree of a commit to a directory.
func checkOut(ctx context.Context, root, commit, to string) error {
	git := func(args ...string) *exec.Cmd {
		// A clone may belong to somebody else than whom the tests run as.
		cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=" + root}, args...)...)
		cmd.Dir = root
		return cmd
	}
	if out, err := git("cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		return fmt.Errorf("commit %s of version 0.1.0 is not in this clone (%w): %s\nhint: git fetch --unshallow, or clone the repository with its history", commit, err, out)
	}
	archive := to + ".tar"
	if out, err := git("archive", "--output", archive, commit).CombinedOutput(); err != nil {
		return fmt.Errorf("git archive %s: %w: %s", commit, err, out)
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", to).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", archive, err, out)
	}
	return os.Remove(archive)
}

// The migrations to come. They expand, as migrations do: what the version before
// writes stays valid.
var toCome = map[string][]string{
	"postgres": {
		`-- +goose Up
ALTER TABLE families ADD COLUMN upgrade_note text NOT NULL DEFAULT '';
CREATE TABLE upgrade_first (id uuid PRIMARY KEY REFERENCES users (id));
`, `-- +goose Up
CREATE TABLE upgrade_before (id uuid PRIMARY KEY);
SELECT pg_advisory_xact_lock(` + pausedAt + `);
CREATE TABLE upgrade_after (id uuid PRIMARY KEY);
`,
	},
	"sqlite": {
		`-- +goose Up
ALTER TABLE families ADD COLUMN upgrade_note TEXT NOT NULL DEFAULT '';
CREATE TABLE upgrade_first (id BLOB PRIMARY KEY REFERENCES users (id)) STRICT;
`, `-- +goose Up
CREATE TABLE upgrade_before (id INTEGER PRIMARY KEY, filling BLOB NOT NULL) STRICT;
INSERT INTO upgrade_before (id, filling)
	WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` + fillings + `) SELECT i, randomblob(1500) FROM n WHERE hex(randomblob(4000)) <> '';
CREATE TABLE upgrade_after (id INTEGER PRIMARY KEY) STRICT;
`,
	},
}

const (
	// pausedAt is the advisory lock that the second migration asks for.
	pausedAt = "20260101"
	// fillings make the second migration on SQLite write some 45 MB, and take a
	// second or two.
	fillings = "30000"
)

// overlay writes the migrations to come and a file that lays them over the tree,
// and returns its path.
func overlay(root string) (string, error) {
	replace := map[string]string{}
	for engine, texts := range toCome {
		newest, err := newestMigration(root, engine)
		if err != nil {
			return "", err
		}
		for i, text := range texts {
			name := fmt.Sprintf("%04d_upgrade_test.sql", newest+1+i)
			path := filepath.Join(dir, engine+"-"+name)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return "", err
			}
			replace[filepath.Join(root, "migrations", engine, name)] = path
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o644)
}

// newestMigration returns the number of an engine's newest migration.
func newestMigration(root, engine string) (n int, err error) {
	files, err := filepath.Glob(filepath.Join(root, "migrations", engine, "*.sql"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no migrations of %s: %w", engine, err)
	}
	_, err = fmt.Sscanf(filepath.Base(slices.Max(files)), "%04d_", &n)
	return n, err
}
