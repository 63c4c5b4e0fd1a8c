package app

import (
	"context"
	"log/slog"
	"time"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/store"
)

// The lease that says when any node ran last; all hold it in one name, and each renews it.
// What a client sent while none ran, or was answered just before, it repeats when one is
// back: for a retry that is an outage like any other, but one that a node that starts has
// not seen.
const (
	presence      = "presence"
	presenceTTL   = 25 * time.Second
	presenceEvery = 10 * time.Second
	// presenceLast is how long a node that stops waits for a connection to say so.
	presenceLast = 3 * time.Second
)

// attendance is what one node does with that lease.
type attendance struct {
	leases store.Leases
	// leave is for how long the lease stays as it was found: when nobody was there, whoever
	// starts in this time, and this node itself if it does not last, is to find out, too.
	leave time.Duration
}

// attend tells the rotator since when no node has run, if none does. window is how long
// retries are answered.
func attend(ctx context.Context, leases store.Leases, now time.Time, window time.Duration, r *refresh.Rotator, log *slog.Logger) (attendance, error) {
	a := attendance{leases: leases}
	until, err := leases.Until(ctx, presence)
	if err != nil || until.IsZero() || until.After(now) {
		return a, err
	}
	since := until.Add(-presenceTTL)
	r.Away(since, now)
	log.Info("no node has run for a while: this time does not count for retries", "event", "absence", "since", since.UTC())
	a.leave = max(2*time.Minute, window)
	return a, nil
}

// keep renews the lease until ctx ends, and once more then: what the last node that stops
// in order leaves behind is exact. A failure is no news: the ring has it.
func (a attendance) keep(ctx context.Context) {
	renew := time.NewTimer(a.leave)
	defer renew.Stop()
	here := false
	for {
		select {
		case <-renew.C:
			here = true
			a.hold(ctx)
			renew.Reset(presenceEvery)
		case <-ctx.Done():
			if here {
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), presenceLast)
				defer cancel()
				a.hold(last)
			}
			return
		}
	}
}

func (a attendance) hold(ctx context.Context) {
	_, _ = a.leases.Hold(ctx, presence, presence, presenceTTL)
}
