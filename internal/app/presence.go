package app

import (
	"context"
	"log/slog"
	"time"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/store"
)

// The lease that says when any node ran last. What a client sent while none did, or was
// answered just before, it repeats when one is back: for a retry that is an outage like
// any other, but one that a node that starts has not seen.
const (
	presence      = "presence"
	presenceTTL   = 25 * time.Second
	presenceEvery = 10 * time.Second
	// presenceAfter is how long a node has to run before it renews the lease: until then
	// all that are started together find it as the last one left it.
	presenceAfter = 2 * time.Minute
)

// noteAbsence tells the rotator since when no node has run, if none does.
func noteAbsence(ctx context.Context, leases store.Leases, now time.Time, r *refresh.Rotator, log *slog.Logger) error {
	until, err := leases.Until(ctx, presence)
	if err != nil || until.IsZero() || until.After(now) {
		return err
	}
	since := until.Add(-presenceTTL)
	r.Away(since, now)
	log.Info("no node has run for a while: this time does not count for retries", "event", "absence", "since", since.UTC())
	return nil
}

// keepPresence renews the lease until ctx ends, and once more then: what a node that stops
// in order leaves behind is exact. A failure is no news: the ring has it.
func keepPresence(ctx context.Context, leases store.Leases, holder string) {
	renew := time.NewTimer(presenceAfter)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			_, _ = leases.Hold(ctx, presence, holder, presenceTTL)
			renew.Reset(presenceEvery)
		case <-ctx.Done():
			_, _ = leases.Hold(context.WithoutCancel(ctx), presence, holder, presenceTTL)
			return
		}
	}
}
