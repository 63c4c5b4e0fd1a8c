package jobs_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authserver/internal/jobs"
)

// leases is a lease table of one process, on the test's clock.
type leases struct {
	mu    sync.Mutex
	held  map[string]string
	until map[string]time.Time
	asked map[string]int
	fail  error
}

func (l *leases) Hold(_ context.Context, name, holder string, ttl time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[holder]++
	if l.fail != nil {
		return false, l.fail
	}
	if by, ok := l.held[name]; ok && by != holder && time.Now().Before(l.until[name]) {
		return false, nil
	}
	l.held[name], l.until[name] = holder, time.Now().Add(ttl)
	return true, nil
}

func (l *leases) Release(_ context.Context, name, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] == holder {
		delete(l.held, name)
	}
	return nil
}

func newLeases() *leases {
	return &leases{held: map[string]string{}, until: map[string]time.Time{}, asked: map[string]int{}}
}

type record struct {
	mu   sync.Mutex
	errs []error
	runs int
}

func (r *record) JobDone(_ string, _ time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs++
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func TestRun_oneNodeAtATimeAndAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newLeases()
		var mu sync.Mutex
		by := map[string]int{}
		node := func(ctx context.Context, name string) {
			jobs.Run(ctx, table, name, []jobs.Job{{Name: "sweep", Every: time.Minute, Do: func(context.Context) (jobs.Pace, error) {
				mu.Lock()
				defer mu.Unlock()
				by[name]++
				return jobs.Done, nil
			}}}, &record{})
		}
		first, stopFirst := context.WithCancel(t.Context())
		second, stopSecond := context.WithCancel(t.Context())
		go node(first, "a")
		go node(second, "b")
		time.Sleep(time.Hour)
		mu.Lock()
		if by["a"] > 0 && by["b"] > 0 {
			t.Errorf("both nodes worked: %v", by)
		}
		before := by["a"] + by["b"]
		worker := "a"
		if by["b"] > 0 {
			worker = "b"
		}
		mu.Unlock()
		if before < 50 || before > 70 {
			t.Errorf("%d runs in an hour of one a minute", before)
		}
		if worker == "a" {
			stopFirst()
		} else {
			stopSecond()
		}
		time.Sleep(time.Hour)
		mu.Lock()
		if by["a"] == 0 || by["b"] == 0 {
			t.Errorf("nobody took over: %v", by)
		}
		mu.Unlock()
		stopFirst()
		stopSecond()
		synctest.Wait()
	})
}

func TestRun_aPanicIsAnErrorAndTheJobGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var r record
		go jobs.Run(ctx, newLeases(), "a", []jobs.Job{{Name: "bad", Every: time.Second, Do: func(context.Context) (jobs.Pace, error) {
			panic("out of cheese")
		}}}, &r)
		time.Sleep(10 * time.Second)
		stop()
		synctest.Wait()
		if len(r.errs) < 5 || !strings.Contains(r.errs[0].Error(), "out of cheese") {
			t.Fatalf("errors: %v", r.errs)
		}
	})
}

func TestRun_moreWorkIsDoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		left := 1000
		go jobs.Run(ctx, newLeases(), "a", []jobs.Job{{Name: "sweep", Every: time.Hour, Do: func(context.Context) (jobs.Pace, error) {
			if left--; left == 0 {
				return jobs.Done, nil
			}
			return jobs.Soon, nil
		}}}, &record{})
		time.Sleep(time.Hour + 2*time.Minute)
		stop()
		synctest.Wait()
		if left > 0 {
			t.Fatalf("%d pieces left after the first turn", left)
		}
	})
}

func TestRun_aLongTurnKeepsItsLeaseAndSeldomAsksForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		table := newLeases()
		pieces, longest := 0, time.Duration(0)
		last := time.Now()
		go jobs.Run(ctx, table, "a", []jobs.Job{{Name: "walk", Every: time.Minute, Do: func(context.Context) (jobs.Pace, error) {
			if pieces++; pieces > 1 {
				longest = max(longest, time.Since(last))
			}
			last = time.Now()
			if held, _ := table.Hold(ctx, "job:walk", "b", time.Hour); held {
				t.Error("another node was given the lease meanwhile")
			}
			return jobs.Looking, nil
		}}}, &record{})
		time.Sleep(time.Hour)
		stop()
		synctest.Wait()
		if pieces < 7_000 || longest > time.Second {
			t.Errorf("%d pieces in an hour, at most %s apart; want two to four a second", pieces, longest)
		}
		if asked := table.asked["a"]; asked < 30 || asked > 70 {
			t.Errorf("the lease of two minutes was asked for %d times in an hour; want about once a minute", asked)
		}
	})
}

func TestRun_thePaceIsAPartOfTheTime(t *testing.T) {
	const whole = 5 * time.Minute
	for name, c := range map[string]struct {
		pace jobs.Pace
		took time.Duration
		want time.Duration // of five minutes
	}{
		"soon":                  {jobs.Soon, 50 * time.Millisecond, whole / 2},
		"leisurely":             {jobs.Leisurely(30), 5 * time.Millisecond, whole / 31},
		"leisurely, long":       {jobs.Leisurely(30), 500 * time.Millisecond, whole / 2},
		"leisurely, very short": {jobs.Leisurely(30), 10 * time.Microsecond, whole / 201},
		"looking":               {jobs.Looking, 5 * time.Millisecond, whole / 101},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				var worked time.Duration
				var running sync.WaitGroup
				running.Go(func() {
					jobs.Run(ctx, newLeases(), "a", []jobs.Job{{Name: "sweep", Every: time.Second, Do: func(context.Context) (jobs.Pace, error) {
						time.Sleep(c.took)
						worked += c.took
						return c.pace, nil
					}}}, &record{})
				})
				time.Sleep(whole)
				stop()
				running.Wait()
				if worked < c.want*9/10 || worked > c.want*11/10 {
					t.Errorf("worked %s of five minutes, want about %s", worked, c.want)
				}
			})
		})
	}
}

func TestRun_noLeaseNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		table := newLeases()
		table.fail = errors.New("database is gone")
		worked := false
		var r record
		go jobs.Run(ctx, table, "a", []jobs.Job{{Name: "sweep", Every: time.Minute, Do: func(context.Context) (jobs.Pace, error) {
			worked = true
			return jobs.Done, nil
		}}}, &r)
		time.Sleep(10 * time.Minute)
		stop()
		synctest.Wait()
		if worked || len(r.errs) == 0 {
			t.Fatalf("worked=%v, errors=%v", worked, r.errs)
		}
	})
}

// A node on which a job fails lets others have it: what it cannot do, they may.
func TestRun_aJobThatFailsGoesToAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		table := newLeases()
		work := func(err error, done *int) []jobs.Job {
			return []jobs.Job{{Name: "sweep", Every: time.Minute, Do: func(context.Context) (jobs.Pace, error) {
				*done++
				return jobs.Done, err
			}}}
		}
		var broken, sound int
		go jobs.Run(ctx, table, "a", work(errors.New("a bug of this version"), &broken), &record{})
		time.Sleep(2 * time.Minute)
		go jobs.Run(ctx, table, "b", work(nil, &sound), &record{})
		time.Sleep(10 * time.Minute)
		stop()
		synctest.Wait()
		if broken == 0 || sound < 5 {
			t.Errorf("the broken node tried %d times, the sound one did it %d times", broken, sound)
		}
	})
}
