// Command vectors writes the test vectors of package verify: tokens, key sets
// and settings, each with the class of error that it must be refused with, as
// JSON for whoever verifies such tokens with other means. See docs/vectors.md.
//
// What it writes depends on nothing but this source: keys and salts follow from
// their names, and signatures are deterministic.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./scripts/vectors DIRECTORY")
		os.Exit(2)
	}
	files, err := generate()
	if err == nil {
		err = write(os.Args[1], files)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

// write replaces the vectors in dir.
func write(dir string, files map[string][]byte) error {
	old, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the files by name.
func generate() (map[string][]byte, error) {
	k, err := newKeys()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for name, cases := range map[string]func(*keys) *file{
		"accepted.json":  accepted,
		"shape.json":     shape,
		"algorithm.json": algorithm,
		"type.json":      types,
		"key.json":       key,
		"signature.json": signature,
		"claims.json":    claims,
		"time.json":      times,
		"keyset.json":    keySets,
		"ml-dsa.json":    mlDSA,
	} {
		var text bytes.Buffer
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(cases(k)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = text.Bytes()
	}
	return files, nil
}
