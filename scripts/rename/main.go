// Command rename gives the module another path: in go.mod, in every import and
// wherever else the path is written, nested modules included.
//
//	go run ./scripts/rename example.org/you/authserver
//
// It works on the tree it is started in and does not touch what git ignores by
// convention here (bin, data, dist, node_modules) nor files that are not text.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./scripts/rename MODULE")
		os.Exit(2)
	}
	changed, err := rename(".", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Printf("%d files now say %s\n", changed, os.Args[1])
}

// modulePath is what the go command takes for a module that can be fetched: a
// host name with a dot, then path elements of the letters it allows.
var modulePath = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)+(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

// rename rewrites the tree at root and returns how many files it changed. A
// crash half-way leaves some files renamed; go.mod is the last one, so the same
// command run again finishes the work.
func rename(root, to string) (int, error) {
	if !modulePath.MatchString(to) {
		return 0, fmt.Errorf("%q is not a module path: want something like example.org/you/authserver", to)
	}
	from, err := currentModule(filepath.Join(root, "go.mod"))
	if err != nil {
		return 0, err
	}
	if from == to {
		return 0, nil
	}
	files, err := textFiles(root)
	if err != nil {
		return 0, err
	}
	slices.SortStableFunc(files, func(a, b string) int {
		return order(root, a) - order(root, b)
	})
	changed := 0
	for _, name := range files {
		did, err := rewrite(name, from, to)
		if err != nil {
			return changed, fmt.Errorf("rename in %s: %w", name, err)
		}
		if did {
			changed++
		}
	}
	return changed, nil
}

func order(root, name string) int {
	if name == filepath.Join(root, "go.mod") {
		return 1
	}
	return 0
}

func currentModule(goMod string) (string, error) {
	text, err := os.ReadFile(goMod)
	if err != nil {
		return "", fmt.Errorf("find the present module path: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "module "); ok {
			return strings.Trim(strings.TrimSpace(rest), `"`), nil
		}
	}
	return "", fmt.Errorf("%s has no module line", goMod)
}

func textFiles(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && slices.Contains([]string{".git", "bin", "data", "dist", "node_modules"}, d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular():
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

func rewrite(name, from, to string) (bool, error) {
	old, err := os.ReadFile(name)
	if err != nil {
		return false, err
	}
	text := replaceAll(old, []byte(from), []byte(to))
	if bytes.IndexByte(old, 0) >= 0 || bytes.Equal(old, text) {
		return false, nil
	}
	if strings.HasSuffix(name, ".go") {
		// Imports are sorted by path, and the path changed.
		if sorted, err := format.Source(text); err == nil {
			text = sorted
		}
	}
	if info, err := os.Stat(name); err != nil {
		return false, err
	} else if err := replaceFile(name, text, info.Mode().Perm()); err != nil {
		return false, err
	}
	return true, nil
}

// replaceAll puts to where from stands as a whole: not in example.com/authserver2
// and not in another.example.com/authserver. Where to begins with from, a place
// that already says to is left alone.
func replaceAll(text, from, to []byte) []byte {
	var out []byte
	for at := 0; ; {
		hit := bytes.Index(text[at:], from)
		if hit < 0 {
			return append(out, text[at:]...)
		}
		start := at + hit
		end := start + len(from)
		whole := (start == 0 || !inPath(text[start-1], ".")) && (end == len(text) || !inPath(text[end], ""))
		done := bytes.HasPrefix(to, from) && bytes.HasPrefix(text[start:], to)
		out = append(out, text[at:start]...)
		if whole && !done {
			out = append(out, to...)
		} else {
			out = append(out, from...)
		}
		at = end
	}
}

// inPath reports whether c continues an element of a module path. A dot does so
// in front of the path, and behind it ends a sentence.
func inPath(c byte, also string) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("_~-"+also, c) >= 0
}

// replaceFile swaps the file in one step, so that a crash leaves the old text
// or the new one.
func replaceFile(name string, text []byte, mode fs.FileMode) error {
	next, err := os.CreateTemp(filepath.Dir(name), ".rename-*")
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	err = errors.Join(err, next.Chmod(mode), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), name)
	}
	if err != nil {
		os.Remove(next.Name())
	}
	return err
}
