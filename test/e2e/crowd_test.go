package e2e

import (
	"crypto/rand"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// crowd is a number of well-behaved clients that refresh without pause, at any
// of the nodes. Whatever is done to these, every one of them keeps its session.
type crowd struct {
	t       testing.TB
	holders []*provetest.Holder
	first   string // a token that somebody had at first; the holders' own change
	over    chan struct{}
	all     sync.WaitGroup
	next    atomic.Uint64 // attempts so far: whom to ask
	answers atomic.Uint64 // refreshes that were acknowledged
	http    *http.Client
	apis    *rig.ResourceServers
	guest   *rig.Guest
}

func newCrowd(t testing.TB, nodes []*node, people int) *crowd {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	c := &crowd{t: t, over: make(chan struct{}), http: &http.Client{Transport: transport}}
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL)
	}
	c.apis = rig.NewResourceServers(c.http, urls...)
	for i := range people {
		h := &provetest.Holder{
			HTTP: c.http, Node: func() string { return nodes[c.next.Add(1)%uint64(len(nodes))].URL },
			Timeout: 10 * time.Second, Patience: 4 * time.Minute, Pause: 25 * time.Millisecond,
			Agent: "a device of the crowd", Accept: c.apis.Accept,
		}
		login := map[string]string{"email": rand.Text() + "@example.com", "password": goodPassword}
		// Of four clients two send a key with each refresh, one sends none, and one is
		// a browser: no script of its makes keys, and its token is in a cookie.
		switch i % 4 {
		case 1:
			h.Keyless = true
		case 3:
			h.Keyless, h.Cookie, login["transport"] = true, "refresh", "cookie"
		}
		nodes[0].must(http.StatusCreated, "POST", "/v1/users", map[string]string{"email": login["email"], "password": goodPassword})
		token, err := h.TokenIn(nodes[0].must(http.StatusOK, "POST", "/v1/login", login))
		if err != nil {
			t.Fatal(err)
		}
		h.Token = token
		c.holders = append(c.holders, h)
	}
	c.first = c.holders[0].Token
	c.guest = &rig.Guest{HTTP: c.http, Node: c.holders[0].Node, Email: rand.Text() + "@example.com", Password: goodPassword, Pause: 100 * time.Millisecond}
	nodes[0].must(http.StatusCreated, "POST", "/v1/users", map[string]string{"email": c.guest.Email, "password": goodPassword})
	return c
}

// start has everybody refresh until settle, and somebody come and go.
func (c *crowd) start() {
	c.all.Go(func() {
		if err := c.guest.Stay(c.t.Context(), c.over); err != nil && c.t.Context().Err() == nil {
			c.t.Errorf("the guest: %v", err)
		}
	})
	for i, h := range c.holders {
		c.all.Go(func() {
			for {
				select {
				case <-c.over:
					return
				default:
				}
				if err := h.Refresh(c.t.Context()); err != nil {
					c.t.Errorf("client %d: %v", i, err)
					return
				}
				c.answers.Add(1)
			}
		})
	}
}

// impatient has everybody give an attempt up after d.
func (c *crowd) impatient(d time.Duration) {
	for _, h := range c.holders {
		h.Timeout = d
	}
}

// feeling is what a crowd must have felt of what was done to the servers.
type feeling int

const (
	nothing  feeling = iota // not one attempt went without an answer
	trouble                 // some did: else nothing was tested
	whatever                // none or some
)

// settle ends the refreshing; everything being whole again, every session has
// to be alive.
func (c *crowd) settle(want feeling) {
	c.t.Helper()
	close(c.over)
	c.all.Wait()
	refreshes, repeats := 0, 0
	for i, h := range c.holders {
		if err := h.Refresh(c.t.Context()); err != nil {
			c.t.Errorf("client %d at the end: %v", i, err)
		}
		refreshes, repeats = refreshes+h.Refreshes, repeats+h.Repeats
	}
	ended, alive, err := c.guest.Revived(c.t.Context())
	if err != nil || alive > 0 {
		c.t.Errorf("of %d sessions that were acknowledged as ended %d live on, %v", ended, alive, err)
	}
	if err := c.apis.Settle(c.t.Context()); err != nil {
		c.t.Error(err)
	}
	switch {
	case want == trouble && repeats == 0:
		c.t.Error("nobody felt any of it, so nothing was tested")
	case want == nothing && repeats > 0:
		c.t.Errorf("%d attempts had no answer; want none", repeats)
	}
	provetest.Figure(c.t, "sessions held through kills and stops", len(c.holders))
	provetest.Figure(c.t, "refreshes acknowledged meanwhile", refreshes)
	provetest.Figure(c.t, "attempts without an answer", repeats)
	provetest.Figure(c.t, "logouts acknowledged meanwhile", ended)
}

// refreshed waits until the crowd as a whole got n more answers.
func (c *crowd) refreshed(n uint64) {
	c.t.Helper()
	from := c.answers.Load()
	for deadline := time.Now().Add(3 * time.Minute); c.answers.Load() < from+n; {
		if c.t.Failed() || time.Now().After(deadline) {
			c.t.Fatal("the crowd makes no headway")
		}
		<-time.After(5 * time.Millisecond)
	}
}

func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}
