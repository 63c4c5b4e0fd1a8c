package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	page = "# Page\n\n<!-- snippet: lock test/interop/verifiers/lock.go -->\n```go\nold\n```\nmore\n"
	lock = "package verifiers\n\nfunc f() {\n\t// snippet: lock\n\tif a {\n\t\tb()\n\t}\n\t// end\n}\n"
)

// tree writes a page and one source and returns their root.
func tree(t *testing.T, page, source string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"docs/protect-your-api.md": page, "test/interop/verifiers/lock.go": source} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRun_fillsAPageAndThenFindsItFresh(t *testing.T) {
	root := tree(t, page, lock)
	if err := run(root, true); err == nil || !strings.Contains(err.Error(), "line 5") || !strings.Contains(err.Error(), "make docs") {
		t.Fatalf("a stale page: %v", err)
	}
	if err := run(root, false); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "docs/protect-your-api.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(page, "old\n", "if a {\n\tb()\n}\n", 1); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := run(root, true); err != nil {
		t.Errorf("a fresh page: %v", err)
	}
}

func TestRun_refuses(t *testing.T) {
	for what, c := range map[string]struct{ page, source, say string }{
		"a snippet that is too long":       {page, strings.Replace(lock, "\t\tb()\n", strings.Repeat("\t\tb()\n", 10), 1), "12 lines"},
		"a snippet without an end":         {page, strings.Replace(lock, "\t// end\n", "", 1), "has no end"},
		"a snippet that nobody shows":      {"# Page\n", lock, "no page shows snippet lock"},
		"a page that names no snippet":     {strings.Replace(page, "lock test", "key test", 1), lock, "snippet key is not in"},
		"a page that names another file":   {strings.Replace(page, "lock.go", "key.go", 1), lock, "is not in test/interop/verifiers/key.go"},
		"a mark without a block behind it": {strings.Replace(page, "```go\n", "", 1), lock, "no fenced block"},
	} {
		if err := run(tree(t, c.page, c.source), true); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want it to say %q", what, err, c.say)
		}
	}
}
