package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/jobs"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/store"
)

// How much one piece of housekeeping does at most, and how long what has ended is
// kept for explain. What walks a table of millions takes an hour for it: nobody
// waits for that.
const (
	sweepBatch = 100
	keepEnded  = 7 * 24 * time.Hour
)

// housework is the built-in cleanup; no cron is needed.
func (s *Server) housework() []jobs.Job {
	c, engine := s.in.Config, s.in.Engine
	leisurely := jobs.Leisurely(engine.SweepRest())
	calm := newCalm(s.ring.Now)
	// Where the sweep goes on. It begins anywhere: on nodes that are restarted more
	// often than a large table is walked, the same rows would always come last.
	place, turned := refresh.Anywhere, false
	// What is deleted by the clock is deleted by a sound one only.
	sound := func(leap time.Duration) error { return errors.Join(s.ring.Ready(), calm.check(leap)) }
	sweep := func(table string, every time.Duration, pace jobs.Pace, rows func(ctx context.Context) (int, error)) jobs.Job {
		return jobs.Job{Name: table, Every: every, Do: func(ctx context.Context) (jobs.Pace, error) {
			if err := sound(smallLeap); err != nil {
				return jobs.Done, err
			}
			n, err := rows(ctx)
			if err != nil {
				return jobs.Done, err
			}
			s.chores.Swept(table, n)
			if n < store.SweepPiece {
				return jobs.Done, nil
			}
			return pace, nil
		}}
	}
	return []jobs.Job{
		{Name: "families", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			if err := sound(keepEnded / 2); err != nil {
				return jobs.Done, err
			}
			next, deleted, err := engine.Families().Sweep(ctx, place, sweepBatch, c.Refresh(config.FirstParty), keepEnded)
			place = next
			if err != nil {
				return jobs.Done, err
			}
			s.chores.Swept("families", deleted)
			if next == refresh.Edge && turned {
				return jobs.Done, nil
			}
			turned = turned || next == refresh.Edge // what is before the place where it began comes next
			if deleted == 0 {
				return jobs.Looking, nil
			}
			return leisurely, nil
		}},
		{Name: "floor", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			n, err := engine.Sessions().EndBelowFloor(ctx, sweepBatch)
			if n < sweepBatch { // it has gone through the whole table
				return jobs.Done, err
			}
			return jobs.Soon, err
		}},
		sweep("revocations", time.Minute, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Revocations().Sweep(ctx, sweepBatch) }),
		{Name: "roots", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			_, err := s.in.Vault().FinishRoots(ctx, audit.BySystem)
			return jobs.Done, err
		}},
		sweep("budgets", 5*time.Minute, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Ledger().SweepBudgets(ctx, sweepBatch) }),
		sweep("networks", time.Hour, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Logins().SweepNetworks(ctx, sweepBatch) }),
		sweep("verifiers", time.Hour, jobs.Soon, func(ctx context.Context) (int, error) {
			return engine.Verifiers().SweepVerifiers(ctx, keys.KeepVerifiers, keys.MostVerifiers, sweepBatch)
		}),
		sweep("audit", time.Hour, leisurely, func(ctx context.Context) (int, error) { return engine.SweepAudit(ctx, c.AuditRetention, sweepBatch) }),
	}
}

// calm keeps housekeeping from believing a clock that leaps. What a wrong clock lets
// expire is deleted for good, and to keep it for another hour costs nothing. A clock
// of this node alone that is off is found by the ring.
type calm struct {
	clock func() time.Time // the store's

	mu      sync.Mutex
	at      time.Time     // of the last look, by this machine's monotonic clock
	wall    time.Time     // and by the store's
	leapt   time.Duration // how far the store's clock is ahead of where it should be
	doubted time.Time     // since when
}

// Less than smallLeap is how clocks run; a machine that was suspended for as long
// wakes up with such a leap, too. After doubtFor a clock that stays there is believed.
const (
	smallLeap = time.Minute
	doubtFor  = time.Hour
)

// newCalm begins to look at once: a node that never had the lease of a job would
// otherwise have nothing to compare the first clock with that it sees.
func newCalm(clock func() time.Time) *calm {
	return &calm{clock: clock, at: time.Now(), wall: clock().Round(0)}
}

// check returns an error while the store's clock has leapt ahead by more than that
// within the last hour and has not come back.
func (c *calm) check(most time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, wall := time.Now(), c.clock().Round(0)
	if leap := wall.Sub(c.wall) - now.Sub(c.at); leap.Abs() > smallLeap {
		c.leapt, c.doubted = max(0, c.leapt+leap), now
	}
	c.at, c.wall = now, wall
	if now.Sub(c.doubted) >= doubtFor {
		c.leapt = 0
	}
	if c.leapt <= most {
		return nil
	}
	return fmt.Errorf("the store's clock has leapt ahead by %s, to %s: nothing is deleted by it for %s", c.leapt.Round(time.Second), wall.UTC().Format(time.RFC3339), doubtFor)
}
