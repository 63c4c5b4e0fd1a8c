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

// A node that has just started leaves the lease as it found it, for those that start with
// it. Later it renews it before it runs out, and says exactly when it stops.
func TestKeepPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &noted{begun: time.Now()}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			keepPresence(ctx, n, "a node")
			close(ended)
		}()
		time.Sleep(10*time.Minute + time.Second)
		stop()
		<-ended
		if len(n.at) < 10 || n.at[0] < presenceAfter || n.at[len(n.at)-1] != 10*time.Minute+time.Second {
			t.Fatalf("held at %v", n.at)
		}
		for i := 1; i < len(n.at); i++ {
			if gap := n.at[i] - n.at[i-1]; gap > presenceTTL/2 {
				t.Errorf("%s between two renewals of %s", gap, presenceTTL)
			}
		}
	})
}
