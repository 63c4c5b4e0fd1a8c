package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun_turnsWhatSpinPrintsIntoATable(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(rules, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := "1 0 0 1 0 6,1,2,1,0,0,0 6,1,2,1,0,0,0\n1 0 0 1 3 12,0,0,0,0,0,1 10,0,0,0,1,0,0\n1 process created\n"
	var out strings.Builder
	if err := run([]string{rules}, strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	want := `{
"rules_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
"outcomes": [
{"row":6,"moves":true,"streak":2,"fresh":true,"marks":false,"favour":false,"ends":false},
{"row":12,"moves":false,"streak":0,"fresh":false,"marks":false,"favour":false,"ends":true},
{"row":10,"moves":false,"streak":0,"fresh":false,"marks":true,"favour":false,"ends":false}
],
"lines": [
{"situation":[1,0,0,1,0],"outcomes":"a"},
{"situation":[1,0,0,1,3],"outcomes":"bc"}
]
}
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestRun_refusesWhatIsNoTable(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(rules, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"":                             "no table",
		"spin: error\n":                "no table",
		"1 0 0 1 0 6,1,2\n":            "3 parts",
		"1 0 0 1 0 6,1,2,1,0,0,x\n":    "invalid syntax",
		"one 0 0 1 0 6,1,2,1,0,0,0\n":  "invalid syntax",
		"1 0 0 1 0 6,1,2,1,0,0,0,0 \n": "8 parts",
	} {
		var out strings.Builder
		if err := run([]string{rules}, strings.NewReader(in), &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	if err := run(nil, strings.NewReader(""), &strings.Builder{}); err == nil {
		t.Error("no file of rules: want an error")
	}
}
