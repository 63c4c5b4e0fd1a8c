package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutants_canBePutBack: a bug whose place in the code has changed would be
// found missing only when somebody runs make mutants, which takes minutes.
func TestMutants_canBePutBack(t *testing.T) {
	root := filepath.Join("..", "..")
	table, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		if changed, err := m.changed(root); err != nil || changed == "" {
			t.Errorf("%s: %v", m.name, err)
		}
		if !strings.Contains(string(table), "| "+m.name+" | `"+m.file+"` |") {
			t.Errorf("%s is not in %s: make mutants ARGS=-write", m.name, document)
		}
	}
}
