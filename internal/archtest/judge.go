package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// imported is one import as it stands in a file of this tree.
type imported struct {
	dir  string // directory of the importing file, relative to the module
	file string // name and line, for the message
	path string // what is imported
	test bool   // in a _test.go file
}

// judge returns what breaks the law, a sentence each, in the order of the
// imports. dirs are all directories with Go files, imports all their imports.
func judge(module string, dirs []string, imports []imported) []string {
	var breaches []string
	for _, dir := range dirs {
		if _, ok := placeOf(dir); !ok && under(dir, "internal") {
			breaches = append(breaches, fmt.Sprintf(
				"%s has no place in the house: give it a line in rooms of internal/archtest/law.go, on the floor it belongs to (a domain room at its place in the line)", dir))
		}
	}
	for _, i := range imports {
		if reason := forbidden(module, i); reason != "" {
			breaches = append(breaches, fmt.Sprintf("%s: %s imports %s: %s", i.file, i.dir, i.path, reason))
		}
	}
	return breaches
}

// forbidden returns the reason why this import is not allowed, or "".
func forbidden(module string, i imported) string {
	from, placed := placeOf(i.dir)
	if !placed {
		return "" // outside the house, or already reported
	}
	ours, inside := strings.CutPrefix(i.path, module+"/")
	if !inside {
		return forbiddenOutside(from, i)
	}
	to, placed := placeOf(ours)
	if i.test {
		return forbiddenToTests(from, to, placed)
	}
	switch {
	case isTestkit(ours) && !isTestkit(i.dir):
		return kitTestKit
	case isTestkit(i.dir) && from.floor != suite && from.floor != watch && from.floor != public:
		return "" // a testkit beside a room may need the house around it
	case !placed:
		return "the server imports only what has a place in internal/archtest/law.go"
	case from == to:
		return "" // a room's own subpackages are the room
	}
	return betweenRooms(from, to)
}

// betweenRooms judges shipped code of one room importing another.
func betweenRooms(from, to place) string {
	switch {
	case to.floor == config && from.floor != command && from.floor != attic:
		return configReason
	case from.floor == store && to.floor == store:
		return strangers
	case from.floor == door && to.floor == door:
		return doorReason
	case !slices.Contains(below[from.floor].floors, to.floor):
		return below[from.floor].reason
	case from.floor == domain && to.floor == domain && slices.Index(rooms, to) > slices.Index(rooms, from):
		return leftReason + ": " + line()
	}
	return ""
}

// forbiddenToTests judges a _test.go file. Tests use real stores and the real
// server, so they may reach up; two rules stand for them as well.
func forbiddenToTests(from, to place, placed bool) string {
	switch {
	case from.floor == public && (!placed || to != from):
		return below[public].reason
	case from.floor == store && to.floor == store && from != to:
		return strangers
	}
	return ""
}

// forbiddenOutside judges the import of the standard library or of a dependency.
func forbiddenOutside(from place, i imported) string {
	if i.test {
		return ""
	}
	if !isTestkit(i.dir) && underAny(i.path, tools) {
		return toolsReason
	}
	if from.floor == public && !isStandard(i.path) && !under(i.path, verifyMay) {
		return verifyReason
	}
	if from.floor == outside && !isStandard(i.path) {
		return below[outside].reason
	}
	for _, b := range bans {
		if !b.exempt(from) && underAny(i.path, b.paths) && !isTestkit(i.dir) {
			return b.reason
		}
	}
	return ""
}

// placeOf finds the room of a directory of this module.
func placeOf(dir string) (place, bool) {
	var found place
	for _, p := range rooms {
		if under(dir, p.dir) && len(p.dir) > len(found.dir) {
			found = p
		}
	}
	// A new engine or door is a room of its own, not a part of what it stands under.
	if (found.floor == hall || found.floor == roof) && dir != found.dir && !isTestkit(dir) {
		return place{}, false
	}
	return found, found.dir != ""
}

// isTestkit reports whether a package exists for tests only, by its name:
// storetest, apptest.
func isTestkit(dir string) bool {
	return strings.HasSuffix(path.Base(dir), "test")
}

// isStandard goes by the go command's own rule: the first element of any other
// module's path has a dot.
func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func underAny(importPath string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return under(importPath, root) })
}

// line is the domain from left to right.
func line() string {
	var names []string
	for _, p := range rooms {
		if p.floor == domain {
			names = append(names, path.Base(p.dir))
		}
	}
	return strings.Join(names, " | ")
}
