package interop

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/obs"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/internal/token"
)

// What every verifier here is told to expect.
const (
	issuerURL = "https://auth.example.com"
	audience  = "https://api.example.com"
)

// issuer is the server's own key ring, minter and public listener over a real
// SQLite store, with a clock that stands until it is moved. Its ring is tended
// by keys.Ring.Run, as in production: nothing here decides when a key comes,
// signs or goes.
type issuer struct {
	t         testing.TB
	clock     *storetest.Clock
	ring      *keys.Ring
	custodian *keys.Custodian
	public    http.Handler
	user      id.User
	session   id.Session
	reads     *reads
}

func openIssuer(t testing.TB, algorithms ...keys.Algorithm) *issuer {
	t.Helper()
	i := &issuer{t: t, clock: storetest.NewClock(), user: id.NewUser(), session: id.NewSession(), reads: newReads()}
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "authserver.db"), Server: true, Now: i.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	masters := keys.MasterKeys{Current: secret.Random(32)}
	if _, err := db.Founding().Found(t.Context(), store.Facts{Issuer: issuerURL, MasterID: keys.IDOf(masters.Current)}); err != nil {
		t.Fatal(err)
	}
	policy := keys.DefaultPolicy()
	if len(algorithms) > 0 {
		policy.Algorithms = algorithms
	}
	log := obs.NewLogger(io.Discard, slog.LevelInfo, obs.JSON)
	metrics := obs.New(obs.Build{Version: "interop"}, log)
	i.ring = keys.NewRing(db.Keys(), masters, policy, i.clock.Now, i.reads)
	i.custodian = keys.NewCustodian(db.Keys(), masters, policy, i.clock.Now)
	if err := i.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	feed := revocation.NewFeed(db.Revocations(), i.ring, revocation.DefaultPolicy(issuerURL), i.ring.Now, metrics)
	server, err := httpd.New(httpd.Config{
		Issuer: issuerURL, Audience: []string{issuerURL}, Client: "first-party",
		Refresh: func(string) refresh.Policy { return refresh.Policy{} },
	}, httpd.Rooms{
		Ring: i.ring, Feed: feed, Accounts: db.Accounts(), Sessions: db.Sessions(), Audit: db.Audit(),
		Vault: admin.Vault{Custodian: i.custodian, Verifiers: db.Verifiers(), Sessions: db.Sessions(), Policy: policy},
		Ping:  db.Ping, Metrics: metrics.Handler(), Observer: metrics, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	i.public = server.Public()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.ring.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return i
}

// reads hears of every read of the ring.
type reads struct {
	mu     sync.Mutex
	begun  int
	err    error
	heard  chan struct{}
	change error
}

func newReads() *reads { return &reads{heard: make(chan struct{})} }

// RingRead implements keys.Observer.
func (r *reads) RingRead(_, _ time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.err = r.begun+1, err
	close(r.heard)
	r.heard = make(chan struct{})
}

// RingChanged implements keys.Observer.
func (r *reads) RingChanged(_ []keys.Step, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.change = err
	}
}

func (r *reads) state() (n int, heard <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.begun, r.heard, r.err
	}
	return r.begun, r.heard, r.change
}

// moveTo sets the clock and returns when the node has read its ring and done
// what the plan asks for at that time. Four reads are enough: the second begins
// after the clock has moved and may publish a key, which is read back before
// the fourth.
func (i *issuer) moveTo(t time.Time) {
	i.t.Helper()
	i.clock.Advance(t.Sub(i.clock.Now()))
	first, _, _ := i.reads.state()
	for {
		i.ring.Hint()
		n, heard, err := i.reads.state()
		if err != nil {
			i.t.Fatal(err)
		}
		if n >= first+4 {
			return
		}
		select {
		case <-heard:
		case <-time.After(30 * time.Second):
			i.t.Fatal("the ring was not read for 30 s")
		}
	}
}

// grant is an access token for the audience that the verifiers stand for.
func (i *issuer) grant(audiences ...string) token.Grant {
	return token.Grant{
		User: i.user, Session: i.session, Client: "first-party", Scope: "account",
		Audience: audiences, AuthTime: i.clock.Now(), AMR: []string{"pwd"},
	}
}

// mint is token.Minter with an issuer, an audience and a life to choose; the
// token begins at the clock's time plus shift.
func (i *issuer) mint(iss, aud string, shift, ttl time.Duration) string {
	i.t.Helper()
	minter := token.NewMinter(i.ring, token.Policy{Issuer: iss, TTL: ttl, MaxBytes: 16 << 10})
	minted, err := minter.Mint(i.grant(aud), i.clock.Now().Add(shift))
	if err != nil {
		i.t.Fatal(err)
	}
	return minted.Token.Reveal()
}

func (i *issuer) good() string { return i.mint(issuerURL, audience, 0, ttl) }

// ttl is the default life of access tokens.
const ttl = 10 * time.Minute

// keySet is one answer of GET /.well-known/jwks.json.
type keySet struct {
	header http.Header
	body   []byte
}

func (i *issuer) keySet() keySet {
	i.t.Helper()
	w := httptest.NewRecorder()
	i.public.ServeHTTP(w, httptest.NewRequestWithContext(i.t.Context(), http.MethodGet, "/.well-known/jwks.json", nil))
	if w.Code != http.StatusOK {
		i.t.Fatalf("the key set: %d %s", w.Code, w.Body)
	}
	return keySet{w.Header(), w.Body.Bytes()}
}

// jwk is a public key as the set shows it.
type jwk struct {
	KTY string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	KID string `json:"kid"`
	CRV string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	Pub string `json:"pub,omitempty"`
}

func (s keySet) keys(t testing.TB) []jwk {
	t.Helper()
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(s.body, &set); err != nil {
		t.Fatalf("key set %s: %v", s.body, err)
	}
	return set.Keys
}

// export is what `authserver keys export KID --format pem` prints, for each key
// of one algorithm in the set.
func (i *issuer) export(alg keys.Algorithm, format keys.Format) map[string][]byte {
	i.t.Helper()
	out := map[string][]byte{}
	for _, k := range i.keySet().keys(i.t) {
		if k.Alg != string(alg) {
			continue
		}
		text, err := i.custodian.Export(i.t.Context(), k.KID, format)
		if err != nil {
			i.t.Fatal(err)
		}
		out[k.KID] = text
	}
	return out
}
