package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// naive is a token server of the kind that people write, with its rules as
// switches. One with none of them set is strict single use without theft
// detection.
type naive struct {
	endsOnReuse bool // an old token ends its family
	window      bool // the token before the head answers the head, for a minute
	forks       bool // within the window every retry gets a successor of its own
	displaces   bool // the same, and the successor before it dies
	keeps       bool // never rotates
	prefixes    bool // a token is found by its first half
	fragile     bool // concurrent requests of one token fail
	deaf        bool // revocation is acknowledged and forgotten
	putsOff     int  // so many times 503 with Retry-After before each answer

	mu     sync.Mutex
	tokens map[string]*issued
	serial int
	clock  time.Duration // passes only when the kit waits
	busy   map[string]int
	put    int // so many times since the last answer
	calls  []*http.Request
}

// issued is one token.
type issued struct {
	text   string
	family *family
	swap   time.Duration // when it was swapped; below 0: not yet
	next   *issued
	dead   bool
}

type family struct{ ended bool }

// start runs the server and returns its URL.
func (n *naive) start(t *testing.T) string {
	t.Helper()
	n.tokens, n.busy = map[string]*issued{}, map[string]int{}
	s := httptest.NewServer(n)
	t.Cleanup(s.Close)
	return s.URL
}

// logIn returns the first token of a new family.
func (n *naive) logIn() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.issue(&family{}).text
}

func (n *naive) issue(f *family) *issued {
	n.serial++
	t := &issued{text: fmt.Sprintf("naive-%08d-%s", n.serial*7919%99999989, strings.Repeat("x", 20)), family: f, swap: -1}
	n.tokens[t.text] = t
	return t
}

// pass is how the kit waits in these tests.
func (n *naive) pass(_ context.Context, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock += d
}

func (n *naive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		fail(w, http.StatusBadRequest, "invalid_request")
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, r)
	if r.URL.Path == "/revoke" {
		if t := n.tokens[r.Form.Get("token")]; t != nil && !n.deaf {
			t.family.ended = true
		}
		return
	}
	text := r.Form.Get("refresh_token")
	if n.put++; n.put <= n.putsOff {
		w.Header().Set("Retry-After", "2")
		fail(w, http.StatusServiceUnavailable, "temporarily_unavailable")
		return
	}
	n.put = 0
	if n.fragile {
		n.busy[text]++
		if n.busy[text] > 1 {
			fail(w, http.StatusInternalServerError, "server_error")
			return
		}
	}
	t := n.find(text)
	if t == nil || t.family.ended || t.dead {
		fail(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	if next := n.redeem(t); next != nil {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]string{"access_token": "a", "token_type": "Bearer", "refresh_token": next.text})
		return
	}
	fail(w, http.StatusBadRequest, "invalid_grant")
}

func (n *naive) find(text string) *issued {
	if t := n.tokens[text]; t != nil || !n.prefixes {
		return t
	}
	for known, t := range n.tokens {
		if len(text) >= 15 && strings.HasPrefix(known, text) {
			return t
		}
	}
	return nil
}

// redeem is the rule.
func (n *naive) redeem(t *issued) *issued {
	switch {
	case n.keeps:
		return t
	case t.swap < 0:
		t.swap = n.clock
		t.next = n.issue(t.family)
		return t.next
	}
	young := n.clock-t.swap <= time.Minute
	switch {
	case young && n.forks:
		return n.issue(t.family)
	case young && n.displaces && t.next.swap < 0:
		t.next.dead = true
		t.next = n.issue(t.family)
		return t.next
	case young && n.window && t.next.swap < 0:
		return t.next
	case n.endsOnReuse:
		t.family.ended = true
	}
	return nil
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"error": code})
}
