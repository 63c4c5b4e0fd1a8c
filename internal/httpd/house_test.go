package httpd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/httpd/contracttest"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/obs"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/internal/token"
)

// house is a whole server over a real database, with a clock that stands until
// a test moves it. Every exchange is held against openapi.yaml.
type house struct {
	t       testing.TB
	clock   *storetest.Clock
	engine  store.Engine
	ring    *keys.Ring
	feed    *revocation.Feed
	server  *httpd.Server
	roll    *keys.Roll
	metrics *obs.Metrics
	log     *journal
	issuer  string
	config  httpd.Config
	rooms   httpd.Rooms
	masters keys.MasterKeys
	policy  keys.Policy
	url     string // of the public listener
	ops     string // of the operations listener
	client  *http.Client
}

// plan is what a test wants to be different.
type plan struct {
	httpd        func(*httpd.Config)
	registration bool
	access, idle time.Duration
	algorithms   []keys.Algorithm
	masters      keys.MasterKeys
	statusLists  bool
}

// statusIndex is where sessions get their place in the status lists; nil when
// there are none.
func (p *plan) statusIndex(e store.Engine) func(context.Context) (int64, error) {
	if !p.statusLists {
		return nil
	}
	return revocation.NewIndexes(e.Revocations()).Take
}

type option func(*plan)

func with(change func(*httpd.Config)) option {
	return func(p *plan) {
		before := p.httpd
		p.httpd = func(c *httpd.Config) { before(c); change(c) }
	}
}

const (
	issuer     = "https://auth.example.com"
	sessionTTL = 2160 * time.Hour
	goodWord   = "a horse that is correct"
)

// onEach runs a test on every engine.
func onEach(t *testing.T, test func(t *testing.T, h *house), options ...option) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		clock := storetest.NewClock()
		test(t, build(t, clock, openSQLite(t, clock), options...))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		clock := storetest.NewClock()
		test(t, build(t, clock, openPostgres(t, clock), options...))
	})
}

// onOne runs a test that does not depend on the engine.
func onOne(t *testing.T, options ...option) *house {
	t.Helper()
	t.Parallel()
	clock := storetest.NewClock()
	return build(t, clock, openSQLite(t, clock), options...)
}

func openSQLite(t testing.TB, clock *storetest.Clock) store.Engine {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "authserver.db"), Server: true, Now: clock.Now})
	return migrated(t, db, err)
}

func openPostgres(t testing.TB, clock *storetest.Clock) store.Engine {
	t.Helper()
	url := storetest.PostgresLike(t, "httpd", func(url string) error {
		db, err := postgres.Open(context.Background(), postgres.Options{URL: secret.NewText(url), MaxConns: 8})
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.Migrate(context.Background())
		return err
	})
	db, err := postgres.Open(t.Context(), postgres.Options{URL: secret.NewText(url), MaxConns: 8, Now: clock.Now})
	return migrated(t, db, err)
}

