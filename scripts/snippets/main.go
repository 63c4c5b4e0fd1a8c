// Command snippets copies marked lines of tested files into the documentation,
// so that what a reader copies is what the tests run.
//
//	go run ./scripts/snippets [-check]
//
// A source marks its lines with "snippet: NAME" and "end", each in a comment of
// its own. A page says where a fenced block comes from on the line before it:
//
//	<!-- snippet: NAME test/interop/verifiers/file.go -->
//
// With -check nothing is written, and a stale page is an error.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// pages are the documents with snippets, and sources where snippets come from.
var (
	pages   = []string{"docs/protect-your-api.md"}
	sources = []string{"test/interop/*_test.go", "test/interop/verifiers/*.go", "test/interop/node/*.mjs", "test/interop/python/*.py", "test/interop/java/*.java", "test/interop/proxies/*"}
)

// maxLines is how long a snippet may be: who has to read more copies blindly.
const maxLines = 10

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a page is stale")
	flag.Parse()
	if err := run(".", *check); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	found, err := collect(root)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, page := range pages {
		path := filepath.Join(root, page)
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fresh, err := fill(string(old), found, used)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", page, err)
		case fresh == string(old):
		case check:
			return fmt.Errorf("%s does not show what the tests run, first at line %d\nhint: make docs", page, firstDifference(string(old), fresh))
		default:
			if err := os.WriteFile(path, []byte(fresh), 0o600); err != nil { // the file is there: its mode stays
				return err
			}
		}
	}
	for name := range found {
		if !used[name] {
			return fmt.Errorf("no page shows snippet %s", name)
		}
	}
	return nil
}

// The two marks, in any language whose comments begin with // or #.
var (
	begin = regexp.MustCompile(`^\s*(?://|#) snippet: ([a-z0-9-]+)$`)
	end   = regexp.MustCompile(`^\s*(?://|#) end$`)
	place = regexp.MustCompile(`^<!-- snippet: ([a-z0-9-]+) (\S+) -->$`)
)

// snippet is one marked piece of a file.
type snippet struct {
	file string // with slashes, from the root
	text string // without the indentation that all lines share
}

func collect(root string) (map[string]snippet, error) {
	found := map[string]snippet{}
	for _, pattern := range sources {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				return nil, err
			}
			if err := marked(filepath.ToSlash(name), text, found); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return found, nil
}

func marked(file string, text []byte, found map[string]snippet) error {
	name, lines := "", []string(nil)
	for line := range bytes.Lines(text) {
		line := strings.TrimRight(string(line), "\r\n")
		switch m := begin.FindStringSubmatch(line); {
		case m != nil && name != "":
			return fmt.Errorf("snippet %s begins inside %s", m[1], name)
		case m != nil:
			name, lines = m[1], nil
		case name != "" && end.MatchString(line):
			if _, ok := found[name]; ok {
				return fmt.Errorf("snippet %s is there twice", name)
			}
			if len(lines) == 0 || len(lines) > maxLines {
				return fmt.Errorf("snippet %s has %d lines, want 1 to %d", name, len(lines), maxLines)
			}
			found[name] = snippet{file, dedented(lines)}
			name = ""
		case name != "":
			lines = append(lines, line)
		}
	}
	if name != "" {
		return fmt.Errorf("snippet %s has no end", name)
	}
	return nil
}

// dedented joins lines without their common indentation.
func dedented(lines []string) string {
	common := -1
	for _, l := range lines {
		if rest := strings.TrimLeft(l, " \t"); rest != "" {
			if n := len(l) - len(rest); common < 0 || n < common {
				common = n
			}
		}
	}
	var out strings.Builder
	for _, l := range lines {
		out.WriteString(l[min(max(common, 0), len(l)):] + "\n")
	}
	return out.String()
}

// fill returns page with the text of every fenced block that names a snippet.
func fill(page string, found map[string]snippet, used map[string]bool) (string, error) {
	var out strings.Builder
	lines := strings.SplitAfter(page, "\n")
	for n := 0; n < len(lines); n++ {
		out.WriteString(lines[n])
		m := place.FindStringSubmatch(strings.TrimSpace(lines[n]))
		if m == nil {
			continue
		}
		s, ok := found[m[1]]
		if !ok || s.file != m[2] {
			return "", fmt.Errorf("snippet %s is not in %s", m[1], m[2])
		}
		if n+1 >= len(lines) || !strings.HasPrefix(lines[n+1], "```") {
			return "", fmt.Errorf("no fenced block follows the mark of snippet %s", m[1])
		}
		closing := n + 2
		for closing < len(lines) && strings.TrimSpace(lines[closing]) != "```" {
			closing++
		}
		if closing == len(lines) {
			return "", errors.New("a fenced block does not end")
		}
		out.WriteString(lines[n+1] + s.text + lines[closing])
		used[m[1]] = true
		n = closing
	}
	return out.String(), nil
}

func firstDifference(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for n := range min(len(x), len(y)) {
		if x[n] != y[n] {
			return n + 1
		}
	}
	return min(len(x), len(y)) + 1
}
