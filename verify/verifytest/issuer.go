// Package verifytest is an auth server for the tests of services that verify
// access tokens with package verify. It lives in the test's own process and
// signs, rotates, revokes and fails when it is told to.
//
//	auth := verifytest.NewIssuer(t)
//	v := auth.Verifier("https://orders.example.com")
//	token := auth.Mint(verifytest.Token{Audience: "https://orders.example.com", Scope: "orders:read"})
//	auth.RevokeUser("ada")
//	_, err := v.Verify(ctx, token) // verify.ErrRevoked
//
// It owns a key set and a revocation feed over real HTTP, in the form in which
// authserver serves them, and tokens of any kind, good and bad. It has no
// users, no sessions and no opinion: whatever a test names exists.
package verifytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	jwksPath = "/.well-known/jwks.json"
	feedPath = "/v1/revocations"

	// ahead is how many keys are published that do not sign yet. A real server
	// has one and waits a day; a test wants to rotate a few times in a second.
	ahead = 4
)

// Issuer is an auth server. Its methods may be called at any time from any
// goroutine, but that of the test has to outlive them.
type Issuer struct {
	t      testing.TB
	url    string
	client *http.Client
	closed chan struct{}

	mu        sync.Mutex
	keys      []*key // the active one first, then the successors in order
	retired   []*key // still published
	fault     Fault
	feedFault Fault
	delay     time.Duration
	cut       chan struct{} // closed when a fault begins: it breaks streams
	feed      feed
	followers []*follower
	requests  []*http.Request
}

// key is an ES256 key. Its name is its thumbprint (RFC 7638), as the server's.
type key struct {
	id      string
	private *ecdsa.PrivateKey
	jwk     map[string]string
}

// NewIssuer starts an issuer on a free port of 127.0.0.1, until the test ends.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := newIssuer(t)
	server := httptest.NewServer(i)
	i.url, i.client = server.URL, server.Client()
	t.Cleanup(func() {
		close(i.closed)
		server.Close()
	})
	return i
}

// NewInProcess makes an issuer that is reached through Client alone, without
// sockets: for tests under testing/synctest, whose clock sockets would stop.
func NewInProcess(t testing.TB) *Issuer {
	t.Helper()
	i := newIssuer(t)
	i.url, i.client = "https://auth.example.com", &http.Client{Transport: transport{i}}
	t.Cleanup(func() { close(i.closed) })
	return i
}

func newIssuer(t testing.TB) *Issuer {
	i := &Issuer{t: t, closed: make(chan struct{}), cut: make(chan struct{}), feed: newFeed()}
	for range 1 + ahead {
		i.keys = append(i.keys, newKey(t))
	}
	return i
}

// URL is the issuer: the `iss` of its tokens and where it is served.
func (i *Issuer) URL() string { return i.url }

// KeysURL is where the key set is.
func (i *Issuer) KeysURL() string { return i.url + jwksPath }

// FeedURL is where the revocation feed is.
func (i *Issuer) FeedURL() string { return i.url + feedPath }

// Client reaches the issuer.
func (i *Issuer) Client() *http.Client { return i.client }

// KeyID is the name of the key that signs.
func (i *Issuer) KeyID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0].id
}

// Rotate lets the next key sign and returns its name. The key was published
// before, so verifiers hold it already, and the previous one stays published.
// From the fifth rotation in a row on, verifiers have to fetch first, which
// they do not do twice in 30 seconds.
func (i *Issuer) Rotate() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.retired = append(i.retired, i.keys[0])
	i.advance()
	return i.keys[0].id
}

func (i *Issuer) advance() { i.keys = append(i.keys[1:], newKey(i.t)) }

// Requests are those that arrived so far, oldest first, without bodies.
func (i *Issuer) Requests() []*http.Request {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.requests)
}

// ServeHTTP serves the key set and the feed, as far as the Fault lets it.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.requests = append(i.requests, r.Clone(r.Context()))
	fault, delay := i.fault, i.delay
	if r.URL.Path == feedPath && i.feedFault != None {
		fault = i.feedFault
	}
	i.mu.Unlock()
	if delay > 0 && !wait(r, time.After(delay)) {
		return
	}
	switch {
	case fault == Unreachable:
		panic(http.ErrAbortHandler)
	case fault == Silent:
		wait(r, i.closed)
	case fault == Status500:
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == jwksPath:
		i.serveKeys(w, r, fault)
	case r.URL.Path == feedPath:
		i.serveFeed(w, r, fault)
	default:
		http.NotFound(w, r)
	}
}

// wait says whether ready came before the client went away.
func wait[T any](r *http.Request, ready <-chan T) bool {
	select {
	case <-ready:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (i *Issuer) serveKeys(w http.ResponseWriter, r *http.Request, fault Fault) {
	set := struct {
		Keys []map[string]string `json:"keys"`
	}{Keys: []map[string]string{}}
	i.mu.Lock()
	if fault != EmptySet {
		for _, k := range slices.Concat(i.keys, i.retired) {
			set.Keys = append(set.Keys, k.jwk)
		}
	}
	i.mu.Unlock()
	body := marshal(set)
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=600")
	answer(w, r, body, `"`+hash(body)+`"`)
}

// answer writes body, or 304 to who has it.
func answer(w http.ResponseWriter, r *http.Request, body []byte, etag string) {
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body)
}

func newKey(t testing.TB) *key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := b64(point[1:33]), b64(point[33:])
	thumbprint := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y))
	id := b64(thumbprint[:])
	return &key{id, private, map[string]string{
		"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "alg": "ES256", "use": "sig",
	}}
}

func (k *key) sign(signed string) []byte {
	signature, err := jwt.SigningMethodES256.Sign(signed, k.private)
	if err != nil {
		panic(err) // the key is ours and fits
	}
	return signature
}

// jws is a compact JWS.
func (k *key) jws(header map[string]any, payload any) string {
	signed := b64(marshal(header)) + "." + b64(marshal(payload))
	return signed + "." + b64(k.sign(signed))
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("verifytest: %v", err)) // a test put it into Claims or Header
	}
	return b
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return b64(sum[:16])
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
