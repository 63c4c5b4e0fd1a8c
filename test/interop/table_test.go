package interop

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// fate is what should become of a token, and by whose doing.
type fate string

const (
	byTool fate = "ok"   // the tool does it when told so
	byLine fate = "line" // the tool cannot; a line of the snippet does, with the reason in remarks
)

// cell is one tool under one column.
type cell struct {
	checked int
	wrong   []string // what went against the expectation
}

// row is one tool.
type row struct {
	tool    string
	remarks map[string]string // column: why the tool cannot, and what does it instead
	cells   map[string]*cell
	atOnce  string // what the same replay says where keys sign at once
}

// table gathers the results. It is safe for concurrent use.
type table struct {
	mu   sync.Mutex
	rows []*row
}

// results is what the whole run found.
var results = &table{}

func (t *table) row(tool string, remarks map[string]string) *row {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := &row{tool: tool, remarks: remarks, cells: map[string]*cell{}}
	t.rows = append(t.rows, r)
	return r
}

// judge holds what a tool said about a specimen against what it should have
// said. A row belongs to one goroutine.
func (r *row) judge(s specimen, refusal error) {
	c := r.cells[s.column]
	if c == nil {
		c = &cell{}
		r.cells[s.column] = c
	}
	c.checked++
	if testing.Verbose() && s.column != rotation {
		fmt.Printf("%s, %s, %s: %v\n", r.tool, s.column, s.what, refusal)
	}
	accepts := s.column == good || s.column == rotation
	switch {
	case accepts && refusal != nil:
		c.wrong = append(c.wrong, fmt.Sprintf("refused %s: %v", s.what, refusal))
	case !accepts && refusal == nil:
		c.wrong = append(c.wrong, fmt.Sprintf("accepted a token with the wrong %s: %s", s.column, s.what))
	}
}

func (r *row) refusals(column string) int {
	if c := r.cells[column]; c != nil {
		return len(c.wrong)
	}
	return 0
}

// word is what the table says of one cell.
func (r *row) word(column string) (text string, passed bool) {
	c := r.cells[column]
	switch {
	case c == nil || c.checked == 0:
		return "not run", false
	case len(c.wrong) > 0:
		return fmt.Sprintf("FAIL %d/%d", len(c.wrong), c.checked), false
	case r.remarks[column] != "":
		return string(byLine), true
	}
	return string(byTool), true
}

// failed counts the cells that are not as they should be.
func (t *table) failed() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		for _, column := range columns {
			if _, ok := r.word(column); !ok {
				n++
			}
		}
	}
	return n
}

// print writes the table and what stands behind it, and returns the counts.
func (t *table) print(w io.Writer) (passed, failed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.rows, func(a, b *row) int { return strings.Compare(a.tool, b.tool) })
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tabs, "\ntool\t%s\ttokens\tat once\n", strings.Join(columns, "\t"))
	for _, r := range t.rows {
		fmt.Fprint(tabs, r.tool)
		tokens := 0
		for _, column := range columns {
			text, ok := r.word(column)
			fmt.Fprintf(tabs, "\t%s", text)
			if ok {
				passed++
			} else {
				failed++
			}
			if c := r.cells[column]; c != nil {
				tokens += c.checked
			}
		}
		fmt.Fprintf(tabs, "\t%d\t%s\n", tokens, r.atOnce)
	}
	tabs.Flush()
	fmt.Fprint(w, `
ok    the tool does it by itself, once told to
line  the tool cannot; a line of the snippet in docs/protect-your-api.md does:
`)
	for _, r := range t.rows {
		for _, column := range columns {
			if why := r.remarks[column]; why != "" {
				fmt.Fprintf(w, "      %s, %s: %s\n", r.tool, column, why)
			}
		}
	}
	fmt.Fprint(w, `at once  refusals in the same replay if every key signed the moment it was published
`)
	for _, r := range t.rows {
		for _, column := range columns {
			for n, what := range r.cells[column].trouble() {
				if n == 5 {
					fmt.Fprintf(w, "FAIL %s, %s: and more\n", r.tool, column)
					break
				}
				fmt.Fprintf(w, "FAIL %s, %s: %s\n", r.tool, column, what)
			}
		}
	}
	fmt.Fprintf(w, "\n%d passed, %d failed\n", passed, failed)
	return passed, failed
}

func (c *cell) trouble() []string {
	if c == nil {
		return nil
	}
	return c.wrong
}
