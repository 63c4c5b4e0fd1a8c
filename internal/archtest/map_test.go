package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table of rooms in ARCHITECTURE.md is complete and true: every directory
// with Go files has a row, under internal one of its own and elsewhere at least
// that of a directory above it, and whatever has a row is there.
func TestTheMapShowsTheHouse(t *testing.T) {
	page, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	name := regexp.MustCompile("`([a-z0-9/]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\|").FindAllStringSubmatch(string(page), -1) {
		for _, dir := range name.FindAllStringSubmatch(row[1], -1) {
			shown = append(shown, dir[1])
		}
	}
	_, dirs, _, err := readTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if !slices.ContainsFunc(shown, func(s string) bool {
			return dir == s || !under(dir, "internal") && strings.HasPrefix(dir, s+"/")
		}) {
			t.Errorf("%s has no row in the table of rooms of ARCHITECTURE.md", dir)
		}
	}
	for _, dir := range shown {
		if info, err := os.Stat(filepath.Join("../..", dir)); err != nil || !info.IsDir() {
			t.Errorf("ARCHITECTURE.md shows %s, which is no directory: %v", dir, err)
		}
	}
}
