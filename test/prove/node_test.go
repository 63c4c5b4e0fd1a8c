// Package prove looks for a history in which a promise is broken: it runs whole
// servers in this process, several on one Postgres, breaks what lies between
// them and their database, and holds what clients saw against refresh.Judge.
package prove

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// node is one server in this process, as cmd/authserver puts it together.
type node struct {
	url string
	in  *app.Installation
	// complaints counts refreshes without an answer, and warnings that are not
	// about a request: the node may then have seen an outage, by which retry
	// windows grow.
	complaints *atomic.Int64
}

// listener is a log that counts.
type listener struct {
	slog.Handler
	complaints *atomic.Int64
}

// Handle implements slog.Handler.
func (l listener) Handle(ctx context.Context, r slog.Record) error {
	about := r.Message != "request"
	r.Attrs(func(a slog.Attr) bool {
		about = about || a.Key == "route" && a.Value.String() == "/v1/refresh"
		return !about
	})
	if r.Level >= slog.LevelWarn && about {
		l.complaints.Add(1)
	}
	return l.Handler.Handle(ctx, r)
}

func (l listener) WithAttrs(a []slog.Attr) slog.Handler {
	return listener{l.Handler.WithAttrs(a), l.complaints}
}

func (l listener) WithGroup(g string) slog.Handler {
	return listener{l.Handler.WithGroup(g), l.complaints}
}

// plan says how a node is put together.
type plan struct {
	database string // empty for SQLite in dir
	dir      string
	conns    int
	window   time.Duration // the retry window
	// apart is the URL for housekeeping, where it is not to pass through the
	// fault proxy; then there is none but reading the keys.
	apart string
}

const masterKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func settings(t testing.TB, p plan) *config.Config {
	t.Helper()
	c, err := config.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	c.DataDir, c.DatabaseURL, c.DatabaseConns = p.dir, secret.NewText(p.database), p.conns
	c.MasterKey, c.DrainDelay = secret.NewText(masterKey), 0
	c.KeyAlgorithms = []string{"ES256"}
	if p.window > 0 {
		c.RetryWindow = p.window
	}
	return c
}

// start runs a node until the test ends.
func start(t testing.TB, p plan) *node {
	t.Helper()
	complaints := &atomic.Int64{}
	log := slog.New(listener{slog.DiscardHandler, complaints})
	in, err := app.Open(t.Context(), settings(t, p), app.ToServe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Engine.Close)
	if p.apart != "" {
		beside := p
		beside.database, beside.apart = p.apart, ""
		other, err := app.Open(t.Context(), settings(t, beside), app.ToOperate)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(other.Engine.Close)
		in.Engine = quiet{Engine: in.Engine, keys: other.Engine.Keys()}
	}
	server, err := app.New(t.Context(), in, log)
	if err != nil {
		t.Fatal(err)
	}
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, public, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return &node{url: "http://" + public.Addr().String(), in: in, complaints: complaints}
}

// quiet is an engine over which nothing runs by itself: the keys are read over
// another connection, and no lease is ever granted.
type quiet struct {
	store.Engine
	keys keys.Store
}

func (q quiet) Keys() keys.Store     { return q.keys }
func (q quiet) Leases() store.Leases { return noLeases{} }

type noLeases struct{}

func (noLeases) Hold(context.Context, string, string, time.Duration) (bool, error) { return false, nil }
func (noLeases) Release(context.Context, string, string) error                     { return nil }
func (noLeases) Until(context.Context, string) (time.Time, error)                  { return time.Time{}, nil }

// database makes a Postgres database with schema and keys in it.
func database(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	return storetest.PostgresLike(t, "prove", func(url string) error {
		in, err := app.Open(context.Background(), settings(t, plan{database: url, dir: dir}), app.ToServe)
		if err != nil {
			return err
		}
		defer in.Engine.Close()
		ring := keys.NewRing(in.Engine.Keys(), in.Masters, in.Config.Keys(), time.Now, nil)
		return ring.Start(context.Background())
	})
}

// newHTTP returns a client with connections of its own.
func newHTTP(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

const goodPassword = "correct horse battery staple"

// must sends a request that nothing but a busy machine stands in the way of and
// wants a status.
func must(t testing.TB, c *http.Client, status int, method, url string, body map[string]string, header ...string) provetest.Answer {
	t.Helper()
	a, err := patiently(func() (provetest.Answer, error) { return provetest.Send(t.Context(), c, method, url, body, header...) })
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	if a.Status != status {
		t.Fatalf("%s %s: %s; want %d", method, url, a, status)
	}
	return a
}

// patiently tries again while the server says that it cannot answer just now.
func patiently(try func() (provetest.Answer, error)) (provetest.Answer, error) {
	return rig.Patiently(2*time.Minute, try)
}

// person registers somebody and logs in.
func person(t testing.TB, c *http.Client, url, email string) provetest.Answer {
	t.Helper()
	must(t, c, http.StatusCreated, "POST", url+"/v1/users", map[string]string{"email": email, "password": goodPassword})
	return must(t, c, http.StatusOK, "POST", url+"/v1/login", map[string]string{"email": email, "password": goodPassword})
}

// auditAll re-reads the whole database and wants no broken invariant, and nobody who came
// with a token that the database had forgotten: that heals by itself, and would hide that
// something acknowledged was lost.
func auditAll(t testing.TB, e store.Engine) {
	t.Helper()
	violations, err := e.AuditSessions(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Errorf("audit: %s of %s: %s", v.Invariant, v.Subject, v.Detail)
	}
	provetest.Figure(t, "violations found by the audit", len(violations))
	lost, err := e.Audit().Events(context.Background(), audit.Filter{Kind: audit.FamilyAhead, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range lost {
		t.Errorf("an acknowledged rotation was lost: %s %v", event.Family, event.Details)
	}
}
