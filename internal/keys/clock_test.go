package keys

import (
	"testing"
	"testing/synctest"
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
			{"and it stays, which this node's own contradicts", 2 * day, doubtFor, false, false},
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

// This node's own clock may be set while it waits for an answer, too: only how long it
// waited is sure.
func TestSight_aClockThatIsSetDuringARead(t *testing.T) {
	noon := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	for _, s := range []struct {
		name         string
		set          time.Duration // this node's clock, while it waited
		took         time.Duration
		last, ahead  time.Duration // offset before, store's clock at the end
		offset, most time.Duration // that the read cannot explain
	}{
		{"an ordinary read", 0, 2 * time.Millisecond, time.Hour, 0, 2 * time.Millisecond, 0},
		{"the store is ahead", 0, 0, 0, 10 * time.Second, 10 * time.Second, 10 * time.Second},
		{"this node was stopped", 0, time.Hour, time.Millisecond, -time.Minute, time.Millisecond, 0},
		{"set ahead", 200 * day, 2 * time.Millisecond, 0, 0, -200*day + 2*time.Millisecond, 200*day - 2*time.Millisecond},
		{"set back", -200 * day, 2 * time.Millisecond, 0, 0, 200 * day, 200 * day},
	} {
		look := sight{began: noon, ended: noon.Add(s.took + s.set), took: s.took, store: noon.Add(s.took + s.ahead)}
		offset, off := look.offset(&snapshot{offset: s.last})
		if offset != s.offset || off != s.most {
			t.Errorf("%s: offset %s, of which %s is unexplained; want %s and %s", s.name, offset, off, s.offset, s.most)
		}
	}
}

func TestLeaps_areBelievedAfterAWhile(t *testing.T) {
	noon := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	look := func(at, ahead time.Duration) sight {
		return sight{began: noon.Add(at), ended: noon.Add(at + time.Millisecond), store: noon.Add(at + ahead)}
	}
	asleep := look(7*time.Hour, 8*time.Hour)
	asleep.slept = 8 * time.Hour
	var l leaps
	last := look(0, 0)
	for _, s := range []struct {
		name string
		look sight
		want time.Duration
	}{
		{"a second", look(time.Second, 0), 0},
		{"half a minute ahead", look(2*time.Second, 30*time.Second), 0},
		{"and back", look(3*time.Second, 0), 0},
		{"two days ahead", look(time.Minute, 2*day), 2 * day},
		{"still", look(31*time.Minute, 2*day), 2 * day},
		{"and one more", look(41*time.Minute, 3*day), 3 * day},
		{"the first is believed", look(62*time.Minute, 3*day), day},
		{"the second, too", look(102*time.Minute, 3*day), 0},
		{"set back", look(2*time.Hour, 0), -3 * day},
		{"for an hour", look(3*time.Hour+time.Second, 0), 0},
		{"ahead", look(4*time.Hour, 2*day), 2 * day},
		{"back", look(4*time.Hour+30*time.Minute, 0), 0},
		{"ahead again", look(4*time.Hour+50*time.Minute, 2*day), 2 * day},
		{"for an hour of its own", look(5*time.Hour+40*time.Minute, 2*day), 2 * day},
		{"and back", look(5*time.Hour+41*time.Minute, 0), 0},
		{"which holds", look(6*time.Hour+30*time.Minute, 0), 0},
		{"a machine that slept", asleep, 0},
	} {
		l, last = l.after(s.look, last), s.look
		if by := l.at(s.look.ended); (by - s.want).Abs() > 10*time.Millisecond {
			t.Errorf("%s: %s, want %s", s.name, by, s.want)
		}
	}
}

// A server that was founded while the clock was ahead signs when it has come back, and
// not only on the day that the clock had shown.
func TestTend_keysFromTheFutureSignWhenTheClockComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := 100 * day
		store := newMemory(func() time.Time { return time.Now().Add(ahead) })
		r := NewRing(store, masters(), quick(), time.Now, nil)
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := r.Signer(""); err != nil {
			t.Fatal(err)
		}
		ahead = 0
		time.Sleep(time.Second)
		r.tend(t.Context())
		if err := r.Ready(); err != nil {
			t.Error(err)
		}
		for _, k := range store.ring.Keys {
			if k.Purpose == Sign && k.ActiveAt != nil && k.ActiveAt.Before(k.PublishedAt) {
				t.Errorf("key %s signs from %s and is published at %s", k.Name(), k.ActiveAt, k.PublishedAt)
			}
		}
	})
}

// What is signed by a clock that has leapt cannot be revoked: nobody signs by one that
// the node's own contradicts.
func TestSigner_notByAClockThatHasLeapt(t *testing.T) {
	inBubble(t, func(t *testing.T, store *memory, r *Ring) {
		ahead := time.Duration(0)
		store.now = func() time.Time { return time.Now().Add(ahead) }
		time.Sleep(day) // so that a key is active two hours ago, too
		for _, s := range []struct {
			ahead time.Duration
			signs bool
		}{{0, true}, {30 * time.Second, true}, {0, true}, {2 * time.Hour, false}, {0, true}, {-2 * time.Hour, false}, {0, true}} {
			ahead = s.ahead
			time.Sleep(time.Second)
			if err := r.Reread(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := r.Signer(""); (err == nil) != s.signs || (r.Misdated() == nil) != s.signs {
				t.Errorf("%s ahead: %v; %v", s.ahead, err, r.Misdated())
			}
		}
	})
}
