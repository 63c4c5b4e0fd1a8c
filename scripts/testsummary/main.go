// Command testsummary reads the output of `go test -json` and prints what `go
// test` would have printed, then how many tests ran on which store.
//
// It exists because a suite can be green without having run: a store that
// could not be opened, a helper that skips. It does not run anything itself.
// The slowest tests are named, for whoever waits for them.
// What tests counted ("figure: histories checked: 72" in the log) it adds up.
//
// A test counts for a store when an element of its name starts with that
// store's name (TestRotate/postgres, TestRotate/sqlite-wal), or when its package
// is that store (internal/store/postgres).
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	needStores := flag.Bool("stores", false, "fail unless tests ran on each store")
	noSkips := flag.Bool("no-skips", false, "fail when a test was skipped")
	flag.Parse()

	// An interrupt is meant for the tests; their last words are still read.
	signal.Ignore(os.Interrupt)
	sum, err := read(os.Stdin, os.Stdout)
	if err == nil {
		sum.print(os.Stdout)
		err = sum.verdict(*needStores, *noSkips)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail, instead of Package
	Test       string
	Output     string
	Elapsed    float64 // seconds, of pass and fail; without the time in which a parallel test waited
}

// count is how the tests of one store ended.
type count struct{ passed, failed, skipped int }

// summary is what is known when the stream has ended. Parent tests are not
// counted when they have subtests: TestX with two subtests is two tests.
type summary struct {
	stores  map[string]*count
	all     count
	figures map[string]int // what passing tests counted, in their words
	seeds   []string       // of passing tests, with their names
	skips   []string       // names of the skipped tests
	trouble []string       // packages that failed without a failing test
	slow    []slowTest     // those that passed and took slowFrom at least
}

// slowTest is what there is to gain by looking at one test.
type slowTest struct {
	name    string
	seconds float64
}

// slowFrom and slowMost say how slow a test is, in seconds, and how many of the slowest
// are named.
const (
	slowFrom = 10
	slowMost = 15
)

var stores = []string{"postgres", "sqlite"}

// unit is the output of one test or of one package, held back until it is known
// whether anybody wants to read it.
type unit struct{ pkg, test string }

// read copies to out what a person wants to see of the stream, as it comes:
// the closing line of every package, and the output of what failed.
func read(in io.Reader, out io.Writer) (*summary, error) {
	sum := &summary{stores: map[string]*count{}, figures: map[string]int{}}
	for _, s := range stores {
		sum.stores[s] = &count{}
	}
	held := map[unit][]string{}
	parents := map[unit]bool{}
	failures := map[string]int{}

	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				out.Write(line) // the go command itself, outside any test
			} else {
				sum.take(e, held, parents, failures, out)
			}
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func (s *summary) take(e event, held map[unit][]string, parents map[unit]bool, failures map[string]int, out io.Writer) {
	u := unit{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		io.WriteString(out, e.Output)
	case "run":
		if at := strings.LastIndexByte(e.Test, '/'); at >= 0 {
			parents[unit{e.Package, e.Test[:at]}] = true
		}
	case "output":
		held[u] = append(held[u], e.Output)
	case "pass", "fail", "skip":
		lines := held[u]
		delete(held, u)
		if e.Test == "" {
			s.closePackage(e, lines, held, failures, out)
			return
		}
		if e.Action == "fail" {
			failures[e.Package]++
			io.WriteString(out, strings.Join(lines, ""))
		}
		if e.Action == "pass" {
			s.addFigures(e.Test, lines)
		}
		if !parents[u] {
			s.countTest(e)
			if e.Action == "pass" && e.Elapsed >= slowFrom {
				s.slow = append(s.slow, slowTest{e.Package + " " + e.Test, e.Elapsed})
			}
		}
	}
}

