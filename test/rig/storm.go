package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// Storm is a crowd of clients that refresh without end, each its own token.
// Every second one can be held still.
type Storm struct {
	Clients []*Client

	apis  *ResourceServers
	think time.Duration // the most that a client waits after an answer
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu   sync.Mutex
	gate chan struct{} // closed while the held half may go on

	// The instants of the whole crowd's answers.
	last    time.Time
	longest time.Duration
}

// accounts is how many people a storm's clients belong to.
const accounts = 10

// Email is the address of one of them.
func Email(n int) string { return fmt.Sprintf("rig-%d@example.com", n) }

// Gather logs so many clients in, several to an account.
func Gather(ctx context.Context, clients int, think time.Duration, nodes ...string) (*Storm, error) {
	h := &http.Client{
		// Longer than the server waits for its database (15 s).
		Timeout: 25 * time.Second,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			MaxIdleConnsPerHost: clients,
		},
	}
	open := make(chan struct{})
	close(open)
	s := &Storm{think: think, gate: open, apis: NewResourceServers(h, nodes...)}
	for n := range clients {
		email := Email(n % accounts)
		if n < accounts {
			if err := Register(ctx, h, nodes[0], email); err != nil {
				return nil, err
			}
		}
		c, err := logIn(ctx, h, email, s.apis, nodes)
		if err != nil {
			return nil, err
		}
		c.next = n
		s.Clients = append(s.Clients, c)
	}
	return s, nil
}

// Start lets all clients run until Stop.
func (s *Storm) Start(ctx context.Context) {
	ctx, s.stop = context.WithCancel(ctx)
	s.Watch()
	for n, c := range s.Clients {
		held := n%2 == 1
		s.ended.Go(func() { s.run(ctx, c, held) })
	}
}

// Stop ends the storm; once more does nothing. A request that is under way is
// waited for, so that what every client was answered is certain.
func (s *Storm) Stop() {
	s.stop()
	s.ended.Wait()
}

func (s *Storm) run(ctx context.Context, c *Client, held bool) {
	// What ends the storm ends no request: its answer would be lost.
	requests := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		if held {
			select {
			case <-ctx.Done():
				return
			case <-s.currentGate():
			}
		}
		c.flight.Lock()
		if held && !s.open() { // it was closed on the way here
			c.flight.Unlock()
			continue
		}
		if c.refresh(requests) {
			s.answered()
		}
		wait := c.wait
		c.flight.Unlock()
		if wait == 0 {
			wait = rand.N(s.think + 1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Storm) currentGate() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate
}

func (s *Storm) open() bool {
	select {
	case <-s.currentGate():
		return true
	default:
		return false
	}
}

func (s *Storm) answered() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.longest = max(s.longest, now.Sub(s.last))
	s.last = now
}

// Hold keeps every second client from its next request and returns when none of
// them has one under way: what they were answered then stands still.
func (s *Storm) Hold() {
	s.mu.Lock()
	s.gate = make(chan struct{})
	s.mu.Unlock()
	for n, c := range s.Clients {
		if n%2 == 1 {
			c.flight.Lock()
			c.flight.Unlock() //nolint:staticcheck // SA2001: to have waited is all
		}
	}
}

// Release lets the held clients go on. Without a Hold before it does nothing.
func (s *Storm) Release() {
	if s.open() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
}

// Watch begins a new measurement of gaps.
func (s *Storm) Watch() {
	now := time.Now()
	s.mu.Lock()
	s.last, s.longest = now, 0
	s.mu.Unlock()
	for _, c := range s.Clients {
		c.note(func() { c.gapFrom, c.longest = now, 0 })
	}
}

// Gaps returns the longest time in which no client was answered, and the longest
// in which one of the clients that are never held was not, since Watch.
func (s *Storm) Gaps() (all, one time.Duration) {
	for n, c := range s.Clients {
		if n%2 == 0 {
			c.note(func() { one = max(one, c.longest) })
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest, one
}

// AwaitAnswers waits until every client was answered after the instant, and has all
// access tokens accepted that a node was away for.
func (s *Storm) AwaitAnswers(ctx context.Context, since time.Time, patience time.Duration) error {
	err := Poll(ctx, patience, func() error {
		missing := 0
		for _, c := range s.Clients {
			c.note(func() {
				if !c.ackedAt.After(since) {
					missing++
				}
			})
		}
		if missing > 0 {
			return errors.Join(fmt.Errorf("%d of %d clients had no answer since %s", missing, len(s.Clients), since.Format("15:04:05")), s.Violations())
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.apis.Settle(ctx)
}

// Tally is what a storm counted.
type Tally struct {
	Answers int // 200
	Retries int // 503, and answers that never came
}

// Tally returns the counts so far.
func (s *Storm) Tally() (t Tally) {
	for _, c := range s.Clients {
		c.note(func() { t.Answers, t.Retries = t.Answers+c.answers, t.Retries+c.retries })
	}
	return t
}

// Violations returns what must never happen and did: an answer other than 200
// and 503 to a valid token, a token that is not its successor, or an access token that a
// resource server refuses.
func (s *Storm) Violations() error {
	var all []error
	for _, c := range s.Clients {
		c.note(func() {
			for _, text := range c.violated {
				all = append(all, errors.New(text))
			}
		})
	}
	return errors.Join(all...)
}
