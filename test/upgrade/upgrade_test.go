package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

const masterKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func newNode(t *testing.T, name, binary, url string) *rig.Node {
	t.Helper()
	n, err := rig.NewNode(name, binary, t.TempDir(), "DATABASE_URL="+url, "MASTER_KEY="+masterKey, "DRAIN_DELAY=3s", "LOG_LEVEL=warn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", n.Name, n.Tail())
		}
	})
	return n
}

// gather starts a storm that ends with the test at the latest.
func gather(t *testing.T, clients int, url string) *rig.Storm {
	t.Helper()
	storm, err := rig.Gather(t.Context(), clients, 20*time.Millisecond, url)
	must(t, err)
	storm.Start(t.Context())
	t.Cleanup(storm.Stop)
	return storm
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Two nodes of version 0.1.0 become two of this tree under load, through every
// migration there is and two that are to come. A node of the old version that is
// restarted half-way works on the new schema. No request fails, as people see it
// who are behind a load balancer; nobody has to try twice.
func TestUpgrade_rollingUnderLoadFailsNoRequest(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		b, url, ctx := binaries(t), storetest.Postgres(t), t.Context()
		one, two := newNode(t, "one", b.released, url), newNode(t, "two", b.released, url)
		must(t, one.Start(ctx))
		must(t, two.Start(ctx))
		balancer, err := rig.NewBalancer(one.Place(), two.Place())
		must(t, err)
		defer balancer.Close()
		must(t, balancer.AwaitAll(ctx))

		storm := gather(t, 16, balancer.URL)
		visits := visit(t, balancer.URL)
		roll := func(n *rig.Node, binary string) {
			t.Helper()
			must(t, n.Stop())
			n.Binary = binary
			must(t, n.Start(ctx))
			must(t, balancer.AwaitAll(ctx))
			must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		}
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		migrated(t, newNode(t, "migrator", b.later, url))
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		roll(one, b.later)    // old and new side by side
		roll(two, b.released) // the old one restarts on the new schema
		roll(two, b.later)
		roll(one, b.released) // and the way back is open
		roll(one, b.current)

		done := visits()
		storm.Stop()
		tally := storm.Tally()
		if err := storm.Violations(); err != nil || tally.Retries > 0 {
			t.Errorf("%d of %d refreshes failed: %v; want none", tally.Retries, tally.Retries+tally.Answers, err)
		}
		if tally.Answers == 0 || done == 0 {
			t.Errorf("%d refreshes and %d visits; want some of both", tally.Answers, done)
		}
		t.Logf("%d refreshes and %d visits, none failed", tally.Answers, done)
		audited(t, one)
	})
	t.Run("sqlite", func(t *testing.T) {
		// One node owns the file, so there is no rollout: but every session goes on
		// through the upgrade, the way back, and forward again.
		b, ctx := binaries(t), t.Context()
		n := newNode(t, "one", b.released, "")
		must(t, n.Start(ctx))
		storm := gather(t, 8, n.URL)
		must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		must(t, visitOnce(n.URL)) // the feed, which is to come, has to tell of the logout
		for _, binary := range []string{b.current, b.later, b.released, b.later} {
			must(t, n.Stop())
			n.Binary = binary
			must(t, n.Start(ctx))
			must(t, visitOnce(n.URL))
			must(t, storm.AwaitAnswers(ctx, time.Now(), time.Minute))
		}
		storm.Stop()
		if err := storm.Violations(); err != nil {
			t.Error(err)
		}
		must(t, n.Stop())
		audited(t, n)
	})
}

// migrated brings the schema up to the node's binary and checks that something
// was done.
func migrated(t *testing.T, n *rig.Node) {
	t.Helper()
	report := migrate(t, n)
	if len(report.Applied) < len(toCome["postgres"]) || len(report.Pending) > 0 {
		t.Fatalf("migrate applied %v and left %v; want all applied, and %d at least", report.Applied, report.Pending, len(toCome["postgres"]))
	}
	t.Logf("migrations applied under load: %v", report.Applied)
}

// migration is what `authserver migrate` prints.
type migration struct {
	Applied []string `json:"applied"`
	Pending []string `json:"pending"`
}

func migrate(t *testing.T, n *rig.Node, flags ...string) (m migration) {
	t.Helper()
	out, err := n.Run(t.Context(), append([]string{"migrate", "--json"}, flags...)...)
	must(t, err)
	must(t, json.Unmarshal(out, &m))
	return m
}

func audited(t *testing.T, n *rig.Node) {
	t.Helper()
	violations, text, err := n.Audit(context.WithoutCancel(t.Context()))
	if err != nil || violations > 0 {
		t.Errorf("audit sessions: %d violations, %v\n%s", violations, err, text)
	}
	lost, err := n.Run(context.WithoutCancel(t.Context()), "audit", "list", "--kind", "refresh.ahead_of_store", "--json")
	if err != nil || string(bytes.TrimSpace(lost)) != "[]" {
		t.Errorf("acknowledged rotations were lost: %v\n%s", err, lost)
	}
}

// visit has somebody log in, look at the account, refresh and log out, over and
// over, once each second, and ask for the key set. It returns a function that
// ends it and says how many visits there were. Whatever fails is an error of the
// test.
func visit(t *testing.T, url string) (end func() int) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	visits := 0
	done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if err := visitOnce(url); err != nil {
				t.Errorf("visit %d: %v", visits+1, err)
			}
			visits++
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	end = sync.OnceValue(func() int {
		close(stop)
		done.Wait()
		return visits
	})
	t.Cleanup(func() { end() })
	return end
}

func visitOnce(url string) error {
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := ask("GET", url+"/.well-known/jwks.json", "", nil, nil); err != nil {
		return err
	}
	// An account of the storm.
	who := map[string]string{"email": rig.Email(0), "password": rig.Password}
	if err := ask("POST", url+"/v1/login", "", who, &tokens); err != nil {
		return err
	}
	if err := ask("GET", url+"/v1/me", tokens.Access, nil, nil); err != nil {
		return err
	}
	if err := ask("POST", url+"/v1/refresh", "", map[string]string{"refresh_token": tokens.Refresh}, &tokens); err != nil {
		return err
	}
	return ask("POST", url+"/v1/logout", "", map[string]string{"refresh_token": tokens.Refresh}, nil)
}

// ask sends a request and wants a 2xx.
func ask(method, url, bearer string, body, into any) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, url, &text)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	client := http.Client{Timeout: 30 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		var said bytes.Buffer
		said.ReadFrom(answer.Body)
		return fmt.Errorf("%s %s: %s: %.300s", method, url, answer.Status, &said)
	}
	if into != nil {
		return json.NewDecoder(answer.Body).Decode(into)
	}
	return nil
}
