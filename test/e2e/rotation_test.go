package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/store/storetest"
)

// stubborn is the most stubborn verifier there is: it uses a fetched key set
// for exactly as long as max-age allows, and no unknown kid makes it ask
// sooner.
type stubborn struct {
	url     string
	maxAge  time.Duration
	mu      sync.Mutex
	fetched time.Time
	keys    map[string]crypto.PublicKey
	asked   int
}

func (s *stubborn) key(t *jwt.Token) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.fetched) >= s.maxAge {
		a, err := call("GET", s.url+"/.well-known/jwks.json", nil)
		if err != nil || a.Status != http.StatusOK {
			return nil, fmt.Errorf("fetch the key set: %v %v", a, err)
		}
		// From when the answer was asked for: no cache may count from later.
		s.keys, s.fetched, s.asked = ecKeys(a.Body), now, s.asked+1
	}
	kid, _ := t.Header["kid"].(string)
	if key, ok := s.keys[kid]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("kid %q is not in the set of %s ago", kid, time.Since(s.fetched).Round(time.Millisecond))
}

// ecKeys reads the ES256 keys of a set without any code of ours.
func ecKeys(body []byte) map[string]crypto.PublicKey {
	var set struct {
		Keys []struct{ Kid, Crv, X, Y string }
	}
	json.Unmarshal(body, &set)
	keys := map[string]crypto.PublicKey{}
	for _, k := range set.Keys {
		if k.Crv != "P-256" {
			continue
		}
		x, _ := base64.RawURLEncoding.DecodeString(k.X)
		y, _ := base64.RawURLEncoding.DecodeString(k.Y)
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y)); err == nil {
			keys[k.Kid] = key
		}
	}
	return keys
}

// Keys change every few seconds under a load of refreshes on two nodes. A
// verifier that caches for exactly max-age and never asks again on an unknown
// kid refuses nothing.
func TestKeys_rotateUnderLoadWithoutOneRefusal(t *testing.T) {
	t.Parallel()
	t.Run("postgres", rotateUnderLoad)
}

func rotateUnderLoad(t *testing.T) {
	settings := []string{
		"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "LOG_LEVEL=warn",
		"ISSUER=http://localhost:8080", "ACCESS_TTL=1m", "KEY_ROTATE_EVERY=5s", "KEY_LEAD=4s", "JWKS_MAX_AGE=1s",
	}
	nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
	want := storetest.Times(4, 20) // keys that take over while the load lasts

	var verifiers []*stubborn
	for n := range 6 {
		verifiers = append(verifiers, &stubborn{url: nodes[n%2].URL, maxAge: time.Second})
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer("http://localhost:8080"),
		jwt.WithAudience("http://localhost:8080"), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	var mu sync.Mutex
	signers := map[string]int{}
	var verified, refused atomic.Int64
	verify := func(text string) {
		for n, v := range verifiers {
			token, err := parser.Parse(text, v.key)
			if err != nil {
				refused.Add(1)
				t.Errorf("verifier %d: %v", n, err)
				return
			}
			verified.Add(1)
			mu.Lock()
			signers[fmt.Sprint(token.Header["kid"])]++
			mu.Unlock()
		}
	}
	signed := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(signers)
	}

	deadline := time.Now().Add(time.Duration(want)*10*time.Second + time.Minute)
	var clients sync.WaitGroup
	for c := range 4 {
		login := nodes[0].person(fmt.Sprintf("load%d@example.com", c))
		clients.Go(func() {
			refreshToken, held, since := login.Field("refresh_token"), login.Field("access_token"), time.Now()
			for n := c; signed() <= want && refused.Load() == 0 && time.Now().Before(deadline); n++ {
				<-time.After(50 * time.Millisecond) // other tests want the cores too
				a, err := call("POST", nodes[n%2].URL+"/v1/refresh", map[string]string{"refresh_token": refreshToken})
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("refresh: %v %v", a, err)
					return
				}
				refreshToken = a.Field("refresh_token")
				verify(a.Field("access_token"))         // fresh from the server
				if time.Since(since) > 15*time.Second { // and one that is some rotations old
					verify(held)
					held, since = a.Field("access_token"), time.Now()
				}
			}
		})
	}
	clients.Wait()
	if n := signed() - 1; n < want {
		t.Errorf("only %d rotations happened, want %d", n, want)
	}
	t.Logf("%d rotations, %d verifications by %d verifiers, %d refused", signed()-1, verified.Load(), len(verifiers), refused.Load())
}
