package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// result is one line of the table.
type result struct {
	Scenario string  `json:"scenario"`
	Story    string  `json:"story"`
	Happened string  `json:"happened"`
	Verdict  verdict `json:"verdict"`
}

// report is what the torture found.
type report struct {
	Target   string   `json:"target"`
	Results  []result `json:"results"`
	Good     int      `json:"good"`
	Found    int      `json:"found"` // neither good nor not tried
	NotTried int      `json:"not_tried"`
}

func (r *report) add(s scenario, f finding) {
	r.Results = append(r.Results, result{s.name, s.story, printable(f.what), f.verdict})
	switch f.verdict {
	case good:
		r.Good++
	case notTried:
		r.NotTried++
	default:
		r.Found++
	}
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tWHAT HAPPENED\tVERDICT")
	for _, line := range r.Results {
		fmt.Fprintf(t, "%s\t%s\t%s\n", line.Scenario, line.Happened, line.Verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d good, %d found, %d not tried\n", r.Good, r.Found, r.NotTried)
	return err
}

// printable keeps what a server wrote from moving the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, s)
}
