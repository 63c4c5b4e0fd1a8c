package app

import (
	"context"
	"errors"
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
// waits for that, and a batch of it is so small that whoever meets it does not notice.
const (
	sweepBatch  = 100
	gentleBatch = 25
	keepEnded   = 7 * 24 * time.Hour
)

// housework is the built-in cleanup; no cron is needed.
func (s *Server) housework() []jobs.Job {
	c, engine := s.in.Config, s.in.Engine
	atOnce, rest := engine.SweepPace()
	leisurely := jobs.Leisurely(rest)
	// Where the sweep goes on. It begins anywhere: on nodes that are restarted more
	// often than a large table is walked, the same rows would always come last.
	place, turned := refresh.Anywhere, false
	// What a wrong clock lets expire is deleted for good, and to keep it for another
	// hour costs nothing. So what is deleted by the clock is deleted by an instant that
	// was looked at first.
	sound := func(leap time.Duration) (now time.Time, err error) {
		now = s.ring.Now()
		return now, errors.Join(s.ring.Ready(), s.ring.Calm(leap))
	}
	sweep := func(table string, every time.Duration, pace jobs.Pace, rows func(ctx context.Context, now time.Time) (int, error)) jobs.Job {
		return jobs.Job{Name: table, Every: every, Do: func(ctx context.Context) (jobs.Pace, error) {
			now, err := sound(keys.SmallLeap)
			if err != nil {
				return jobs.Done, err
			}
			n, err := rows(ctx, now)
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
			now, err := sound(keepEnded / 2)
			if err != nil {
				return jobs.Done, err
			}
			next, deleted, err := engine.Families().Sweep(ctx, place, atOnce, c.Refresh(config.FirstParty), now.Add(-keepEnded))
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
		sweep("revocations", time.Minute, jobs.Soon, func(ctx context.Context, now time.Time) (int, error) {
			return engine.Revocations().Sweep(ctx, now, sweepBatch)
		}),
		{Name: "roots", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			_, err := s.in.Vault().FinishRoots(ctx, audit.BySystem)
			return jobs.Done, err
		}},
		sweep("budgets", 5*time.Minute, jobs.Soon, func(ctx context.Context, _ time.Time) (int, error) {
			return engine.Ledger().SweepBudgets(ctx, sweepBatch)
		}),
		sweep("networks", time.Hour, jobs.Soon, func(ctx context.Context, _ time.Time) (int, error) {
			return engine.Logins().SweepNetworks(ctx, sweepBatch)
		}),
		sweep("verifiers", time.Hour, jobs.Soon, func(ctx context.Context, _ time.Time) (int, error) {
			return engine.Verifiers().SweepVerifiers(ctx, keys.KeepVerifiers, keys.MostVerifiers, sweepBatch)
		}),
		sweep("audit", time.Hour, leisurely, func(ctx context.Context, now time.Time) (int, error) {
			return engine.SweepAudit(ctx, now.Add(-c.AuditRetention), gentleBatch)
		}),
	}
}
