package app

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestCalm_deletesNothingByAClockThatLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leap := time.Duration(0)
		c := calm{clock: func() time.Time { return time.Now().Add(leap) }}
		steps := []struct {
			name  string
			leap  time.Duration // of the clock, from then on
			after time.Duration
			fails bool
		}{
			{"the start", 0, 0, false},
			{"a minute later", 0, time.Minute, false},
			{"a quiet week", 0, 7 * 24 * time.Hour, false},
			{"an hour ahead", time.Hour, time.Minute, false},
			{"a century ahead", 100 * 365 * 24 * time.Hour, time.Minute, true},
			{"still", 100 * 365 * 24 * time.Hour, 30 * time.Minute, true},
			{"back", 0, time.Minute, false},
			{"back, later", 0, time.Minute, false},
			{"ahead once more", 48 * time.Hour, time.Minute, true},
			{"and it stays", 48 * time.Hour, doubtFor, false},
			{"behind", -48 * time.Hour, time.Minute, false},
		}
		for _, s := range steps {
			time.Sleep(s.after)
			leap = s.leap
			if err := c.check(); (err != nil) != s.fails {
				t.Errorf("%s: %v; want an error: %t", s.name, err, s.fails)
			}
		}
	})
}
