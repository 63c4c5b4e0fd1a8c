package app

import (
	"errors"
	"testing"
	"time"

	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
)

// While nobody signs because the store's clock has leapt, whoever repeats a refresh is
// told 503, and is not late for that.
func TestHearing_aClockByWhichNobodySignsIsAnOutage(t *testing.T) {
	c, err := config.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir, c.KeyAlgorithms = t.TempDir(), []string{"ES256"}
	in, err := Open(t.Context(), c, ToServe)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Engine.Close()
	behind := time.Duration(0) // this node's clock, which shows the store's leap as well
	h := &hearing{ring: keys.NewRing(in.Engine.Keys(), in.Masters, c.Keys(), func() time.Time { return time.Now().Add(-behind) }, nil)}
	if err := h.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the database is gone")
	for _, s := range []struct {
		behind time.Duration
		err    error
		outage bool
	}{{0, nil, false}, {0, gone, true}, {2 * time.Hour, nil, true}, {2 * time.Hour, gone, true}, {0, nil, false}} {
		behind = s.behind
		if err := h.ring.Reread(t.Context()); err != nil {
			t.Fatal(err)
		}
		if why := h.outage(s.err); (why != nil) != s.outage {
			t.Errorf("%s behind, %v: %v", s.behind, s.err, why)
		}
	}
}
