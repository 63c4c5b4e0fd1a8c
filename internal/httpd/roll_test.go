package httpd_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/keys"
)

// seen runs the roll while ask fetches, until all is written.
func (h *house) seen(ask func()) map[string]keys.Verifier {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.roll.Run(ctx)
	}()
	ask()
	cancel()
	<-done
	list, err := h.engine.Verifiers().Verifiers(h.t.Context(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	rows := map[string]keys.Verifier{}
	for _, v := range list {
		rows[v.Network+" "+v.UserAgent] = v
	}
	return rows
}

func agent(name string) change { return func(r *http.Request) { r.Header.Set("User-Agent", name) } }

func TestJWKS_whoFetchedItIsNoted(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		set, err := h.ring.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		rows := h.seen(func() {
			get := func(changes ...change) answer { return h.do("GET", "/.well-known/jwks.json", nil, changes...) }
			get(agent("svc/1")).is(200)
			get(agent("svc/2"), header("If-None-Match", set.ETag)).is(304)
			get(agent("svc/3\u0085"+strings.Repeat("x", 300)), header("If-None-Match", `"old"`)).is(200)
			h.do("HEAD", "/.well-known/jwks.json", nil, agent("head")).is(200)
			h.do("GET", "/", nil, agent("front")).is(200)
		})
		want := []string{"127.0.0.1 svc/1", "127.0.0.1 svc/2", "127.0.0.1 svc/3" + strings.Repeat("x", 251)}
		if len(rows) != len(want) {
			t.Errorf("noted: %v", rows)
		}
		for _, name := range want {
			if v := rows[name]; v.ETag != set.ETag || !v.SetAt.Equal(set.ChangedAt) || !v.FetchedAt.Equal(h.clock.Now().Truncate(time.Millisecond)) {
				t.Errorf("%s: %+v, want the set %s of %s at %s", name, v, set.ETag, set.ChangedAt, h.clock.Now())
			}
		}
	})
}

// The key set is answered before the middleware that finds clients behind
// proxies; both must find the same one.
func TestReaderOf_findsWhomTheMiddlewareFinds(t *testing.T) {
	h := onOne(t, with(func(c *httpd.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }))
	for _, x := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:1", "", "192.0.2.1"},
		{"192.0.2.1:1", "203.0.113.9", "192.0.2.1"},
		{"10.0.0.1:1", "", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "198.51.100.1, 203.0.113.9 , 10.9.9.9", "203.0.113.9"},
		{"10.0.0.1:1", "198.51.100.1|203.0.113.9,10.2.2.2", "203.0.113.9"}, // two header lines
		{"10.0.0.1:1", "203.0.113.9:443", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9, nonsense", "10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.9,", "203.0.113.9"},
		{"10.0.0.1:1", ",", "10.0.0.1"},
		{"10.0.0.1:1", "10.3.3.3", "10.0.0.1"},
		{"[::ffff:10.0.0.1]:1", "::ffff:203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "2001:db8::1%eth0", "2001:db8::1"},
		{"nonsense", "203.0.113.9", ""},
	} {
		r := httptest.NewRequest("GET", "/none", nil)
		r.RemoteAddr = x.peer
		if x.forwarded != "" {
			r.Header["X-Forwarded-For"] = strings.Split(x.forwarded, "|")
		}
		r.Host = "auth.example.com"
		rec := httptest.NewRecorder()
		h.server.Public().ServeHTTP(rec, r)
		id := rec.Header().Get("X-Request-Id")
		e := h.wait("request "+id, func(e map[string]any) bool { return e["request_id"] == id && e["event"] == "http_request" })
		middleware, _ := e["remote_ip"].(string)
		mine := ""
		if a := h.server.ReaderOf(r); a.IsValid() {
			mine = a.String()
		}
		if diff := cmp.Diff([]string{x.want, x.want}, []string{middleware, mine}); diff != "" {
			t.Errorf("peer %s, X-Forwarded-For %q: middleware and key set (-want +got)\n%s", x.peer, x.forwarded, diff)
		}
	}
}

func TestReaderOf_takesNoMemory(t *testing.T) {
	clock := newClock() // not in parallel with others: it counts
	h := build(t, clock, openSQLite(t, clock), with(func(c *httpd.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }))
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "203.0.113.9, 10.9.9.9")
	if n := testing.AllocsPerRun(100, func() { h.server.ReaderOf(r) }); n > 0 {
		t.Errorf("it allocates %.0f times", n)
	}
}

// discarded is a ResponseWriter that keeps nothing.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(b []byte) (int, error) { return len(b), nil }
func (d discarded) WriteHeader(int)             {}

// The key set is the one answer that forged tokens can ask for: who noted a
// verifier before does not pay for it again.
func TestJWKS_notingAKnownVerifierTakesNoMemory(t *testing.T) {
	clock := newClock() // not in parallel with others: it counts
	h := build(t, clock, openSQLite(t, clock))
	r := httptest.NewRequest("GET", "/.well-known/jwks.json", nil)
	r.Header.Set("User-Agent", "authserver-verify/0.1.0 (+orders)")
	allocations := func(roll *keys.Roll) float64 {
		rooms := h.rooms
		rooms.Roll, rooms.Log = roll, slog.New(slog.DiscardHandler)
		server, err := httpd.New(h.config, rooms)
		if err != nil {
			t.Fatal(err)
		}
		fetch := func() { server.Public().ServeHTTP(discarded{http.Header{}}, r) }
		if roll != nil && len(h.seen(fetch)) != 1 {
			t.Fatal("the verifier was not noted")
		}
		return testing.AllocsPerRun(100, fetch)
	}
	if with, without := allocations(h.roll), allocations(nil); with > without {
		t.Errorf("an answer allocates %.0f times, and %.0f times where nothing is noted", with, without)
	}
}