func migrated(t testing.TB, db store.Engine, err error) store.Engine {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func build(t testing.TB, clock *storetest.Clock, engine store.Engine, options ...option) *house {
	t.Helper()
	p := plan{
		httpd: func(*httpd.Config) {}, registration: true, access: 10 * time.Minute, idle: 720 * time.Hour,
		algorithms: []keys.Algorithm{keys.ES256}, masters: keys.MasterKeys{Current: secret.Random(32)},
	}
	for _, o := range options {
		o(&p)
	}
	policy := func(string) refresh.Policy { return refresh.Policy{IdleTTL: p.idle, RetryWindow: 90 * time.Second} }
	c := httpd.Config{
		Issuer: issuer, Audience: []string{issuer}, Client: "first-party", FirstPartyAPI: true,
		AllowedOrigins: []string{"https://app.example.com"}, Refresh: policy,
		RetryJitter: 4 * time.Second,
	}
	p.httpd(&c)

	h := &house{t: t, clock: clock, engine: engine, log: newJournal(), issuer: c.Issuer}
	log := obs.NewLogger(h.log, slog.LevelDebug, obs.JSON)
	h.metrics = obs.New(obs.Build{Version: "test"}, log)
	if _, err := engine.Founding().Found(t.Context(), store.Facts{Issuer: c.Issuer, MasterID: keys.IDOf(p.masters.Current)}); err != nil {
		t.Fatal(err)
	}
	keyPolicy := keys.DefaultPolicy()
	keyPolicy.Algorithms, keyPolicy.TokenLife = p.algorithms, p.access
	h.masters, h.policy = p.masters, keyPolicy
	h.ring = keys.NewRing(engine.Keys(), p.masters, keyPolicy, clock.Now, h.metrics)
	if err := h.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	hasher, err := password.New(password.DefaultPolicy(), h.metrics)
	if err != nil {
		t.Fatal(err)
	}
	rules := password.DefaultRules()
	h.metrics.WatchPool(engine.Pool)
	h.metrics.WatchHashing(hasher.Inside, hasher.Waiting)
	h.metrics.WatchKeys(h.ring.Status)
	h.roll = keys.NewRoll(h.ring, engine.Verifiers())
	h.config = c
	feedPolicy := revocation.DefaultPolicy(c.Issuer)
	feedPolicy.StatusLists = p.statusLists
	h.feed = revocation.NewFeed(engine.Revocations(), h.ring, feedPolicy, h.ring.Now, h.metrics)
	if err := h.feed.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.metrics.WatchFeed(h.feed.Status)
	h.rooms = httpd.Rooms{
		Ring:     h.ring,
		Registry: account.NewRegistry(engine.Accounts(), engine.Ledger(), hasher, rules, account.Policy{RegistrationOpen: p.registration}),
		Desk: login.NewDesk(engine.Logins(), engine.Accounts(), engine.Sessions(), engine.Ledger(), hasher, rules, h.ring, login.Policy{
			Client: c.Client, Scope: "account", Audience: c.Audience, AdminAudience: c.Issuer + "/admin",
			IdleTTL: p.idle, SessionTTL: sessionTTL, RememberTTL: 4 * sessionTTL, StatusIndex: p.statusIndex(engine),
		}, h.metrics),
		Rotator:  refresh.NewRotator(engine.Families(), h.ring, policy, h.ring, h.metrics),
		Minter:   token.NewMinter(h.ring, token.Policy{Issuer: c.Issuer, TTL: p.access, MaxBytes: 4096, StatusLists: p.statusLists}),
		Sessions: engine.Sessions(), Feed: h.feed, Roll: h.roll,
		Accounts: engine.Accounts(), Audit: engine.Audit(), Vault: admin.Vault{
			Custodian: keys.NewCustodian(engine.Keys(), p.masters, keyPolicy, clock.Now), Verifiers: engine.Verifiers(),
			Sessions: engine.Sessions(), Policy: keyPolicy, Refresh: policy(""),
		},
		Ping: engine.Ping, Metrics: h.metrics.Handler(), Observer: h.metrics, Log: log,
	}
	public := h.serve(h.rooms)
	ops := httptest.NewServer(h.server.Operations(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8081}))
	t.Cleanup(ops.Close)
	h.ops = ops.URL
	h.client = h.checked(public.Client())
	return h
}

// serve puts a public listener of these rooms in place of what there was.
func (h *house) serve(rooms httpd.Rooms) *httptest.Server {
	h.t.Helper()
	server, err := httpd.New(h.config, rooms)
	if err != nil {
		h.t.Fatal(err)
	}
	public := httptest.NewServer(server.Public())
	h.t.Cleanup(public.Close)
	h.server, h.url = server, public.URL
	return public
}

// checked returns a client whose exchanges are held against the contract.
func (h *house) checked(c *http.Client) *http.Client {
	contract, err := contracttest.Load()
	if err != nil {
		h.t.Fatal(err)
	}
	return &http.Client{
		Transport:     &contracttest.Transport{Contract: contract, Base: c.Transport, Report: func(err error) { h.t.Error(err) }},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// advance moves the clock and lets the node read its keys again, as it does
// every second.
func (h *house) advance(d time.Duration) {
	h.t.Helper()
	h.clock.Advance(d)
	if err := h.ring.Reread(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// answer is an HTTP answer with its body read.
type answer struct {
	*http.Response
	t    testing.TB
	body []byte
}

type change func(*http.Request)

func header(name, value string) change {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func bearer(token string) change { return header("Authorization", "Bearer "+token) }

func host(name string) change { return func(r *http.Request) { r.Host = name } }

// cookie sends a refresh cookie as a browser would.
func (h *house) cookie(value string) change {
	name := "refresh"
	if strings.HasPrefix(h.issuer, "https:") {
		name = "__Host-refresh"
	}
	return header("Cookie", name+"="+value)
}

// do sends a request. body is nil, a string as it is, or a value to be sent as
// JSON.
func (h *house) do(method, path string, body any, changes ...change) answer {
	h.t.Helper()
	return h.send(h.url, method, path, body, changes...)
}

func (h *house) send(base, method, path string, body any, changes ...change) answer {
	h.t.Helper()
	var payload io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		payload = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			h.t.Fatal(err)
		}
		payload = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(h.t.Context(), method, base+path, payload)
	if err != nil {
		h.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Host = strings.TrimPrefix(strings.TrimPrefix(h.issuer, "https://"), "http://")
	for _, c := range changes {
		c(r)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp, h.t, got}
}

func (h *house) post(path string, body any, changes ...change) answer {
	h.t.Helper()
	return h.do("POST", path, body, changes...)
}

type fields map[string]any

// problem is a problem document.
type problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail"`
	Code       string `json:"code"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"retry_after"`
}

// refused checks status and code and returns the problem.
func (a answer) refused(status int, code string) problem {
	a.t.Helper()
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		a.t.Fatalf("status %d, body %q: %v", a.StatusCode, a.body, err)
	}
	if a.StatusCode != status || p.Code != code || p.Status != status {
		a.t.Fatalf("got %d %q, want %d %q: %s", a.StatusCode, p.Code, status, code, a.body)
	}
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("Content-Type is %q", got)
	}
	if p.RequestID == "" || p.RequestID != a.Header.Get("X-Request-Id") {
		a.t.Errorf("request_id is %q, the header says %q", p.RequestID, a.Header.Get("X-Request-Id"))
	}
	return p
}

// is checks the status.
func (a answer) is(status int) answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("got %d, want %d: %s", a.StatusCode, status, a.body)
	}
	return a
}

