package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// noted are the instants at which the lease was held, as spans since the beginning.
type noted struct {
	begun time.Time
	at    []time.Duration
}

func (n *noted) Hold(_ context.Context, name, _ string, ttl time.Duration) (bool, error) {
	if name == presence && ttl == presenceTTL {
		n.at = append(n.at, time.Since(n.begun))
	}
	return true, nil
}
func (n *noted) Release(context.Context, string, string) error    { return nil }
func (n *noted) Until(context.Context, string) (time.Time, error) { return time.Time{}, nil }

// A node renews the lease before it runs out, and says exactly when it stops. One that
// found nobody there leaves the lease as it was for a while, for those that start with
// it, and for ever if it stops before that.
func TestAttendance_keep(t *testing.T) {
	for _, c := range []struct {
		name        string
		leave, runs time.Duration
		first       time.Duration // -1: never
	}{
		{"others were there", 0, 10*time.Minute + time.Second, 0},
		{"nobody was", 2 * time.Minute, 10*time.Minute + time.Second, 2 * time.Minute},
		{"nobody was, and it does not last", 2 * time.Minute, time.Minute, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &noted{begun: time.Now()}
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					attendance{n, c.leave}.keep(ctx)
					close(ended)
				}()
				time.Sleep(c.runs)
				stop()
				<-ended
				if c.first < 0 {
					if len(n.at) > 0 {
						t.Errorf("held at %v, want the lease left as it was", n.at)
					}
					return
				}
				if len(n.at) < 10 || n.at[0] != c.first || n.at[len(n.at)-1] != c.runs {
					t.Fatalf("held at %v, want from %s to %s", n.at, c.first, c.runs)
				}
				for i := 1; i < len(n.at); i++ {
					if gap := n.at[i] - n.at[i-1]; gap > presenceTTL/2 {
						t.Errorf("%s between two renewals of %s", gap, presenceTTL)
					}
				}
			})
		})
	}
}
