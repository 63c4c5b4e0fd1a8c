package rig

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Client is a well-behaved holder of one refresh token. It sends a new random
// Idempotency-Key with each token, and after a connection error or a 503 the
// same token with the same key, at the next node.
type Client struct {
	Family [16]byte

	http  *http.Client
	apis  *ResourceServers
	nodes []string // URLs
	next  int      // whom it asks, modulo len(nodes)
	token string
	key   string
	wait  time.Duration // before it tries again

	flight sync.Mutex // held while a request is under way

	mu       sync.Mutex
	acked    uint32 // the generation it was answered last
	ackedAt  time.Time
	gapFrom  time.Time     // the last answer, or when the storm was last watched
	longest  time.Duration // between two answers since then
	answers  int
	retries  int      // answers that never came, and 503
	violated []string // what must never happen, in words
}

// tokenBytes is the length of a decoded refresh token: version(1), root key(1),
// family(16), generation(4), secret(16), MAC(16).
const tokenBytes = 54

// readToken returns what a refresh token says openly.
func readToken(token string) (family [16]byte, generation uint32, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(token[min(len(token), len("asrt_")):])
	if err != nil || len(raw) != tokenBytes {
		return family, 0, fmt.Errorf("no refresh token: %d bytes (%w)", len(raw), err)
	}
	return [16]byte(raw[2:18]), binary.BigEndian.Uint32(raw[18:22]), nil
}

// Password is that of every account of a storm.
const Password = "correct horse battery staple"

// Register makes an account.
func Register(ctx context.Context, h *http.Client, node, email string) error {
	a, err := Ask(ctx, h, "POST", node+"/v1/users", map[string]string{"email": email, "password": Password})
	if err == nil && a.Status != http.StatusCreated {
		err = errors.New(a.String())
	}
	if err != nil {
		return fmt.Errorf("register %s: %w", email, err)
	}
	return nil
}

// logIn opens a session at the first node.
func logIn(ctx context.Context, h *http.Client, email string, apis *ResourceServers, nodes []string) (*Client, error) {
	a, err := Ask(ctx, h, "POST", nodes[0]+"/v1/login", map[string]string{"email": email, "password": Password})
	if err == nil && a.Status != http.StatusOK {
		err = errors.New(a.String())
	}
	if err != nil {
		return nil, fmt.Errorf("log in %s: %w", email, err)
	}
	c := &Client{http: h, apis: apis, nodes: nodes, key: rand.Text(), token: a.Field("refresh_token")}
	c.Family, c.acked, err = readToken(c.token)
	return c, err
}

// retryPause is how long a client waits before it asks again. Retry-After says
// 1 to 5 s; the lab's clients come sooner, which is harder for the server and
// measures its recovery more finely.
const retryPause = 250 * time.Millisecond

// refresh makes one attempt. It reports whether it was answered 200.
func (c *Client) refresh(ctx context.Context) bool {
	a, err := Ask(ctx, c.http, "POST", c.nodes[c.next%len(c.nodes)]+"/v1/refresh", map[string]string{"refresh_token": c.token}, "Idempotency-Key", c.key)
	switch {
	case err != nil || a.Status == http.StatusServiceUnavailable:
		c.note(func() { c.retries++ })
		c.next++
		c.wait = retryPause
		return false
	case a.Status != http.StatusOK:
		c.violate("a valid token of generation %d was answered %.300s", c.Acked(), a)
		c.wait = time.Second
		return false
	}
	token := a.Field("refresh_token")
	family, generation, err := readToken(token)
	if before := c.Acked(); err != nil || family != c.Family || generation != before+1 {
		c.violate("a token of generation %d was answered with %x at generation %d (%v); want %x at %d", before, family, generation, err, c.Family, before+1)
		return false
	}
	c.token, c.key, c.wait = token, rand.Text(), 0
	if err := c.apis.Accept(ctx, a.Field("access_token")); err != nil {
		c.violate("generation %d: %v", generation, err)
	}
	c.next++
	now := time.Now()
	c.note(func() {
		c.acked, c.answers = generation, c.answers+1
		c.longest = max(c.longest, now.Sub(c.gapFrom))
		c.ackedAt, c.gapFrom = now, now
	})
	return true
}

// Acked is the generation that this client was last answered.
func (c *Client) Acked() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

func (c *Client) note(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// keptViolations is how many a client spells out.
const keptViolations = 5

func (c *Client) violate(format string, args ...any) {
	text := fmt.Sprintf("%s family %x: ", time.Now().Format("15:04:05.000"), c.Family) + fmt.Sprintf(format, args...)
	c.note(func() {
		if len(c.violated) < keptViolations {
			c.violated = append(c.violated, text)
		}
	})
}