// into decodes a body.
func into[T any](a answer) T {
	a.t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Fatalf("body %q: %v", a.body, err)
	}
	return v
}

// cookies returns the cookies that an answer sets.
func (a answer) cookies() []*http.Cookie { return (&http.Response{Header: a.Header}).Cookies() }

// tokens is the answer of a login or a refresh.
type tokens struct {
	Access         string `json:"access_token"`
	Type           string `json:"token_type"`
	ExpiresIn      int64  `json:"expires_in"`
	Refresh        string `json:"refresh_token"`
	RefreshExpires int64  `json:"refresh_expires_in"`
	Session        string `json:"session_id"`
	SessionExpires string `json:"session_expires_at"`
	IdleExpires    string `json:"idle_expires_at"`
	Scope          string `json:"scope"`
}

// goodHash is the hash of goodWord: made once, because it is slow on purpose.
var goodHash = sync.OnceValues(func() (password.Hash, error) {
	hasher, err := password.New(password.DefaultPolicy(), nil)
	if err != nil {
		return password.Hash{}, err
	}
	return hasher.Hash(context.Background(), secret.NewText(goodWord))
})

// register makes an account with the password goodWord.
func (h *house) register(email string) {
	h.t.Helper()
	hash, err := goodHash()
	if err != nil {
		h.t.Fatal(err)
	}
	address, err := account.ParseEmail(email)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.engine.Accounts().Create(h.t.Context(), account.NewUser{
		ID: id.NewUser(), Email: address, Hash: hash.Encoded, Scheme: hash.Scheme.String(), Actor: "operator:test",
	}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) login(email string, more ...change) tokens {
	h.t.Helper()
	return into[tokens](h.post("/v1/login", fields{"email": email, "password": goodWord}, more...).is(200))
}

// loginCookie logs in with cookie transport and returns the cookie, too.
func (h *house) loginCookie(email string, more ...change) (tokens, *http.Cookie) {
	h.t.Helper()
	a := h.post("/v1/login", fields{"email": email, "password": goodWord, "transport": "cookie"}, more...).is(200)
	if set := a.cookies(); len(set) != 1 {
		h.t.Fatalf("a login with cookie transport set %d cookies: %v", len(set), set)
	}
	return into[tokens](a), a.cookies()[0]
}

func (h *house) refresh(token string, more ...change) answer {
	h.t.Helper()
	return h.post("/v1/refresh", fields{"refresh_token": token}, more...)
}

// journal keeps the log of a server.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
	grew chan struct{} // closed and replaced with every record
}

func newJournal() *journal { return &journal{grew: make(chan struct{})} }

// Write implements io.Writer.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.grew)
	j.grew = make(chan struct{})
	return j.text.Write(b)
}

// String returns the log as it was written.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// entries returns every record so far, and what is closed when there are more.
func (j *journal) entries(t testing.TB) ([]map[string]any, <-chan struct{}) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []map[string]any
	for line := range bytes.Lines(j.text.Bytes()) {
		var e map[string]any
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		list = append(list, e)
	}
	return list, j.grew
}

// wait returns the first record that fits; it may be written after the answer.
func (h *house) wait(what string, fits func(e map[string]any) bool) map[string]any {
	h.t.Helper()
	for {
		list, grew := h.log.entries(h.t)
		for _, e := range list {
			if fits(e) {
				return e
			}
		}
		select {
		case <-grew:
		case <-time.After(5 * time.Second):
			h.t.Fatalf("the log does not tell of %s", what)
		}
	}
}

// event returns the record of a request.
func (h *house) event(a answer) map[string]any {
	h.t.Helper()
	id := a.Header.Get("X-Request-Id")
	return h.wait("request "+id, func(e map[string]any) bool { return e["request_id"] == id && e["event"] == "http_request" })
}

// told returns the first record of an event that is no request.
func (h *house) told(event string) map[string]any {
	h.t.Helper()
	return h.wait(event, func(e map[string]any) bool { return e["event"] == event })
}

func newClock() *storetest.Clock { return storetest.NewClock() }

// unreadRing is a ring that has read nothing yet.
func unreadRing(h *house) *keys.Ring {
	return keys.NewRing(h.engine.Keys(), h.masters, h.policy, h.clock.Now, h.metrics)
}
