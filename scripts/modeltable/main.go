// Command modeltable turns what `spin -T docs/model/table.pml` prints into
// docs/model/judge.json. Its argument is the file of the rules, whose checksum
// goes along: the test that reads the table knows by it that the table is of
// these rules.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// outcome is what the model says of a situation.
type outcome struct {
	Row    int  `json:"row"`
	Moves  bool `json:"moves"`  // the head becomes the presented generation + 1
	Streak int  `json:"streak"` // foreign_streak, where the head moves
	Fresh  bool `json:"fresh"`  // key_fresh, where the head moves
	Marks  bool `json:"marks"`  // foreign_seen is set
	Favour bool `json:"favour"` // late_at is set
	Ends   bool `json:"ends"`   // the family ends
}

// line is one choice of belongs, proof, life, rotates and position, as numbers
// of judge.pml. Outcomes has one letter, an index into the list of outcomes, for
// each choice of window, foreign, key, seen, streak, late and enforce, the last
// of which turns fastest; or a single letter where all are the same.
type line struct {
	Situation [5]int `json:"situation"`
	Outcomes  string `json:"outcomes"`
}

type table struct {
	Rules    string    `json:"rules_sha256"`
	Outcomes []outcome `json:"outcomes"`
	Lines    []line    `json:"lines"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("want the file of the rules, have %d arguments", len(args))
	}
	rules, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	sum := sha256.Sum256(rules)
	t := table{Rules: hex.EncodeToString(sum[:])}
	letters := map[string]byte{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !strings.Contains(fields[5], ",") {
			continue // what SPIN says about its run
		}
		if err := t.add(fields, letters); err != nil {
			return fmt.Errorf("line %d: %w", len(t.Lines)+1, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(t.Lines) == 0 {
		return fmt.Errorf("there is no table in the input")
	}
	return t.write(out)
}

// add reads one line of the table.
func (t *table) add(fields []string, letters map[string]byte) error {
	var l line
	for i := range l.Situation {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return err
		}
		l.Situation[i] = n
	}
	var outcomes []byte
	for _, text := range fields[5:] {
		letter, known := letters[text]
		if !known {
			o, err := parse(text)
			if err != nil {
				return err
			}
			letter = 'a' + byte(len(t.Outcomes))
			letters[text] = letter
			t.Outcomes = append(t.Outcomes, o)
		}
		outcomes = append(outcomes, letter)
	}
	l.Outcomes = string(outcomes)
	if strings.Count(l.Outcomes, l.Outcomes[:1]) == len(l.Outcomes) {
		l.Outcomes = l.Outcomes[:1]
	}
	t.Lines = append(t.Lines, l)
	return nil
}

// parse reads row, moves, streak, fresh, marks, favour, ends.
func parse(text string) (outcome, error) {
	var n [7]int
	parts := strings.Split(text, ",")
	if len(parts) != len(n) {
		return outcome{}, fmt.Errorf("outcome %q has %d parts", text, len(parts))
	}
	for i, part := range parts {
		v, err := strconv.Atoi(part)
		if err != nil {
			return outcome{}, fmt.Errorf("outcome %q: %w", text, err)
		}
		n[i] = v
	}
	return outcome{n[0], n[1] == 1, n[2], n[3] == 1, n[4] == 1, n[5] == 1, n[6] == 1}, nil
}

// write spells the table with one line of text for each of its lines, so that a
// change of one rule is a readable difference.
func (t *table) write(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "{\n\"rules_sha256\": %q,\n\"outcomes\": [\n", t.Rules)
	for i, o := range t.Outcomes {
		if err := element(w, o, i+1 < len(t.Outcomes)); err != nil {
			return err
		}
	}
	fmt.Fprint(w, "],\n\"lines\": [\n")
	for i, l := range t.Lines {
		if err := element(w, l, i+1 < len(t.Lines)); err != nil {
			return err
		}
	}
	fmt.Fprint(w, "]\n}\n")
	return w.Flush()
}

func element(w io.Writer, value any, more bool) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	end := "\n"
	if more {
		end = ",\n"
	}
	_, err = fmt.Fprintf(w, "%s%s", text, end)
	return err
}
