// Package jobs owns the rhythm of housekeeping: one node at a time by a lease,
// staggered so that jobs do not start together, fenced so that a panic in one
// does not end the process. It does not own what the jobs do.
package jobs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// Job is one piece of housekeeping.
type Job struct {
	Name  string
	Every time.Duration
	// Do does a bounded piece of work and says how to go on, as long as this node
	// holds the lease. After an error it is called again in the next period.
	Do func(ctx context.Context) (Pace, error)
}

// Pace is how a job goes on after a piece of work: it rests for so many times as
// long as that took, within bounds. Where a piece takes longer than the bounds
// foresee the job gets a greater part of the time: it has to end some day.
type Pace struct {
	times       int
	least, most time.Duration
}

var (
	// Done says that nothing is left to do in this period.
	Done = Pace{}
	// Soon is for what somebody waits for: half of the time.
	Soon = Pace{1, 20 * time.Millisecond, 100 * time.Millisecond}
	// Looking is for the walk through a table of millions in search of a few
	// rows, when it found none here.
	Looking = Pace{100, 250 * time.Millisecond, time.Second}
)

// Leisurely is for what nobody misses: it rests for so many times as long as a
// piece takes.
func Leisurely(times int) Pace {
	return Pace{times, 2 * time.Millisecond, 500 * time.Millisecond}
}

func (p Pace) rest(took time.Duration) time.Duration {
	return min(max(time.Duration(p.times)*took, p.least), p.most)
}

// Leases hand out the right to do a job.
type Leases interface {
	Hold(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Observer is told how runs of jobs end.
type Observer interface {
	JobDone(name string, took time.Duration, err error)
}

// Run does the jobs until ctx ends, and returns when all have stopped. holder
// names this node; it must be unique.
//
// A node that dies while it holds a lease leaves it behind; another node takes
// over when it has run out. Work that two nodes do at once is harmless.
func Run(ctx context.Context, leases Leases, holder string, list []Job, o Observer) {
	var all sync.WaitGroup
	for _, job := range list {
		all.Go(func() { loop(ctx, leases, holder, job, o) })
	}
	all.Wait()
}

func loop(ctx context.Context, leases Leases, holder string, job Job, o Observer) {
	// The first run comes after a random part of the period: ten nodes that
	// start together do not ask for ten leases together.
	wait := rand.N(job.Every)
	for {
		if !sleep(ctx, wait) {
			return
		}
		turn(ctx, leases, holder, job, o)
		wait = job.Every - job.Every/10 + rand.N(job.Every/5+1)
	}
}

// turn does one job's work while the lease is held. The lease is renewed when a
// half of it has passed: it is a commit, and may cost more than the work.
func turn(ctx context.Context, leases Leases, holder string, job Job, o Observer) {
	name := "job:" + job.Name
	ttl := max(2*job.Every, time.Minute)
	var asked time.Time
	for {
		begun := time.Now()
		if begun.Sub(asked) >= ttl/2 {
			asked = begun
			held, err := leases.Hold(ctx, name, holder, ttl)
			if err != nil {
				if ctx.Err() == nil {
					o.JobDone(job.Name, 0, fmt.Errorf("lease of %s: %w", job.Name, err))
				}
				return
			}
			if !held {
				return
			}
			begun = time.Now()
		}
		pace, err := fenced(ctx, job)
		took := time.Since(begun)
		if ctx.Err() == nil {
			o.JobDone(job.Name, took, err)
			if err == nil && pace == Done {
				return
			}
			if err == nil && sleep(ctx, pace.rest(took)) {
				continue
			}
		}
		// Give it up, so that another node need not wait until it runs out, or may do
		// what this one cannot.
		_ = leases.Release(context.WithoutCancel(ctx), name, holder)
		return
	}
}

func fenced(ctx context.Context, job Job) (pace Pace, err error) {
	defer func() {
		if p := recover(); p != nil {
			pace, err = Done, fmt.Errorf("job %s panicked: %v\n%s", job.Name, p, debug.Stack())
		}
	}()
	return job.Do(ctx)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
