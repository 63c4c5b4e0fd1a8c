package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
)

// feedEntry is one line of the revocation feed, as a stranger reads it.
type feedEntry struct {
	Seq       int64  `json:"seq"`
	Kind      string `json:"kind"`
	ID        string `json:"id"`
	NotBefore int64  `json:"not_before"`
	Until     int64  `json:"until"`
}

type feedClaims struct {
	Iss     string      `json:"iss"`
	Iat     int64       `json:"iat"`
	Seq     int64       `json:"seq"`
	After   int64       `json:"after"`
	Entries []feedEntry `json:"entries"`
}

func hidden(kind, subject string) string {
	sum := sha256.Sum256([]byte(kind + ":" + subject))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// follow reads a node's stream until the test or the stream ends. The channel
// is closed then.
func (n *node) follow(ctx context.Context) <-chan feedClaims {
	n.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", n.URL+"/v1/revocations", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		n.t.Fatalf("the stream of %s: %s", n.URL, resp.Status)
	}
	statements := make(chan feedClaims, 1000)
	go func() {
		defer close(statements)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			jws, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var c feedClaims
			raw, err := base64.RawURLEncoding.DecodeString(strings.Split(jws, ".")[1])
			if err == nil {
				err = json.Unmarshal(raw, &c)
			}
			if err != nil {
				n.t.Errorf("event %q: %v", jws, err)
			}
			statements <- c
		}
	}()
	return statements
}

// await returns the first entry that fits.
func await(t *testing.T, from <-chan feedClaims, what string, fits func(feedEntry) bool) {
	t.Helper()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for {
		select {
		case c, open := <-from:
			if !open {
				t.Fatalf("the stream ended before it told of %s", what)
			}
			if slices.ContainsFunc(c.Entries, fits) {
				return
			}
		case <-patience.C:
			t.Fatalf("the stream does not tell of %s", what)
		}
	}
}

// What one node ends is told by the other one, within the two seconds that are
// promised.
func TestFeed_whatOneNodeEndsTheOtherTells(t *testing.T) {
	t.Parallel()
	const logouts = 100
	settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey}
	a := newNode(t, append([]string{"ISSUER=http://localhost:8080"}, settings...)...).start()
	b := newNode(t, append([]string{"ISSUER=http://localhost:8080"}, settings...)...).start()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := b.follow(ctx)
	if first := <-stream; first.After != 0 || first.Iss != "http://localhost:8080" {
		t.Fatalf("the first event: %+v", first)
	}
	a.person("ada@example.com")
	took := make([]time.Duration, 0, logouts)
	for range logouts {
		in := a.logIn("ada@example.com")
		begun := time.Now()
		a.must(http.StatusNoContent, "POST", "/v1/logout", map[string]string{"refresh_token": in.Field("refresh_token")})
		id := hidden("session", in.Field("session_id"))
		await(t, stream, "a logout", func(e feedEntry) bool { return e.Kind == "session" && e.ID == id })
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("from the request to end a session on one node until the event on the other, %d times: p50 %s, p99 %s, most %s",
		logouts, took[logouts/2].Round(time.Millisecond), took[logouts-2].Round(time.Millisecond), took[logouts-1].Round(time.Millisecond))
	if took[logouts/2] > 2*time.Second {
		t.Errorf("half of them take longer than %s", took[logouts/2])
	}

	// An operator's acts on the host reach the stream, too.
	kid := func() string {
		var set struct{ Keys []struct{ Kid, Alg string } }
		if err := json.Unmarshal(a.must(http.StatusOK, "GET", "/.well-known/jwks.json", nil).Body, &set); err != nil || len(set.Keys) == 0 {
			t.Fatalf("the key set: %v", err)
		}
		for _, k := range set.Keys {
			if k.Alg == "RS256" {
				return k.Kid
			}
		}
		t.Fatal("no RS256 key")
		return ""
	}()
	a.mustCLI("", "keys", "revoke", kid, "--yes")
	await(t, stream, "a revoked key", func(e feedEntry) bool { return e.Kind == "key" && e.ID == hidden("key", kid) })
	in := a.logIn("ada@example.com")
	a.mustCLI("", "users", "disable", "ada@example.com")
	sub := subjectOf(t, in.Field("access_token"))
	await(t, stream, "a ban", func(e feedEntry) bool { return e.Kind == "user" && e.ID == hidden("user", sub) })
	a.mustCLI("", "sessions", "revoke", "--issued-before", "now", "--yes")
	await(t, stream, "a floor", func(e feedEntry) bool { return e.Kind == "all" && e.ID == hidden("all", "http://localhost:8080") })

	if code := b.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for range stream { // ends: the server let go of it
	}
}

func subjectOf(t *testing.T, token string) string {
	t.Helper()
	var c struct {
		Sub string `json:"sub"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil || c.Sub == "" {
		t.Fatalf("token %q: %v", token, err)
	}
	return c.Sub
}

// The two seconds of a ban: who was let back in within them gets tokens that
// the feed lets pass.
func TestFeed_whoIsLetBackInGetsTokensThatPass(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, settings...).start()
		n.person("ada@example.com")
		for bans := 1; bans <= 3; bans++ {
			n.mustCLI("", "users", "disable", "ada@example.com")
			n.mustCLI("", "users", "enable", "ada@example.com")
			in := n.logIn("ada@example.com")
			raw, err := base64.RawURLEncoding.DecodeString(strings.Split(in.Field("access_token"), ".")[1])
			if err != nil {
				t.Fatal(err)
			}
			var token struct {
				Sub, Sid string
				Iat      int64
			}
			if err := json.Unmarshal(raw, &token); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			told := map[int64]int64{} // not_before by number
			await(t, n.follow(ctx), fmt.Sprintf("ban %d of %s", bans, token.Sub), func(e feedEntry) bool {
				if e.Kind == "user" && e.ID == hidden("user", token.Sub) {
					told[e.Seq] = e.NotBefore
				}
				return len(told) == bans
			})
			for _, notBefore := range told {
				if token.Iat < notBefore {
					t.Errorf("a token of %d, refused before %d", token.Iat, notBefore)
				}
			}
			cancel()
		}
	})
}
