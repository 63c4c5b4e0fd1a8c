package e2e

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// soakFor is the length of a small soak; the bench soaks for an hour.
const soakFor = 24 * time.Second

// Under a steady load of refreshes, logins, logouts and reads of the key set a server
// grows in nothing: goroutines, and the heap after a collection, are at the end what
// they were in the middle. The first third is for caches and pools to fill.
func TestSoak_goroutinesAndHeapStayFlat(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		soak(t)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		soak(t, "DATABASE_URL="+storetest.Postgres(t), "MASTER_KEY="+masterKey)
	})
}

func soak(t *testing.T, settings ...string) {
	n := newNode(t, append(settings, "LOG_LEVEL=error")...).start()
	c := newCrowd(t, []*node{n}, 8)
	email := rand.Text() + "@example.com"
	n.person(email)
	over := make(chan struct{})
	var all sync.WaitGroup
	every := func(pause time.Duration, do func() error) {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(pause):
				}
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, h := range c.holders {
		every(40*time.Millisecond, func() error { return h.Refresh(t.Context()) })
	}
	every(time.Second, func() error {
		a, err := call("POST", n.URL+"/v1/login", map[string]string{"email": email, "password": goodPassword})
		if err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("login: %v %s", err, a)
		}
		return n.logOut(t.Context(), a.Field("refresh_token"))
	})
	every(100*time.Millisecond, func() error {
		a, err := call("GET", n.URL+"/.well-known/jwks.json", nil)
		if err != nil || a.Status != http.StatusOK {
			return fmt.Errorf("the key set: %v %s", err, a)
		}
		return nil
	})
	var goroutines, heap []float64
	for deadline := time.Now().Add(soakFor * time.Duration(provetest.Effort(t))); time.Now().Before(deadline); {
		<-time.After(400 * time.Millisecond)
		values := n.afterCollection()
		goroutines, heap = append(goroutines, values["go_goroutines"]), append(heap, values["go_memstats_heap_alloc_bytes"])
	}
	close(over)
	all.Wait()
	audit(t, n)
	third := len(heap) / 3
	if third < 5 || slices.Min(heap) == 0 || slices.Min(goroutines) == 0 {
		t.Fatalf("samples %v and %v say nothing", goroutines, heap)
	}
	for what, s := range map[string]struct {
		values []float64
		slack  float64 // by what they may differ at any time
	}{"goroutines": {goroutines, 8}, "bytes of the heap": {heap, 1 << 20}} {
		// The least of each: a sample may meet a hash of 19 MiB, and a leak raises all.
		from, to := slices.Min(s.values[third:2*third]), slices.Min(s.values[2*third:])
		t.Logf("%s: %.0f at the end, %.0f in the middle", what, to, from)
		if to > 1.1*from+s.slack {
			t.Errorf("%s: %.0f at the end, %.0f in the middle", what, to, from)
		}
	}
}

// afterCollection returns the metrics of the node after a garbage collection.
func (n *node) afterCollection() map[string]float64 {
	n.t.Helper()
	var a answer
	for _, path := range []string{"/debug/pprof/heap?gc=1", "/metrics"} {
		var err error
		if a, err = call("GET", n.Ops+path, nil); err != nil || a.Status != http.StatusOK {
			n.t.Fatalf("%s: %v %d", path, err, a.Status)
		}
	}
	return rig.Samples(a.Body)
}
