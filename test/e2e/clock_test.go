package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/pgcluster"
	"example.com/authserver/test/prove/provetest"
)

// databaseClock is the clock of a PostgreSQL that a test sets.
type databaseClock struct {
	t    testing.TB
	file string
}

// clocked starts a PostgreSQL whose clock the test sets, with Debian's libfaketime.
func clocked(t testing.TB) (*pgcluster.Cluster, databaseClock) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test sets a clock and needs libfaketime")
		}
		t.Skip("this test sets a clock and needs libfaketime; scripts/ensure faketime installs it")
	}
	storetest.Postgres(t) // before anything is made: skips where there is none
	dir, err := os.MkdirTemp("", "authserver-clock-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // for the user that PostgreSQL runs as
		t.Fatal(err)
	}
	c := databaseClock{t, filepath.Join(dir, "offset")}
	c.set("+0")
	return pgcluster.NewWith(t, pgcluster.Options{Env: []string{
		"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + c.file, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1",
	}}), c
}

// set puts the clock so far off, as libfaketime spells it: "+2h", "-200d".
func (c databaseClock) set(offset string) {
	c.t.Helper()
	next := c.file + ".next"
	err := os.WriteFile(next, []byte(offset+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, c.file) // nobody reads half of it
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// kids are those of the key set.
func (n *node) kids() (list []string) {
	n.t.Helper()
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(n.must(http.StatusOK, "GET", "/.well-known/jwks.json", nil).Body, &set); err != nil {
		n.t.Fatal(err)
	}
	for _, k := range set.Keys {
		list = append(list, k.Kid)
	}
	return list
}

// The database's clock leaps and comes back. As long as it is off nobody is answered;
// then every session is there, and every key.
func TestClock_theDatabasesLeapsAndComesBack(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		pg, clock := clocked(t)
		settings := []string{"DATABASE_URL=" + pg.URL(), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		c := newCrowd(t, nodes, 6)
		// Until a node looks, which is a second, tokens are dated by the clock that is off.
		c.apis.AnyClock = true
		c.start()
		leaps := []string{"+200d", "-2h", "+3h"}
		leapt := func(leap string) {
			c.refreshed(60)
			before := nodes[0].kids()
			back := c.guest.Away() // who logs in before a node has noticed is born at that time, and the audit says so
			defer back()
			clock.set(leap)
			until(t, "a node to see that the clock is "+leap, func() bool {
				a, err := call("GET", nodes[0].Ops+"/readyz", nil)
				return err == nil && a.Status == http.StatusServiceUnavailable
			})
			<-time.After(3 * time.Second) // turns of the plan and of housekeeping
			clock.set("+0")
			for _, n := range nodes {
				n.awaitReady(time.Minute)
			}
			if after := nodes[0].kids(); !slices.Equal(before, after) {
				t.Errorf("%s: the keys were %v, and are %v", leap, before, after)
			}
		}
		for _, leap := range leaps {
			leapt(leap)
		}
		c.refreshed(60)
		c.settle(trouble)
		provetest.Figure(t, "leaps of the database's clock", len(leaps))
		audit(t, nodes[0])
	})
}
