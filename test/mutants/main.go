// Command mutants puts bugs back on purpose, one at a time, and wants a named
// test to catch each within a minute, which passes without the bug. It changes no
// file: the go command is given the changed text as an overlay. It writes the table in docs/mutants.md
// with -write; without, it fails when that table is out of date.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	write := flag.Bool("write", false, "write "+document)
	only := flag.String("run", "", "only mutants whose name matches this expression")
	flag.Parse()
	if err := run(*write, *only); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

const document = "docs/mutants.md"

// patience bounds the run of a check, compiling not counted.
const patience = time.Minute

func run(write bool, only string) error {
	chosen, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sane := sanity{dir: dir, programs: map[string]string{}, verdicts: map[[2]string]error{}}
	survivors := 0
	var table strings.Builder
	table.WriteString(head)
	for _, m := range mutants {
		if !chosen.MatchString(m.name) {
			continue
		}
		by, took, err := m.caughtBy()
		if err == nil {
			err = sane.passes(m)
		}
		if err != nil {
			fmt.Printf("LIVES   %s: %v\n", m.name, err)
			survivors++
			continue
		}
		fmt.Printf("caught  %s (%s): by %s in %s\n", m.name, m.file, by, took.Round(100*time.Millisecond))
		fmt.Fprintf(&table, "| %s | `%s` | `%s` in `%s` |\n", m.name, m.file, by, strings.TrimPrefix(m.pkg, "./"))
	}
	switch {
	case survivors > 0:
		return fmt.Errorf("%d mutants were not caught", survivors)
	case only != "":
		return nil
	case write:
		return os.WriteFile(document, []byte(table.String()), 0o644)
	}
	old, err := os.ReadFile(document)
	if err != nil || string(old) != table.String() {
		return errors.Join(fmt.Errorf("%s is out of date: make mutants ARGS=-write", document), err)
	}
	return nil
}

const head = `# Bugs put back on purpose

Written by ` + "`make mutants ARGS=-write`" + `. Each line is a bug that was put back, one at a
time and in memory only, and the test that failed because of it, within a minute.
` + "`make mutants`" + ` does it again and fails when one of them is not caught.

| the bug | put back in | caught by |
|---|---|---|
`

// caughtBy runs the check of a mutant and returns the first test that failed.
func (m mutant) caughtBy() (test string, took time.Duration, err error) {
	changed, err := m.changed(".")
	if err != nil {
		return "", 0, err
	}
	dir, err := os.MkdirTemp("", "mutant-*")
	if err != nil {
		return "", 0, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir, changed)
	if err != nil {
		return "", 0, err
	}
	program := filepath.Join(dir, "check.test")
	if err := compile(program, m.pkg, "-overlay", overlay); err != nil {
		return "", 0, fmt.Errorf("the mutant does not compile: %w", err)
	}
	out, took, err := m.run(program)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", took, errors.New("every test passed")
	case !errors.As(err, &exit):
		return "", took, err
	case bytes.Contains(out, []byte("panic: test timed out")):
		return "", took, fmt.Errorf("no verdict within %s", patience)
	}
	if test = failed(out); test == "" {
		return "", took, fmt.Errorf("no test failed by name:\n%s", out)
	}
	// As deep as the check names it: below that another part may be the first.
	parts := strings.Split(test, "/")
	return strings.Join(parts[:min(len(parts), strings.Count(m.check, "/")+1)], "/"), took, nil
}

// compile makes the test program of a package.
func compile(program, pkg string, flags ...string) error {
	args := append([]string{"test", "-c", "-o", program}, append(flags, pkg)...)
	if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// run runs the check of a mutant in a test program.
func (m mutant) run(program string) (out []byte, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+10*time.Second)
	defer cancel()
	check := exec.CommandContext(ctx, program, "-test.v", "-test.run", m.check, "-test.failfast", "-test.timeout", patience.String())
	check.Dir = m.pkg
	begun := time.Now()
	out, err = check.CombinedOutput()
	return out, time.Since(begun), err
}

// sanity knows which checks pass on the tree as it is: one that fails anyway has caught
// nothing.
type sanity struct {
	dir      string
	programs map[string]string   // by package
	verdicts map[[2]string]error // by package and check
}

func (s *sanity) passes(m mutant) error {
	key := [2]string{m.pkg, m.check}
	if verdict, known := s.verdicts[key]; known {
		return verdict
	}
	program, known := s.programs[m.pkg]
	if !known {
		program = filepath.Join(s.dir, fmt.Sprintf("%d.test", len(s.programs)))
		if err := compile(program, m.pkg); err != nil {
			return err
		}
		s.programs[m.pkg] = program
	}
	out, _, err := m.run(program)
	switch {
	case err != nil:
		err = fmt.Errorf("%s fails without the bug, too: %w\n%s", m.check, err, out)
	case !bytes.Contains(out, []byte("--- PASS: ")):
		err = fmt.Errorf("%s passes no test without the bug:\n%s", m.check, out)
	}
	s.verdicts[key] = err
	return err
}

// changed returns the file of the tree at root with the bug in it.
func (m mutant) changed(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return "", fmt.Errorf("the text to change stands %d times in %s; want it once", n, m.file)
	}
	return strings.Replace(string(text), m.old, m.new, 1), nil
}

// overlay writes the changed file and the document that names it.
func (m mutant) overlay(dir, changed string) (path string, err error) {
	file := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		return "", err
	}
	whole, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {whole: file}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

var (
	failure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	begun   = regexp.MustCompile(`(?m)^=== RUN +([^/\s]+)$`)
)

// failed returns the first test that the output says has failed, or the one in
// which the program panicked.
func failed(out []byte) string {
	deepest := ""
	for _, m := range failure.FindAllSubmatch(out, -1) {
		if name := string(m[1]); deepest == "" || strings.HasPrefix(name, deepest+"/") {
			deepest = name
		}
	}
	if deepest != "" {
		return deepest
	}
	if all := begun.FindAllSubmatch(out, -1); len(all) > 0 && bytes.Contains(out, []byte("panic: ")) {
		return string(all[len(all)-1][1])
	}
	return ""
}