// closePackage prints the package's own lines: all of them after a failure, and
// of a good one only the closing line, which is the last.
func (s *summary) closePackage(e event, lines []string, held map[unit][]string, failures map[string]int, out io.Writer) {
	if e.Action != "fail" {
		if len(lines) > 0 {
			io.WriteString(out, lines[len(lines)-1])
		}
		return
	}
	if failures[e.Package] == 0 {
		s.trouble = append(s.trouble, e.Package)
	}
	// What tests had said that never came to an end: a panic, a time-out.
	var open []unit
	for u := range held {
		if u.pkg == e.Package {
			open = append(open, u)
		}
	}
	slices.SortFunc(open, func(a, b unit) int { return strings.Compare(a.test, b.test) })
	for _, u := range open {
		io.WriteString(out, strings.Join(held[u], ""))
		delete(held, u)
	}
	io.WriteString(out, strings.Join(lines, ""))
}

// A test that counts something says so in a line of its log, and one that makes random
// choices says what replays them.
var (
	figureLine = regexp.MustCompile(`figure: (.+): ([0-9]+)$`)
	seedLine   = regexp.MustCompile(`: seed ([0-9]+) \(`)
)

func (s *summary) addFigures(test string, lines []string) {
	for _, line := range lines {
		if m := figureLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			n, _ := strconv.Atoi(m[2]) // digits; beyond an int nobody counts
			s.figures[m[1]] += n
		}
		if m := seedLine.FindStringSubmatch(line); m != nil {
			s.seeds = append(s.seeds, m[1]+" of "+test)
		}
	}
}

func (s *summary) countTest(e event) {
	counts := []*count{&s.all}
	for _, store := range stores {
		if on(store, e) {
			counts = append(counts, s.stores[store])
		}
	}
	for _, c := range counts {
		switch e.Action {
		case "pass":
			c.passed++
		case "fail":
			c.failed++
		case "skip":
			c.skipped++
		}
	}
	if e.Action == "skip" {
		s.skips = append(s.skips, e.Package+" "+e.Test)
	}
}

func on(store string, e event) bool {
	if strings.HasSuffix(e.Package, "/store/"+store) {
		return true
	}
	for element := range strings.SplitSeq(e.Test, "/") {
		if strings.HasPrefix(element, store) {
			return true
		}
	}
	return false
}

func (s *summary) print(out io.Writer) {
	fmt.Fprintln(out)
	for _, seed := range s.seeds {
		fmt.Fprintln(out, "seed", seed)
	}
	for _, what := range slices.Sorted(maps.Keys(s.figures)) {
		fmt.Fprintf(out, "%10d  %s\n", s.figures[what], what)
	}
	slices.SortFunc(s.slow, func(a, b slowTest) int { return cmp.Compare(b.seconds, a.seconds) })
	for _, t := range s.slow[:min(len(s.slow), slowMost)] {
		fmt.Fprintf(out, "slow: %5.1f s  %s\n", t.seconds, t.name)
	}
	for _, store := range stores {
		c := s.stores[store]
		fmt.Fprintf(out, "on %-9s %d passed, %d failed, %d skipped\n", store+":", c.passed, c.failed, c.skipped)
	}
	for _, name := range s.skips {
		fmt.Fprintln(out, "skipped:", name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.all.passed, s.all.failed+len(s.trouble), s.all.skipped)
}

// verdict judges what go test does not: it calls a suite good that ran nothing.
func (s *summary) verdict(needStores, noSkips bool) error {
	var wrong []error
	if n := s.all.failed + len(s.trouble); n > 0 {
		wrong = append(wrong, fmt.Errorf("%d failed", n))
	}
	if noSkips && len(s.skips) > 0 {
		wrong = append(wrong, fmt.Errorf("%d skipped, and all of them should have run; their names stand above", len(s.skips)))
	}
	if needStores {
		for _, store := range stores {
			if s.stores[store].passed == 0 {
				wrong = append(wrong, fmt.Errorf("no test passed on %s: what the stores promise is to be tested on both", store))
			}
		}
	}
	return errors.Join(wrong...)
}
