// Package knownfailures replays what went wrong elsewhere: for every row of the
// field's known failures that concerns what this server does there is a test
// named after it (rows_test.go has the list), beside the attacks that every
// verifier and token endpoint has to expect.
//
// Servers run inside the test's process, put together by internal/app as the
// real one is, on both engines.
package knownfailures

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/obs"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

// node is one server.
type node struct {
	URL, Ops string
	in       *app.Installation
	log      *rig.Journal
	stop     func() // ends it as SIGTERM would
}

// house is a database with the servers on it.
type house struct {
	t        testing.TB
	settings []string
	postgres string // URL of the database; empty on SQLite
	nodes    []*node
	ring     *keys.Ring // the same keys, for forging with the real ones
}

const (
	masterKey    = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	goodPassword = "correct horse battery staple"
	issuer       = config.DefaultIssuer
)

// onEach runs a story on both engines, each on a server of its own. settings
// are as in the environment, without their prefix.
func onEach(t *testing.T, story func(t *testing.T, h *house), settings ...string) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		story(t, onSQLite(t, settings...))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		story(t, onPostgres(t, 1, settings...))
	})
}

func onSQLite(t testing.TB, settings ...string) *house {
	t.Helper()
	h := &house{t: t, settings: append([]string{"DATA_DIR=" + t.TempDir()}, settings...)}
	return h.open(1)
}

func onPostgres(t testing.TB, nodes int, settings ...string) *house {
	t.Helper()
	h := &house{t: t, postgres: storetest.Postgres(t)}
	h.settings = append([]string{"DATA_DIR=" + t.TempDir(), "DATABASE_URL=" + h.postgres, "DATABASE_CONNS=8"}, settings...)
	return h.open(nodes)
}

func (h *house) open(nodes int) *house {
	h.t.Helper()
	for range nodes {
		h.start()
	}
	in := h.nodes[0].in
	h.ring = keys.NewRing(in.Engine.Keys(), in.Masters, in.Config.Keys(), time.Now, obs.New(obs.Build{}, slog.New(slog.DiscardHandler)))
	if err := h.ring.Start(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.ring.Run(ctx) }() // stays fresh enough to sign with
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
	h.await(h.ring.Ready)
	return h
}

// configuration reads settings the way the server does.
func configuration(t testing.TB, settings []string) *config.Config {
	t.Helper()
	environ := []string{"AUTHSERVER_MASTER_KEY=" + masterKey, "AUTHSERVER_DRAIN_DELAY=0s", "AUTHSERVER_KEY_ALGORITHMS=ES256"} // no RSA: making one takes long
	for _, s := range settings {
		environ = append(environ, config.EnvPrefix+s)
	}
	sources, err := config.ReadSources("", environ, config.Flags())
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ config.Config }
	parser, err := kong.New(&c, kong.Resolvers(sources), kong.ExplicitGroups([]kong.Group{{Key: "settings"}}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(nil); err != nil {
		t.Fatal(err)
	}
	if problems := c.Check(); len(problems) > 0 {
		t.Fatal(problems)
	}
	return &c.Config
}

// start runs one more server on the database.
func (h *house) start() *node {
	t := h.t
	t.Helper()
	c := configuration(t, h.settings)
	// Not the test's context: what runs until the cleanup must not end before it.
	ctx, cancel := context.WithCancel(context.Background())
	in, err := app.Open(ctx, c, app.ToServe)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	n := &node{in: in, log: &rig.Journal{}}
	server, err := app.New(ctx, in, obs.NewLogger(n.log, slog.LevelInfo, obs.JSON))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	public, operations := listen(t), listen(t)
	n.URL, n.Ops = "http://"+public.Addr().String(), "http://"+operations.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, public, operations) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		in.Engine.Close()
	})
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", n.URL, n.log.Tail(20))
		}
	})
	h.nodes = append(h.nodes, n)
	h.await(func() error {
		a, err := (&node{URL: n.Ops}).try(t.Context(), "GET", "/readyz", nil)
		if err == nil && a.Status != http.StatusOK {
			err = errors.New(a.String())
		}
		return err
	})
	return n
}

// await returns when ready does not fail any more: a node's first keys are
// active by the store's clock, of which the node knows half a round trip too
// little.
func (h *house) await(ready func() error) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := ready()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answer is an HTTP answer, read whole.
type answer = rig.Answer

