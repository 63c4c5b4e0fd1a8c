package app

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestCalm_deletesNothingByAClockThatLeaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		leap := time.Duration(0)
		clock := func() time.Time { return time.Now().Add(leap) }
		c := newCalm(clock)
		idle := newCalm(clock) // of a node that has no lease until late
		for _, s := range []struct {
			name  string
			leap  time.Duration // of the clock, from then on
			after time.Duration
			small bool // whether what keeps nothing back is believed
			large bool // and what keeps a day
		}{
			{"the start", 0, 0, true, true},
			{"a quiet week", 0, 7 * day, true, true},
			{"half a minute ahead", 30 * time.Second, time.Minute, true, true},
			{"two hours ahead", 2 * time.Hour, time.Minute, false, true},
			{"for half an hour", 2 * time.Hour, 30 * time.Minute, false, true},
			{"back", 0, time.Minute, true, true},
			{"a century ahead", 36500 * day, time.Minute, false, false},
			{"still", 36500 * day, 30 * time.Minute, false, false},
			{"back from there", 0, time.Minute, true, true},
			{"two days ahead", 2 * day, time.Minute, false, false},
			{"and it stays", 2 * day, doubtFor, true, true},
			{"behind", -2 * day, time.Minute, true, true},
		} {
			time.Sleep(s.after)
			leap = s.leap
			if small, large := c.check(smallLeap), c.check(day); (small == nil) != s.small || (large == nil) != s.large {
				t.Errorf("%s: %v and %v", s.name, small, large)
			}
		}
		leap = 36500 * day
		if idle.check(day) == nil {
			t.Error("a node that looks for the first time believes a clock that has leapt since it started")
		}
	})
}
