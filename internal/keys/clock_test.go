package keys

import (
	"testing"
	"time"
)

func TestCalm_deletesNothingByAClockThatLeaps(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		leap := time.Duration(0)
		store.now = func() time.Time { return time.Now().Add(leap) }
		for _, s := range []struct {
			name  string
			leap  time.Duration // of the store's clock, from then on
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
			{"back from behind", 0, time.Minute, true, true},
		} {
			time.Sleep(s.after)
			leap = s.leap
			if err := r.Reread(t.Context()); err != nil {
				t.Fatal(err)
			}
			if small, large := r.Calm(SmallLeap), r.Calm(day); (small == nil) != s.small || (large == nil) != s.large {
				t.Errorf("%s: %v and %v", s.name, small, large)
			}
		}
	})
}

// A key that is erased does not come back with the clock: nobody could sign until the
// standby's date, for months.
func TestTend_erasesNoKeyByAClockThatLeaps(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		leap := time.Duration(0)
		store.now = func() time.Time { return time.Now().Add(leap) }
		live := func(d time.Duration, turns int) {
			for range turns {
				time.Sleep(d / time.Duration(turns))
				r.tend(t.Context())
			}
		}
		live(2*day, 48)
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		kid, _, _, err := r.Signer("")
		if err != nil {
			t.Fatal(err)
		}
		standbys, changes := len(store.ring.Keys), store.changes
		if standbys != 5 { // of two algorithms, and a root key
			t.Fatalf("%d keys after two days: this test shows nothing", standbys)
		}

		leap = 200 * day
		live(time.Minute, 60)
		leap = 0
		live(time.Minute, 60)
		if now, _, _, err := r.Signer(""); now != kid || err != nil || store.changes != changes {
			t.Errorf("after the leap key %q signs (%v), before %s, and the ring was changed %d times", now, err, kid, store.changes-changes)
		}
		if err := r.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// A node that was stopped while it read the clock, or whose clock was set then, knows
// no more than before.
func TestRing_aReadThatStoodStillSaysLittleAboutTheClock(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		for _, off := range []time.Duration{0, 300 * time.Millisecond} {
			store.travel = 0
			store.now = func() time.Time { return time.Now().Add(off) }
			time.Sleep(time.Second)
			if err := r.Reread(t.Context()); err != nil {
				t.Fatal(err)
			}
			store.now = func() time.Time {
				seen := time.Now().Add(off)
				time.Sleep(4 * time.Second)
				return seen
			}
			time.Sleep(time.Second)
			if err := r.Reread(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r.Offset() != off || r.Leap() != 0 {
				t.Errorf("offset %s, want %s; leap %s", r.Offset(), off, r.Leap())
			}
		}
	})
}
