package keys

import (
	"fmt"
	"time"
)

// clockTolerance is how far a node's clock may be off the store's.
const clockTolerance = 5 * time.Second

// Less than SmallLeap is how clocks run; a machine that was suspended for as long
// wakes up with such a leap, too. After doubtFor a clock that stays where it leapt to
// is believed.
const (
	SmallLeap = time.Minute
	doubtFor  = time.Hour
)

// sight is one look at the store's clock: it showed store, without the monotonic
// clock, at some instant between began and ended, which are this node's.
type sight struct {
	began, ended time.Time
	store        time.Time
}

// offset returns how far the store's clock is ahead of this node's, and how much of
// that the round trip cannot explain. Of what the round trip leaves open, the value
// nearest to the last one is taken: a read in which the node was stopped, or its
// clock was set, leaves minutes open, and half of them would be a guess.
func (g sight) offset(last *snapshot) (offset, off time.Duration) {
	a, b := g.store.Sub(g.ended.Round(0)), g.store.Sub(g.began.Round(0))
	least, most := min(a, b), max(a, b)
	offset = least + (most-least)/2
	if last != nil {
		offset = min(max(last.offset, least), most)
	}
	return offset, max(least, -most, 0)
}

// leaptSince returns how much further the store's clock has come since another look
// than it can have run; negative where it was set back.
func (g sight) leaptSince(last sight) time.Duration {
	ran := g.store.Sub(last.store)
	least, most := g.began.Sub(last.ended), g.ended.Sub(last.began) // by the monotonic clock
	return max(ran-most, 0) + min(ran-least, 0)
}

// leap is what a node remembers of a store's clock that did not run but leapt.
type leap struct {
	by   time.Duration // ahead, in all
	seen time.Time     // the last one, by this node's clock
}

// after returns what is remembered after one more look.
func (l leap) after(now, last sight) leap {
	l.by = l.at(now.began)
	if by := now.leaptSince(last); by.Abs() > SmallLeap {
		l = leap{l.by + by, now.began}
	}
	return l
}

// at returns the leap that is not believed yet at an instant of this node's clock.
func (l leap) at(now time.Time) time.Duration {
	if now.Sub(l.seen) >= doubtFor {
		return 0
	}
	return l.by
}

// Now returns the store's clock as this node knows it: its own clock plus
// Offset.
func (r *Ring) Now() time.Time { return r.clock().Add(r.Offset()).UTC() }

// Offset returns how far the store's clock was ahead of this node's at the
// last read, at most a round trip uncertain; 0 before the first.
func (r *Ring) Offset() time.Duration {
	if s := r.current.Load(); s != nil {
		return s.offset
	}
	return 0
}

// Leap returns how far the store's clock has leapt ahead (negative: was set back)
// within the last hour and stayed there, or 0. What has ended by such a clock may not
// have ended.
func (r *Ring) Leap() time.Duration {
	if s := r.current.Load(); s != nil {
		return s.leap.at(r.clock())
	}
	return 0
}

// Calm returns an error while the store's clock has leapt ahead by more than most. A
// clock of this node alone that is off is what Ready reports.
func (r *Ring) Calm(most time.Duration) error {
	if by := r.Leap(); by > most {
		return fmt.Errorf("the store's clock has leapt ahead by %s, to %s: nothing is deleted by it for %s",
			by.Round(time.Second), r.Now().Format(time.RFC3339), doubtFor)
	}
	return nil
}

// steady reports whether the timetable may be acted on. What a wrong clock lets end
// is erased for good, and a key that it publishes or dates stands in the future.
func (r *Ring) steady() bool {
	return r.Leap().Abs() <= SmallLeap && r.current.Load().off <= clockTolerance
}
