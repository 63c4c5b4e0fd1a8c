package e2e

import (
	"context"
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
	guest   map[string]string // the login of somebody who comes and goes
	visit   sync.Mutex        // held while the guest does; whoever holds it keeps the guest away
	gone    []string          // refresh tokens that were acknowledged as ended
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
	c.guest = map[string]string{"email": rand.Text() + "@example.com", "password": goodPassword}
	nodes[0].must(http.StatusCreated, "POST", "/v1/users", c.guest)
	return c
}

// start has everybody refresh until settle, and somebody come and go.
func (c *crowd) start() {
	c.all.Go(c.comeAndGo)
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

// comeAndGo logs in and out until settle. What is acknowledged as ended stays so, whatever
// is done to the servers.
func (c *crowd) comeAndGo() {
	ask := func(path string, body map[string]string) (answer, error) {
		ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
		defer cancel()
		return provetest.Send(ctx, c.http, "POST", c.holders[0].Node()+path, body)
	}
	visit := func() (whole bool) {
		c.visit.Lock()
		defer c.visit.Unlock()
		in, err := ask("/v1/login", c.guest)
		if err != nil || in.Status >= 500 {
			return true
		}
		if in.Status != http.StatusOK {
			c.t.Errorf("a login with the right password: %s", in)
			return false
		}
		token := in.Field("refresh_token")
		for deadline := time.Now().Add(4 * time.Minute); ; <-time.After(25 * time.Millisecond) {
			out, err := ask("/v1/logout", map[string]string{"refresh_token": token})
			if err == nil && out.Status == http.StatusNoContent {
				c.gone = append(c.gone, token)
				return true
			}
			if err == nil && out.Status < 500 || time.Now().After(deadline) {
				c.t.Errorf("a logout: %v %s; want 204", err, out)
				return false
			}
		}
	}
	for visit() {
		select {
		case <-c.over:
			return
		case <-time.After(100 * time.Millisecond):
		}
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
	for _, token := range c.gone {
		a, err := rig.Patiently(time.Minute, func() (answer, error) {
			return call("POST", c.holders[0].Node()+"/v1/refresh", map[string]string{"refresh_token": token})
		})
		if err != nil || a.Status != http.StatusUnauthorized {
			c.t.Errorf("a refresh after the answer to a logout: %v %s; want 401", err, a)
		}
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
	provetest.Figure(c.t, "logouts acknowledged meanwhile", len(c.gone))
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
