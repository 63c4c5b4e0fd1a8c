package keys

import (
	"fmt"
	"time"
)

// clockTolerance is how far a node's clock may be off the store's.
const clockTolerance = 5 * time.Second

// Less than SmallLeap is how clocks run. After doubtFor a clock that stays where it leapt to
// is believed.
const (
	SmallLeap = time.Minute
	doubtFor  = time.Hour
)

// sight is one look at the store's clock: it showed store, without the monotonic
// clock, at some instant between began and ended, which are this node's.
type sight struct {
	began, ended time.Time
	took         time.Duration // between them, whatever this node's clock was set to meanwhile
	store        time.Time
	slept        time.Duration // see asleep, at the end
}

// offset returns how far the store's clock is ahead of this node's as it shows at the
// end, and how much of that the round trip cannot explain. Of what the round trip leaves
// open, the value nearest to the last one is taken: a read in which the node was stopped
// leaves minutes open, and half of them would be a guess.
func (g sight) offset(last *snapshot) (offset, off time.Duration) {
	least := g.store.Sub(g.ended.Round(0))
	most := least + g.took
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
	most += g.slept - last.slept
	return max(ran-most, 0) + min(ran-least, 0)
}

// leaps are those of a store's clock that are not believed yet: an immutable value.
type leaps []leap

type leap struct {
	by   time.Duration // ahead
	seen time.Time     // by this node's clock
}

// after returns what is remembered after one more look.
func (l leaps) after(now, last sight) leaps {
	by := now.leaptSince(last)
	if by.Abs() <= SmallLeap {
		return l
	}
	next := append(l.doubted(now.began), leap{by, now.began})
	// What was taken back again has not been: it would be believed sooner than that.
	for i := range next {
		if next[i:].sum().Abs() <= SmallLeap {
			return next[:i]
		}
	}
	return next
}

// doubted returns those that are not believed yet at an instant of this node's clock.
func (l leaps) doubted(now time.Time) (young leaps) {
	for _, one := range l {
		if now.Sub(one.seen) < doubtFor {
			young = append(young, one)
		}
	}
	return young
}

func (l leaps) sum() (by time.Duration) {
	for _, one := range l {
		by += one.by
	}
	return by
}

// at returns how far the clock has leapt in all, as far as that is not believed yet.
func (l leaps) at(now time.Time) time.Duration { return l.doubted(now).sum() }

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
// have ended. This node's own clock, which may be the store's as well, is looked at
// now, the store's was at the last read.
func (r *Ring) Leap() time.Duration {
	s := r.current.Load()
	if s == nil {
		return 0
	}
	now, seen := r.clock(), s.sight.ended
	leap := s.leaps.at(now)
	if own := now.Round(0).Sub(seen.Round(0)) - now.Sub(seen) - (asleep() - s.sight.slept); own.Abs() > SmallLeap {
		leap += own
	}
	if s.off > clockTolerance {
		// Nobody knows which of the two is right. A node that started after the leap has
		// seen nothing else of it.
		leap = max(leap, s.offset)
	}
	return leap
}

// Calm returns an error while the store's clock has leapt ahead by more than most, or
// is as far ahead of this node's.
func (r *Ring) Calm(most time.Duration) error {
	if by := r.Leap(); by > most {
		return fmt.Errorf("the store's clock is %s ahead of where it should be, at %s: nothing is deleted by it for %s",
			by.Round(time.Second), r.Now().Format(time.RFC3339), doubtFor)
	}
	return nil
}

// Misdated returns why this node does not sign although it reads the ring, or nil.
func (r *Ring) Misdated() error {
	if s := r.current.Load(); s != nil {
		return r.misdated(s)
	}
	return nil
}

// misdated returns an error while tokens would be dated by a clock that has leapt and
// that this node's own contradicts: verifiers refuse them, or, those that do not look at
// the date, take them for longer than anybody can revoke them.
func (r *Ring) misdated(s *snapshot) error {
	if s.off <= clockTolerance || s.leaps.at(r.clock()).Abs() <= SmallLeap {
		return nil
	}
	return fmt.Errorf("the store's clock has leapt and is off by %s against this node's: tokens would be dated by it", s.offset.Round(time.Second))
}

// steady reports whether the timetable may be acted on. What a wrong clock lets end
// is erased for good, and a key that it publishes or dates stands in the future.
func (r *Ring) steady() bool {
	return r.Leap().Abs() <= SmallLeap && r.current.Load().off <= clockTolerance
}