var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 256},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// call sends a request to a node; body is nil, text, or a value for JSON.
// header is a list of names and values.
func (h *house) call(n *node, method, path string, body any, header ...string) answer {
	h.t.Helper()
	a, err := n.try(h.t.Context(), method, path, body, header...)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (n *node) try(ctx context.Context, method, path string, body any, header ...string) (answer, error) {
	return rig.Ask(ctx, client, method, n.URL+path, body, header...)
}

// first is call to the first node.
func (h *house) first(method, path string, body any, header ...string) answer {
	h.t.Helper()
	return h.call(h.nodes[0], method, path, body, header...)
}

type fields map[string]any

// goodHash is the hash of goodPassword, made once: it is slow on purpose.
var goodHash = sync.OnceValues(func() (password.Hash, error) {
	hasher, err := password.New(password.DefaultPolicy(), nil)
	if err != nil {
		return password.Hash{}, err
	}
	return hasher.Hash(context.Background(), secret.NewText(goodPassword))
})

var people atomic.Int64

// register makes an account with goodPassword and returns its address.
func (h *house) register() (email string, uid id.User) {
	h.t.Helper()
	hash, err := goodHash()
	if err != nil {
		h.t.Fatal(err)
	}
	email = fmt.Sprintf("person%d@example.com", people.Add(1))
	address, err := account.ParseEmail(email)
	if err != nil {
		h.t.Fatal(err)
	}
	u, err := h.nodes[0].in.Engine.Accounts().Create(h.t.Context(), account.NewUser{
		ID: id.NewUser(), Email: address, Hash: hash.Encoded, Scheme: hash.Scheme.String(), Actor: "operator:test",
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return email, u.ID
}

func (h *house) logIn(email string, header ...string) answer {
	h.t.Helper()
	a := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword}, header...)
	if a.Status != http.StatusOK {
		h.t.Fatalf("log in: %s", a)
	}
	return a
}

// person registers and logs in somebody.
func (h *house) person() answer {
	h.t.Helper()
	email, _ := h.register()
	return h.logIn(email)
}

// logInCookie logs in with cookie transport and returns the cookie, too.
func (h *house) logInCookie(email string, header ...string) (answer, string) {
	h.t.Helper()
	a := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword, "transport": "cookie"}, header...)
	set := (&http.Response{Header: a.Header}).Cookies()
	if a.Status != http.StatusOK || len(set) != 1 {
		h.t.Fatalf("log in with a cookie: %s, %d cookies", a, len(set))
	}
	return a, set[0].Name + "=" + set[0].Value
}

// refresh presents a token.
//
// A node that has not run for seconds, on a busy machine, calls nobody a thief yet and
// says 503: so it is asked again.
func (h *house) refresh(n *node, token string, header ...string) answer {
	h.t.Helper()
	a, _ := rig.Patiently(5*time.Second, func() (answer, error) {
		return h.call(n, "POST", "/v1/refresh", fields{"refresh_token": token}, header...), nil
	})
	return a
}

// rotate refreshes and wants a successor.
func (h *house) rotate(n *node, token string) answer {
	h.t.Helper()
	a := h.refresh(n, token)
	if a.Status != http.StatusOK || a.Field("refresh_token") == token {
		h.t.Fatalf("refresh: %s", a)
	}
	return a
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// me asks who the bearer of an access token is.
func (h *house) me(access string) answer {
	h.t.Helper()
	return h.first("GET", "/v1/me", nil, bearer(access)...)
}

// audit re-reads the whole database and wants no broken invariant.
func (h *house) audit() {
	h.t.Helper()
	for _, n := range h.nodes[:1] {
		violations, err := n.in.Engine.AuditSessions(h.t.Context())
		if err != nil || len(violations) > 0 {
			h.t.Errorf("the audit of the sessions: %v, %v", violations, err)
		}
	}
}

// signing is the server's own signing key.
type signing struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

func (h *house) signing() signing {
	h.t.Helper()
	kid, method, key, err := h.ring.Signer("")
	if err != nil {
		h.t.Fatal(err)
	}
	return signing{kid, method, key}
}

// token is the header and the claims of a genuine token, to be forged from.
type token struct{ header, claims map[string]any }

func open(t testing.TB, access string) token {
	t.Helper()
	var out token
	parts := strings.Split(access, ".")
	for i, to := range []*map[string]any{&out.header, &out.claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// sign signs the token with changes; nil takes a member away.
func (s signing) sign(t testing.TB, from token, header, claims map[string]any) string {
	t.Helper()
	signed := b64(toJSON(t, changed(from.header, header))) + "." + b64(toJSON(t, changed(from.claims, claims)))
	sig, err := s.method.Sign(signed, s.key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(sig)
}

func changed(m, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// born opens a session of a client without a login, which would be slow, and
// returns its refresh token.
func (h *house) born(uid id.User, client string) string {
	h.t.Helper()
	session := id.NewSession()
	family, text, err := refresh.Bear(h.ring, refresh.Birth{
		Session: session, User: uid, Client: client, Scope: "account", Audience: []string{issuer}, AMR: []string{"pwd"},
		Transport: refresh.InBody, Rotates: true, IdleTTL: 720 * time.Hour,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.nodes[0].in.Engine.Logins().Open(h.t.Context(), login.Opening{
		Session: session, Kind: "browser", AbsoluteTTL: 2160 * time.Hour, Family: family, CredentialVersion: 1, Actor: "operator:test",
	}); err != nil {
		h.t.Fatal(err)
	}
	return text.Reveal()
}
