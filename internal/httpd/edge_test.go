package httpd_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/store/storetest"
)

// tightEdge lets one network make ten requests and then waits long.
func tightEdge(c *httpd.Config) { c.EdgeRate, c.EdgeBurst = 0.01, 10 }

func TestEdge_limitsANetworkButNotRefreshesAndTheKeySet(t *testing.T) {
	h := onOne(t, trusting("127.0.0.1/32"), with(tightEdge))
	from := func(ip string) change { return header("X-Forwarded-For", ip) }
	for range 10 {
		h.do("GET", "/", nil, from("192.0.2.7")).is(200)
	}
	a := h.do("GET", "/", nil, from("192.0.2.7"), header("Origin", app))
	if p := a.refused(429, "too_many_requests"); p.RetryAfter < 50 || p.RetryAfter > 101 {
		t.Errorf("retry_after is %d, want the hundred seconds that one request takes", p.RetryAfter)
	}
	if a.Header.Get("Access-Control-Allow-Origin") != app {
		t.Error("the app cannot read how long it should wait")
	}
	h.do("GET", "/none", nil, from("192.0.2.7")).refused(429, "too_many_requests")
	h.refreshFrom(from("192.0.2.7")).refused(401, "refresh_invalid")
	h.do("GET", "/.well-known/jwks.json", nil, from("192.0.2.7")).is(200)
	h.do("GET", "/", nil, from("192.0.2.8")).is(200)

	// One subscriber holds a whole /64.
	for i := range 10 {
		h.do("GET", "/", nil, from("2001:db8::"+string(rune('0'+i)))).is(200)
	}
	h.do("GET", "/", nil, from("2001:db8::ffff")).is(429)
	h.do("GET", "/", nil, from("2001:db8:0:1::1")).is(200)
}

// Whoever invents origins does not fill the log.
func TestHints_areBounded(t *testing.T) {
	if told := httpd.HintsTold(200_000); told != 64 {
		t.Errorf("%d hints were told in one hour, want 64", told)
	}
}

func (h *house) refreshFrom(c change) answer {
	h.t.Helper()
	return h.refresh("asrt_x", c)
}

// Whatever strangers call themselves, and however many they are, nothing of it is kept:
// hosts, origins, addresses, agents, keys of tokens, forged tokens, idempotency keys, paths.
func TestServer_keepsNoNames(t *testing.T) { // and not beside others: it looks at the heap
	clock := storetest.NewClock()
	h := build(t, clock, openSQLite(t, clock))
	rooms := h.rooms
	rooms.Log = slog.New(slog.DiscardHandler)
	server, err := httpd.New(h.config, rooms)
	if err != nil {
		t.Fatal(err)
	}
	handler := server.Public()
	h.register("ada@example.com")
	genuine := h.login("ada@example.com")
	_, signed, _ := strings.Cut(genuine.Access, ".")
	ask := func(n int) {
		head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","typ":"at+jwt","kid":"kid %d"}`, n))
		forged := genuine.Refresh[:40] + fmt.Sprintf("%037d", n)
		for _, r := range []*http.Request{
			httptest.NewRequest("GET", "/v1/me", nil),
			httptest.NewRequest("POST", "/v1/refresh", strings.NewReader(`{"refresh_token":"`+forged+`"}`)),
			httptest.NewRequest("GET", fmt.Sprintf("/path/%d", n), nil),
		} {
			r.Host = fmt.Sprintf("host%d.example.com", n)
			if r.Method == "POST" {
				r.Host = strings.TrimPrefix(issuer, "https://")
			}
			r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", n>>16&255, n>>8&255, n&255)
			for name, value := range map[string]string{
				"Authorization": "Bearer " + head + "." + signed, "Content-Type": "application/json", "Origin": fmt.Sprintf("https://origin%d.example.com", n),
				"User-Agent": fmt.Sprintf("agent %d", n), "Idempotency-Key": fmt.Sprintf("a key of %020d", n), "Authserver-Install-Id": fmt.Sprintf("install %d", n),
				"X-Forwarded-For": fmt.Sprintf("192.0.2.1, 10.1.%d.%d", n>>8&255, n&255), "X-Request-Id": fmt.Sprintf("request-%d", n), "Accept-Language": fmt.Sprintf("x-%d", n),
			} {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			if handler.ServeHTTP(w, r); w.Code < 400 || w.Code >= 500 {
				t.Fatalf("%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
			}
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const strangers = 4_000 // as many before it counts: what is kept in tables of a size fills them
	for n := range strangers {
		ask(n)
	}
	before := heap()
	for n := range strangers {
		ask(strangers + n)
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d strangers: the heap grew by %d KiB", strangers, grown>>10)
	if grown > strangers*60 { // a name takes more
		t.Errorf("the heap grew by %d bytes, %d for each stranger", grown, grown/strangers)
	}
}
