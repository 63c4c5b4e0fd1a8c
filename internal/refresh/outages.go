package refresh

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Outages are the spans in which a node had no store to ask, oldest first and
// apart from each other. It is an immutable value: With returns another one.
type Outages []Outage

// Outage is one span; a zero Until means that it goes on.
type Outage struct{ From, Until time.Time }

// outagesKept bounds the list of a node.
const outagesKept = 32

// windowReach is the longest retry window there can be. A span after which answers
// could be had for longer than that matters to no head any more.
const windowReach = time.Hour

// Began returns the list with an outage that started at now and goes on.
func (o Outages) Began(now time.Time) Outages { return o.With(Outage{From: now}) }

// With returns the list with the span in it, bounded. See with.
func (o Outages) With(span Outage) Outages { return o.with(span).bounded() }

// bounded returns the list without what matters no more, if it is full. If it still
// is, it loses its shortest span: a store that comes back fails here and answers there
// for a while, and those flickers must not push the outage itself out.
func (o Outages) bounded() Outages {
	if len(o) <= outagesKept {
		return o
	}
	last := o[len(o)-1].From
	for len(o) > 1 && !o[0].Until.IsZero() && o.Age(o[0].Until, last) > windowReach {
		o = o[1:]
	}
	if len(o) <= outagesKept {
		return o
	}
	shortest := 0
	for i, out := range o {
		if !out.Until.IsZero() && out.Until.Sub(out.From) < o[shortest].Until.Sub(o[shortest].From) {
			shortest = i
		}
	}
	return slices.Concat(o[:shortest], o[shortest+1:])
}

// with returns the list with the span in it, as one with those that it touches: Age
// would subtract twice what is in two.
func (o Outages) with(span Outage) Outages {
	if !span.Until.IsZero() && !span.Until.After(span.From) {
		return o
	}
	next := make(Outages, 0, len(o)+1)
	placed := false
	for _, out := range o {
		switch {
		case !out.Until.IsZero() && out.Until.Before(span.From):
			next = append(next, out)
		case !span.Until.IsZero() && out.From.After(span.Until):
			if !placed {
				next, placed = append(next, span), true
			}
			next = append(next, out)
		default:
			if out.From.Before(span.From) {
				span.From = out.From
			}
			if out.Until.IsZero() || !span.Until.IsZero() && out.Until.After(span.Until) {
				span.Until = out.Until
			}
		}
	}
	if !placed {
		next = append(next, span)
	}
	return next
}

// cut returns what of the list is before now: a clock that was set back has spans
// ahead of it in which it has not been.
func (o Outages) cut(now time.Time) Outages {
	next := make(Outages, 0, len(o))
	for _, out := range o {
		if !out.From.Before(now) {
			continue
		}
		if out.Until.After(now) {
			out.Until = now
		}
		next = append(next, out)
	}
	return next
}

// Over returns the list with its last outage closed at now, or the same list
// when none is going on.
func (o Outages) Over(now time.Time) Outages {
	n := len(o)
	if n == 0 || !o[n-1].Until.IsZero() {
		return o
	}
	closed := append(make(Outages, 0, n), o...)
	closed[n-1].Until = now
	if !now.After(closed[n-1].From) {
		return closed[:n-1] // it took no time
	}
	return closed
}

// Age returns how long ago born was, less the outages since. Born in the
// future, as after a step of the clock, is age 0.
func (o Outages) Age(born, now time.Time) time.Duration {
	age := now.Sub(born)
	for _, out := range o {
		from, until := out.From, out.Until
		if until.IsZero() || until.After(now) {
			until = now
		}
		if from.Before(born) {
			from = born
		}
		if d := until.Sub(from); d > 0 {
			age -= d
		}
	}
	return max(0, age)
}

// quietFor is how long no refresh may have failed before an answer to another
// question ends an outage: a store that reads but cannot write still answers
// those.
const quietFor = 5 * time.Second

// slowAnswer is from when on the time in which the store thought about an answer
// counts as an outage: a client that gives up meanwhile repeats its request, and is
// not late because of that.
const slowAnswer = 5 * time.Second

// watch is what one node has seen of outages. The ordinary case, an answer
// while none goes on, takes no lock.
type watch struct {
	list atomic.Pointer[Outages]

	// unanswered: no refresh got through since the last failure.
	unanswered atomic.Bool
	// answeredAt is when the store gave its last answer, in nanoseconds since 1970.
	answeredAt atomic.Int64

	mu   sync.Mutex
	from time.Time // the first failure of the last outage
	last time.Time // the last failure, or the end of the last standstill
}

// patience is how long a client that backs off may be silent while it waits
// for an outage to end; two failures nearer to each other than that, with no
// refresh answered in between, are of one outage.
const patience = 2 * time.Minute

func (w *watch) seen() Outages {
	if list := w.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (w *watch) goesOn() bool {
	list := w.seen()
	return len(list) > 0 && list[len(list)-1].Until.IsZero()
}

func (w *watch) failed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.unanswered.Swap(true) || now.Sub(w.last) > patience {
		w.from = now
	}
	w.last = now
	next := w.seen().Began(w.from)
	w.list.Store(&next)
}

// answered ends an outage: a refresh got through.
func (w *watch) answered(clock func() time.Time) {
	if !w.unanswered.Load() {
		return
	}
	w.unanswered.Store(false)
	if w.goesOn() {
		w.end(clock())
	}
}

// quiet ends an outage in which no refresh has failed for a while, at its last
// failure: whoever did not ask after that was refused nothing.
func (w *watch) quiet(now time.Time) {
	if !w.goesOn() {
		return
	}
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if now.Sub(last) >= quietFor {
		w.end(last)
	}
}

// took notes how long the store thought about an answer, or until it was given up.
// As long as others were answered meanwhile it was no standstill.
func (w *watch) took(from, until time.Time, err error) {
	if at := time.Unix(0, w.answeredAt.Load()); at.After(from) {
		from = at
	}
	if err == nil {
		w.answeredAt.Store(until.UnixNano())
	}
	if until.Sub(from) >= slowAnswer {
		w.stalled(from, until)
	}
}

// stalled notes a span in which the store or this node stood still.
func (w *watch) stalled(from, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last.Before(until) {
		w.last = until // quiet does not end an outage before that
	}
	next := w.seen().With(Outage{from, until})
	w.list.Store(&next)
}

// cutAhead forgets what is ahead of the clock, if anything is: a node whose own clock
// was set knows the store's again with the next answer, and may have noted a span in
// between.
func (w *watch) cutAhead(now time.Time) {
	if list := w.seen(); len(list) > 0 {
		if last := list[len(list)-1]; last.From.After(now) || last.Until.After(now) {
			w.setBack(now)
		}
	}
}

// setBack forgets what is ahead of a clock that was set back.
func (w *watch) setBack(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last.After(now) {
		w.last = now
	}
	if w.from.After(now) {
		w.from = now
	}
	if w.answeredAt.Load() > now.UnixNano() {
		w.answeredAt.Store(now.UnixNano())
	}
	next := w.seen().cut(now)
	w.list.Store(&next)
}

func (w *watch) end(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := w.seen().Over(at)
	w.list.Store(&next)
}
