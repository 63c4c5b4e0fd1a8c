package refresh

import (
	"context"
	"sync/atomic"
	"time"
)

// pulse knows whether this process runs: it was stopped, or its machine was, or the clock
// was set, where two beats are further apart than longestBeat. What it finds in its
// connections for wakesFor after that may have lain there meanwhile.
type pulse struct {
	beat  atomic.Int64 // the last one, in nanoseconds since 1970; 0: none yet
	woken atomic.Int64 // the last one that came late
}

const (
	beatEvery   = 250 * time.Millisecond
	longestBeat = 2 * time.Second
	wakesFor    = 2 * time.Second
)

// keep beats until ctx ends. clock must go on while the machine is suspended.
func (p *pulse) keep(ctx context.Context, clock func() time.Time) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		now := clock()
		if overdue(p.beat.Load(), now) {
			p.woken.Store(now.UnixNano()) // before the beat: whoever sees no late one sees this
		}
		p.beat.Store(now.UnixNano())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func overdue(beat int64, now time.Time) bool {
	return beat != 0 && now.Sub(time.Unix(0, beat)).Abs() > longestBeat
}

// missed reports whether whatever came at an instant may have come while this process
// stood still.
func (p *pulse) missed(came time.Time, clock func() time.Time) bool {
	beat, woken := p.beat.Load(), p.woken.Load()
	now := clock() // after that: who was stopped in between sees a beat that is late
	at := time.Unix(0, woken)
	return overdue(beat, now) || woken != 0 && at.After(came.Add(-wakesFor)) && !at.After(now)
}
