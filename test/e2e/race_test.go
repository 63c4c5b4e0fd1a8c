package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
)

// Three nodes on one Postgres answer 100 parallel refreshes of one token with
// one successor, round after round.
func TestRefresh_threeNodesAnswerARaceWithOneSuccessor(t *testing.T) {
	rounds := storetest.Times(50, 1000)
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=warn"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start(), newNode(t, settings...).start()}
		race(t, nodes, rounds)
		audit(t, nodes[0])
	})
	t.Run("sqlite", func(t *testing.T) {
		n := newNode(t, "LOG_LEVEL=warn").start()
		race(t, []*node{n}, rounds/5)
		audit(t, n)
	})
}

func race(t *testing.T, nodes []*node, rounds int) {
	t.Helper()
	const holders = 100
	token := nodes[0].person("race@example.com").Field("refresh_token")
	begun := time.Now()
	for round := range rounds {
		var mu sync.Mutex
		successors := map[string]int{}
		var all sync.WaitGroup
		for holder := range holders {
			all.Go(func() {
				n := nodes[holder%len(nodes)]
				a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					successors["error: "+err.Error()]++
				case a.Status != http.StatusOK:
					successors["answer: "+a.String()]++
				default:
					successors[a.Field("refresh_token")]++
				}
			})
		}
		all.Wait()
		if len(successors) != 1 {
			t.Fatalf("round %d: %d different answers: %v", round, len(successors), successors)
		}
		for next := range successors {
			if len(next) != 77 || next == token {
				t.Fatalf("round %d: every answer was %q", round, next)
			}
			token = next
		}
	}
	t.Logf("%d rounds of %d holders on %d nodes in %s, one successor each", rounds, holders, len(nodes), time.Since(begun).Round(time.Millisecond))
}

// audit re-reads the whole database and wants no broken invariant, and nobody who came with
// a token that the database had forgotten: that heals by itself, and would hide that
// something acknowledged was lost.
func audit(t testing.TB, n *node) {
	t.Helper()
	out := n.mustCLI("", "audit", "sessions", "--json")
	if a := (answer{Body: []byte(out)}); a.Field("count") != "0" {
		t.Fatalf("audit sessions: %s", out)
	}
	if lost := strings.TrimSpace(n.mustCLI("", "audit", "list", "--kind", "refresh.ahead_of_store", "--json")); lost != "[]" {
		t.Errorf("acknowledged rotations were lost: %s", lost)
	}
}

// A refresh token that was used, and whose successor was used, ends its family
// when it comes back late; another device of the same person stays.
func TestRefresh_anOldTokenEndsItsFamilyAndNoOther(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, append(settings, "TRUSTED_PROXIES=127.0.0.0/8")...).start()
		const request = "3f0c5a5e-6d0b-4c55-9a53-0c1f2f6f7a11" // as many a proxy calls them
		thief := n.person("ada@example.com").Field("refresh_token")
		other := n.logIn("ada@example.com").Field("refresh_token")
		second := n.refresh(thief).Field("refresh_token")
		if again := n.refresh(thief); again.Status != 200 || again.Field("refresh_token") != second {
			t.Fatalf("a retry within the window: %s; want 200 and the same successor", again)
		}
		third := n.refresh(second).Field("refresh_token")
		if a := n.refresh(thief, "X-Request-Id", request); a.Status != 401 || a.Field("code") != "refresh_reused" {
			t.Fatalf("a token two generations old: %s; want 401 refresh_reused", a)
		}
		if a := n.refresh(third); a.Status != 401 || a.Field("code") != "refresh_revoked" {
			t.Fatalf("the head after reuse: %s; want 401 refresh_revoked", a)
		}
		if a := n.refresh(other); a.Status != 200 {
			t.Fatalf("the other device: %s; want 200", a)
		}
		for _, explained := range []string{n.mustCLI(third, "explain", "--json", "-"), n.mustCLI("", "explain", "--json", request)} {
			for _, want := range []string{`"end_reason": "reuse"`, `"refresh.reused"`, `"state": "ended"`, request} {
				if !strings.Contains(explained, want) {
					t.Errorf("explain does not say %s:\n%s", want, explained)
				}
			}
		}
		audit(t, n)
	})
}

// Two rolling restarts under load give no answer but 2xx.
func TestServe_twoRollingRestartsUnderLoadAnswerOnlyWith2xx(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "DRAIN_DELAY=1s", "LOG_LEVEL=warn"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		balancer := balance(t, nodes)
		const clients = 16
		tokens := make([]string, clients)
		for i := range tokens {
			tokens[i] = nodes[0].person(fmt.Sprintf("roll%d@example.com", i)).Field("refresh_token")
		}
		stop := make(chan struct{})
		bad := make(chan string, clients)
		answers := make([]int, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					a, err := call("POST", balancer.URL+"/v1/refresh", map[string]string{"refresh_token": tokens[i]})
					if err != nil || a.Status != http.StatusOK {
						bad <- fmt.Sprintf("client %d after %d answers: %v %s", i, answers[i], err, a)
						return
					}
					answers[i]++
					tokens[i] = a.Field("refresh_token")
				}
			})
		}
		for range 2 {
			for _, n := range nodes {
				if code := n.terminate(); code != 0 {
					t.Errorf("exit code %d after SIGTERM", code)
				}
				n.start()
				if err := balancer.AwaitAll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		close(stop)
		all.Wait()
		close(bad)
		for b := range bad {
			t.Error(b)
		}
		total := 0
		for _, n := range answers {
			total += n
		}
		if total < 100 {
			t.Errorf("only %d answers", total)
		}
		t.Logf("%d answers through two rolling restarts of two nodes", total)
		audit(t, nodes[0])
	})
}
