package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRename_reachesEveryPlaceAndNoOther(t *testing.T) {
	before := map[string]string{
		"go.mod":       "module old.example/server\n\ngo 1.26\n",
		"tools/go.mod": "module old.example/server/tools\n",
		"cmd/main.go": `package main

import (
	"old.example/server/internal/app"
	"old.example/server/verify"
	"p.example/x"
)

var _, _, _ = app.X, verify.X, x.X
`,
		"README.md":           "go get old.example/server/verify, from old.example/server.\nold.example/server old.example/server\n",
		"unrelated.txt":       "old.example/server2 very.old.example/server old.example/serv\n",
		"bin/authserver":      "old.example/server",
		"a picture.png":       "\x00old.example/server",
		".git/config":         "old.example/server",
		"node_modules/x/x.js": "old.example/server",
		"scripts/run me":      "#!/bin/sh\necho old.example/server\n",
	}
	after := map[string]string{
		"go.mod":       "module z.example/you/auth\n\ngo 1.26\n",
		"tools/go.mod": "module z.example/you/auth/tools\n",
		"cmd/main.go": `package main

import (
	"p.example/x"
	"z.example/you/auth/internal/app"
	"z.example/you/auth/verify"
)

var _, _, _ = app.X, verify.X, x.X
`,
		"README.md":      "go get z.example/you/auth/verify, from z.example/you/auth.\nz.example/you/auth z.example/you/auth\n",
		"scripts/run me": "#!/bin/sh\necho z.example/you/auth\n",
	}
	root := plant(t, before)
	if err := os.Chmod(filepath.Join(root, "scripts/run me"), 0o755); err != nil {
		t.Fatal(err)
	}

	changed, err := rename(root, "z.example/you/auth")
	if err != nil {
		t.Fatal(err)
	}
	if changed != len(after) {
		t.Errorf("want %d files changed, got %d", len(after), changed)
	}
	for name, old := range before {
		want, ok := after[name]
		if !ok {
			want = old
		}
		if diff := cmp.Diff(want, content(t, root, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "scripts/run me")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("want the script to stay executable, got %v, %v", info.Mode(), err)
	}
}

func TestRename_aPathThatBeginsWithTheOldOneIsWrittenOnce(t *testing.T) {
	// The README was reached by a run that died before go.mod.
	root := plant(t, map[string]string{
		"go.mod":    "module old.example/server\n",
		"README.md": "old.example/server/v2\n",
		"doc.md":    "old.example/server/keys\n",
	})
	if _, err := rename(root, "old.example/server/v2"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"go.mod":    "module old.example/server/v2\n",
		"README.md": "old.example/server/v2\n",
		"doc.md":    "old.example/server/v2/keys\n",
	} {
		if got := content(t, root, name); got != want {
			t.Errorf("%s: want %q, got %q", name, want, got)
		}
	}
}

func TestRename_refusesWhatIsNoModulePath(t *testing.T) {
	root := plant(t, map[string]string{"go.mod": "module old.example/server\n"})
	for _, path := range []string{"", "server", "https://a.example/b", "a.example/b/", "a.example//b", "a.example/b c", "../x", "-a.example/b"} {
		if _, err := rename(root, path); err == nil || !strings.Contains(err.Error(), "not a module path") {
			t.Errorf("%q: want a refusal, got %v", path, err)
		}
	}
}

func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "a tree")
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func content(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
