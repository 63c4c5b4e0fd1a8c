package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What is committed is what this command writes.
func TestVectors_areFresh(t *testing.T) {
	const committed = "../../verify/testdata/vectors"
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	there, err := filepath.Glob(filepath.Join(committed, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(files) {
		t.Errorf("%d files are committed, %d are made; make vectors writes them", len(there), len(files))
	}
	for name, text := range files {
		old, err := os.ReadFile(filepath.Join(committed, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(old, text) {
			t.Errorf("%s is not what is made now; make vectors writes it", name)
		}
	}
	again := t.TempDir()
	if err := write(again, files); err != nil {
		t.Fatal(err)
	}
	if written, _ := filepath.Glob(filepath.Join(again, "*.json")); len(written) != len(files) {
		t.Errorf("%d files were written, want %d", len(written), len(files))
	}
}
