package main

import (
	"strings"
	"testing"
	"time"
)

// The hint of a floor that was not settled names the very floor: a moment less would tell
// nobody, and would say so to nobody either.
func TestTellAgain_namesTheVeryFloor(t *testing.T) {
	for _, floor := range []time.Time{
		time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC),
		time.Date(2026, 11, 5, 12, 0, 0, 123_456_000, time.FixedZone("", 3600)),
	} {
		words := strings.Fields(tellAgain(floor))
		got, err := floorOf(words[4], floor.Add(time.Second), floor)
		if err != nil || !got.Equal(floor) {
			t.Errorf("%q reads as %s, %v; want %s", words, got, err, floor)
		}
	}
}

func TestFloorOf_neverLiesAhead(t *testing.T) {
	noon := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		text        string
		store, here time.Time
		want        time.Time // zero: refused
	}{
		{"now", noon, noon, noon},
		{"now", noon, noon.Add(30 * time.Second), noon},
		{"now", noon, noon.Add(time.Hour), noon},
		{"now", noon.Add(time.Hour), noon, time.Time{}},
		{"2026-11-05T11:00:00Z", noon, noon, noon.Add(-time.Hour)},
		{"2026-11-05T11:00:00Z", noon.Add(time.Hour), noon, time.Time{}},
		{"2026-11-05T12:00:01Z", noon, noon, time.Time{}},
		{"yesterday", noon, noon, time.Time{}},
	} {
		got, err := floorOf(c.text, c.store, c.here)
		if !got.Equal(c.want) || (err == nil) == c.want.IsZero() {
			t.Errorf("%s at %s, here %s: %s, %v", c.text, c.store, c.here, got, err)
		}
	}
}
