package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// streamAgain is the time until a stream is tried again where it did not
	// work: no event came through, or it kept breaking.
	streamAgain = time.Minute
	// A stream that breaks within shortLife has hardly worked, and after
	// tooShort such in a row it does not.
	shortLife = 5 * time.Second
	tooShort  = 3

	// partialFor is how soon everything is read again when ends of sessions had to be
	// left out.
	partialFor = 20 * time.Second

	reconnectWithin = 500 * time.Millisecond // after a stream that worked: servers restart
	maxBackoff      = 5 * time.Second
)

var (
	// errRefused: a statement that changes nothing.
	errRefused = errors.New("statement refused")
	// errNoStream: the server is there, but its stream does not come through.
	errNoStream = errors.New("events do not come through")
)

// follower is what the owner of a feed keeps to itself.
type follower struct {
	*Feed
	snapshotAt time.Time    // when everything is to be read again
	streamAt   time.Time    // when a stream may be tried
	answeredAt time.Time    // of the last good answer
	tags       map[bool]tag // by whether everything was asked for
	failures   int          // in a row
	short      int          // streams in a row that broke soon
}

// run is the owner: the only one that changes what is held.
func (f *Feed) run() {
	o := follower{Feed: f, tags: map[bool]tag{}}
	for first := true; f.ctx.Err() == nil; first = false {
		pause := o.step()
		if first {
			close(f.tried)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-f.ctx.Done():
			timer.Stop()
		}
	}
}

// step reads a snapshot, asks what is new, or listens until a stream ends. It
// returns the pause before the next step.
func (o *follower) step() time.Duration {
	begun := time.Now()
	full := !begun.Before(o.snapshotAt)
	listen := !begun.Before(o.streamAt)
	if listen && !full && begun.Sub(o.answeredAt) < shortLife {
		return o.stream(begun)
	}
	// Before it listens it asks: an answer says how old it is, and the first
	// event of a stream does not.
	err := o.answered(o.ask(o.ctx, o.question(full)))
	switch {
	case err != nil:
		return o.backoff()
	case full || listen:
		return 0
	default:
		o.failures = 0
		return jitter(o.c.PollEvery)
	}
}

// stream listens until the stream ends and judges whether streams work here.
func (o *follower) stream(begun time.Time) time.Duration {
	err := o.listen()
	worked := o.streaming.Swap(false)
	switch {
	case errors.Is(err, errNoStream):
		o.short = tooShort
	case worked && time.Since(begun) < shortLife:
		o.short++
	case worked:
		o.short, o.failures = 0, 0
	}
	o.failed(err)
	switch {
	case o.short >= tooShort:
		o.short, o.streamAt = 0, time.Now().Add(jitter(streamAgain))
		return 0 // and ask instead
	case worked && o.failures == 0:
		return rand.N(reconnectWithin)
	default:
		return o.backoff()
	}
}

func (o *follower) backoff() time.Duration {
	o.failures++
	return jitter(min(reconnectWithin<<min(o.failures, 10), maxBackoff))
}

// jitter keeps verifiers apart that a restart of the server brought together.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// seq is the newest number held.
func (o *follower) seq() int64 {
	if r := o.held.Load(); r != nil {
		return r.seq
	}
	return 0
}

// question is the next one to ask. The tag of an answer says nothing any more
// once events have come after it.
func (o *follower) question(full bool) question {
	q := question{full: full, after: o.seq()}
	if t := o.tags[full]; t.seq == q.after {
		q.etag = t.etag
	}
	return q
}

// answered takes an answer and arranges for the next snapshot.
func (o *follower) answered(a answer) error {
	changed, err := false, a.err
	if err == nil && a.raw != "" {
		if changed, err = o.take(a.raw, a.after); err == nil {
			o.tags[a.full] = tag{a.etag, o.seq()}
		}
	}
	if err != nil {
		o.failed(err)
		return err
	}
	o.answeredAt = time.Now()
	o.well(changed, a.age)
	if a.full {
		o.snapshotAt = time.Now().Add(jitter(o.c.SnapshotEvery))
		o.mindPartial()
	}
	return nil
}

// take judges a statement, which was asked for when the number held was asked,
// and puts what follows from it in force. It says whether that is anything new.
func (o *follower) take(raw string, asked int64) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(o.ctx, o.c.Timeout)
	defer cancel()
	now := time.Now()
	st, err := o.trust.statement(ctx, raw, o.c.Issuer, now)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errRefused, err)
	}
	held := o.held.Load()
	next, namesKey, err := held.take(st, asked, now, o.c.MaxEntries)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errRefused, err)
	}
	o.held.Store(next)
	o.mindPartial()
	if remote, ok := o.c.Keys.(*Remote); ok && namesKey {
		// The key is refused from now on; its successor may be a new one.
		remote.refetch()
	}
	if held == nil {
		close(o.loaded)
	}
	return next != held, nil
}

// mindPartial counts the feed as lost while ends of sessions are left out, and has
// everything read again soon.
func (o *follower) mindPartial() {
	if !o.held.Load().isPartial() {
		return
	}
	o.overfull.Store(true)
	if soon := time.Now().Add(jitter(partialFor)); soon.Before(o.snapshotAt) {
		o.snapshotAt = soon
	}
}

// well notes that what is held was current so long ago.
func (o *follower) well(changed bool, age time.Duration) {
	o.confirm(age)
	if changed || o.recovered() {
		o.tell()
	}
}

// failed notes and tells err. What follows a refused statement is a snapshot.
func (o *follower) failed(err error) {
	if errors.Is(err, errTooMany) {
		o.overfull.Store(true)
	}
	if errors.Is(err, errRefused) {
		o.snapshotAt = time.Time{}
	}
	if o.ctx.Err() == nil {
		o.trouble.Store(&err)
		o.tell()
	}
}
