package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/verify"
)

// following is one API in front of which package verify stands, with the
// server's key set and feed.
type following struct {
	*verify.Verifier
	feed *verify.Feed
}

// followers returns APIs that follow the feeds of nodes, in turn, and waits
// until each has read it.
func followers(t *testing.T, nodes []*node, n int) []following {
	t.Helper()
	var all []following
	for i := range n {
		at := nodes[i%len(nodes)].URL
		keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: at + "/.well-known/jwks.json", Service: fmt.Sprint("api", i)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keys.Close() })
		feed, err := verify.FollowRevocations(verify.FeedConfig{Issuer: issuerOfAll, URL: at + "/v1/revocations", Keys: keys, WhenLost: verify.Refuse})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { feed.Close() })
		v, err := verify.New(verify.Config{Issuer: issuerOfAll, Audience: issuerOfAll, Keys: keys, Revocations: feed})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, following{v, feed})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, f := range all {
		if err := f.feed.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

const issuerOfAll = "http://localhost:8080"

// refusedBy waits until every follower refuses a token with want, and returns
// how long each took from begun.
func refusedBy(t *testing.T, all []following, token string, begun time.Time, want error) []time.Duration {
	t.Helper()
	took := make([]time.Duration, len(all))
	var waiting sync.WaitGroup
	for i, f := range all {
		waiting.Go(func() {
			for deadline := begun.Add(time.Minute); time.Now().Before(deadline); {
				_, err := f.Verify(t.Context(), token)
				if errors.Is(err, want) {
					took[i] = time.Since(begun)
					return
				}
				if err != nil {
					t.Errorf("follower %d: %v, want nil until %v", i, err, want)
					return
				}
				<-time.After(2 * time.Millisecond) // the sampling interval of what is measured
			}
			t.Errorf("follower %d believes the token a minute later", i)
		})
	}
	waiting.Wait()
	return took
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)].Round(time.Millisecond)
}

// What ends at one node is refused, within two seconds, by ten APIs that
// verify locally: sessions that were logged out, a person who was banned, and
// everything a revoked key signed.
func TestRevoked_tenVerifiersRefuseWithinTwoSeconds(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "ISSUER=" + issuerOfAll}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		all := followers(t, nodes, 10)
		good := func(token, when string) {
			t.Helper()
			believed(t, all, token, when)
		}

		nodes[0].person("ada@example.com")
		stays := nodes[1].logIn("ada@example.com").Field("access_token")
		var logouts, bans, revoked []time.Duration // until the last of all has refused
		last := func(token string, begun time.Time) time.Duration {
			return slices.Max(refusedBy(t, all, token, begun, verify.ErrRevoked))
		}
		for range storetest.Times(10, 50) {
			in := nodes[0].logIn("ada@example.com")
			good(in.Field("access_token"), "before the logout")
			begun := time.Now()
			nodes[0].must(http.StatusNoContent, "POST", "/v1/logout", map[string]string{"refresh_token": in.Field("refresh_token")})
			logouts = append(logouts, last(in.Field("access_token"), begun))
		}
		good(stays, "of another session")

		nodes[1].person("eve@example.com")
		for range 3 {
			banned := nodes[1].logIn("eve@example.com").Field("access_token")
			good(banned, "before the ban")
			nodes[0].mustCLI("", "users", "disable", "eve@example.com")
			bans = append(bans, last(banned, time.Now()))
			good(stays, "of somebody else")
			nodes[0].mustCLI("", "users", "enable", "eve@example.com")
			good(nodes[1].logIn("eve@example.com").Field("access_token"), "after the pardon")
		}

		// The key that signs goes. Whoever holds a token of it refreshes, and
		// every API takes the new one though it has just fetched the key set.
		for range 3 {
			kid := activeKey(t, nodes[0])
			session := nodes[0].logIn("ada@example.com")
			nodes[0].mustCLI("", "keys", "revoke", kid, "--yes")
			revoked = append(revoked, last(session.Field("access_token"), time.Now()))
			fresh := awaitOtherKey(t, nodes[1], session.Field("refresh_token"), kid)
			good(fresh, "of the successor")
		}

		for what, took := range map[string][]time.Duration{"logout": logouts, "ban": bans, "revoked key": revoked} {
			slow := 0
			for _, d := range took {
				if d >= 2*time.Second {
					slow++
				}
			}
			// A machine that stands still for seconds is late with one, or with what it was at.
			if most := max(1, len(took)/50); slow > most {
				t.Errorf("%s: %d of %d were refused 2s later or more, want %d at most: %s", what, slow, len(took), most, took)
			}
			t.Logf("%s, %d times, until all of %d followers refused: p50 %s, p99 %s", what, len(took), len(all), percentile(took, 50), percentile(took, 99))
		}
		audit(t, nodes[0])
	})
}

// activeKey returns the kid that signs by default.
func activeKey(t *testing.T, n *node) string {
	t.Helper()
	var status struct {
		Keys []struct{ KID, Algorithm, State string }
	}
	if err := json.Unmarshal([]byte(n.mustCLI("", "keys", "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	for _, k := range status.Keys {
		if k.Algorithm == "ES256" && k.State == "active" {
			return k.KID
		}
	}
	t.Fatalf("no key signs: %+v", status)
	return ""
}

// awaitOtherKey refreshes until the answer is signed by another key.
func awaitOtherKey(t *testing.T, n *node, refreshToken, kid string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		a := n.must(http.StatusOK, "POST", "/v1/refresh", map[string]string{"refresh_token": refreshToken})
		refreshToken = a.Field("refresh_token")
		if token := a.Field("access_token"); headerOf(t, token)["kid"] != kid {
			return token
		}
	}
	t.Fatalf("key %s signs a minute after it was revoked", kid)
	return ""
}

func headerOf(t *testing.T, token string) map[string]string {
	t.Helper()
	header := map[string]string{}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err == nil {
		err = json.Unmarshal(raw, &header)
	}
	if err != nil {
		t.Fatalf("token %q: %v", token, err)
	}
	return header
}
