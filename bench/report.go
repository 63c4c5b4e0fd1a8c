package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run found out.
type report struct {
	Machine  machine  `json:"machine"`
	Families int      `json:"families"`
	Seconds  int      `json:"seconds"`
	Rounds   int      `json:"rounds"`
	Figures  []figure `json:"figures"`
}

// figure is one line of the table.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"` // empty for ratios
	Target string  `json:"target,omitempty"`
	Met    *bool   `json:"met,omitempty"` // absent where there is no target
	Note   string  `json:"note,omitempty"`
}

// note adds a figure without a target.
func (r *report) note(name string, value float64, unit, format string, args ...any) {
	r.Figures = append(r.Figures, figure{Name: name, Value: value, Unit: unit, Note: fmt.Sprintf(format, args...)})
}

// atLeast and atMost add a figure with its target.
func (r *report) atLeast(name string, value float64, unit string, target float64, format string, args ...any) {
	r.against(name, value, unit, ">=", target, value >= target, fmt.Sprintf(format, args...))
}

func (r *report) atMost(name string, value float64, unit string, target float64, format string, args ...any) {
	r.against(name, value, unit, "<=", target, value <= target, fmt.Sprintf(format, args...))
}

func (r *report) against(name string, value float64, unit, sign string, target float64, met bool, note string) {
	r.Figures = append(r.Figures, figure{
		Name: name, Value: value, Unit: unit, Note: note, Met: &met,
		Target: strings.TrimSpace(sign + " " + number(target) + " " + unit),
	})
}

// number spells a value with three significant digits, or more before the point.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%d families, %d s a measurement, %d rounds\n\n", r.Machine, r.Families, r.Seconds, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMEASURED\tTARGET\tMET?\tNOTE")
	for _, f := range r.Figures {
		met := ""
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*f.Met]
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.Name, strings.TrimSpace(number(f.Value)+" "+f.Unit), f.Target, met, f.Note)
	}
	t.Flush()
}

func (r *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// median returns the middle of the values, the mean of the two in the middle
// of an even number.
func median[N ~int64 | ~float64](values []N) N {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// quantile returns the value below which the given part of sorted lies.
func quantile[N cmp.Ordered](sorted []N, part float64) N {
	var zero N
	if len(sorted) == 0 {
		return zero
	}
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
