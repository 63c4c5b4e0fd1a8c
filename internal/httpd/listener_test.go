package httpd_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.com/authserver/api"
	"example.com/authserver/internal/httpd"
)

type httpRequest = http.Request

func TestHeaders_onEveryAnswer(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	for name, a := range map[string]answer{
		"200": h.do("GET", "/v1/me", nil, bearer(mine.Access)),
		"201": h.post("/v1/users", fields{"email": "b@example.com", "password": goodWord}),
		"204": h.post("/v1/logout", nil),
		"401": h.refresh("x"),
		"404": h.do("GET", "/none", nil),
		"405": h.do("GET", "/v1/login", nil),
		"403": h.post("/v1/login", nil, header("Origin", "https://evil.example")),
		"pre": h.do("OPTIONS", "/v1/login", nil, preflight(app, "POST", "")...),
	} {
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "max-age=31536000",
		} {
			if got := a.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		if len(a.Header.Get("X-Request-Id")) != 20 || a.Header.Get("Date") == "" || a.Header.Get("Clear-Site-Data") != "" {
			t.Errorf("%s: %v", name, a.Header)
		}
	}
	local := onLoopback(t)
	if got := local.do("GET", "/", nil).Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("an http issuer sends HSTS %q", got)
	}
}

func onLoopback(t *testing.T) *house {
	t.Helper()
	clock := newClock()
	return build(t, clock, openSQLite(t, clock), with(loopback))
}

func TestJWKS_fromMemoryWithValidators(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		a := h.do("GET", "/.well-known/jwks.json", nil).is(200)
		etag := a.Header.Get("ETag")
		want, err := h.ring.JWKS()
		if err != nil {
			t.Fatal(err)
		}
		if string(a.body) != string(want.Body) || etag != want.ETag || a.Header.Get("Cache-Control") != h.ring.CacheControl() ||
			a.Header.Get("Content-Type") != "application/jwk-set+json" || a.Header.Get("Cross-Origin-Resource-Policy") != "cross-origin" {
			t.Errorf("got %v", a.Header)
		}
		head := h.do("HEAD", "/.well-known/jwks.json", nil).is(200)
		if len(head.body) != 0 || head.Header.Get("ETag") != etag || head.Header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
			t.Errorf("HEAD: %v", head.Header)
		}
		for _, match := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
			b := h.do("GET", "/.well-known/jwks.json", nil, header("If-None-Match", match)).is(304)
			if len(b.body) > 0 || b.Header.Get("ETag") != etag || b.Header.Get("Cache-Control") != a.Header.Get("Cache-Control") {
				t.Errorf("304: %v", b.Header)
			}
		}
		h.do("GET", "/.well-known/jwks.json", nil, header("If-None-Match", `"another"`)).is(200)
		h.engine.Close()
		h.clock.Advance(time.Hour)
		h.do("GET", "/.well-known/jwks.json", nil).is(200)
		if e := h.event(a); e["level"] != "DEBUG" {
			t.Errorf("it is logged at %v", e["level"])
		}
	})
}

func TestJWKS_neverAnEmptySet(t *testing.T) {
	h := onOne(t)
	h.clock.Advance(10 * 365 * 24 * time.Hour) // a key that nobody relieved is still active
	h.do("GET", "/.well-known/jwks.json", nil).is(200)

	unread := h.rooms
	unread.Ring = unreadRing(h)
	s, err := httpd.New(h.config, unread)
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	s.Public().ServeHTTP(rec, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	if rec.Code != 503 || rec.Header().Get("Retry-After") == "" || rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("ETag") != "" {
		t.Errorf("a node that has read no keys answers %d %v", rec.Code, rec.Header())
	}
}

func TestRoutes_elsewhere(t *testing.T) {
	h := onOne(t)
	for _, path := range []string{"/none", "/v1", "/v1/", "/v1/login/", "/V1/login", "/v1//login", "/.well-known/", "/livez", "/readyz", "/metrics", "/debug/pprof/", "/admin/v1/users"} {
		p := h.do("GET", path, nil).refused(404, "not_found")
		if !strings.Contains(p.Detail, issuer+"/openapi.yaml") {
			t.Errorf("the detail is %q", p.Detail)
		}
	}
	for method, want := range map[string]string{
		"GET /v1/login": "POST", "PUT /v1/login": "POST", "HEAD /v1/login": "POST", "POST /v1/me": "GET, HEAD", "PATCH /v1/sessions": "GET, HEAD, DELETE",
		"GET /v1/sessions/x": "DELETE", "POST /.well-known/jwks.json": "GET, HEAD", "TRACE /v1/login": "POST", "OPTIONS /v1/login": "POST",
		"BREW /v1/login": "POST", "DELETE /": "GET, HEAD",
	} {
		verb, path, _ := strings.Cut(method, " ")
		a := h.do(verb, path, nil)
		if verb != "HEAD" {
			a.refused(405, "method_not_allowed")
		}
		if a.StatusCode != 405 || a.Header.Get("Allow") != want {
			t.Errorf("%s: %d, Allow %q, want %q", method, a.StatusCode, a.Header.Get("Allow"), want)
		}
	}
	h.do("BREW", "/none", nil).refused(404, "not_found")
	front := into[map[string]string](h.do("GET", "/", nil).is(200))
	if front["issuer"] != issuer || front["jwks_uri"] != issuer+"/.well-known/jwks.json" {
		t.Errorf("GET / says %v", front)
	}
	if a := h.do("GET", "/openapi.yaml", nil).is(200); string(a.body) != string(api.OpenAPI) || a.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("openapi.yaml: %v", a.Header)
	}
	h.do("HEAD", "/v1/me", nil).is(401)
}

func TestRoutes_firstPartyAPISwitchedOff(t *testing.T) {
	h := onOne(t, with(func(c *httpd.Config) { c.FirstPartyAPI = false }))
	p := h.post("/v1/login", fields{}).refused(404, "not_found")
	if !strings.Contains(p.Detail, "AUTHSERVER_FIRST_PARTY_API") {
		t.Errorf("the detail is %q", p.Detail)
	}
	h.do("GET", "/.well-known/jwks.json", nil).is(200)
}

func trusting(prefixes ...string) option {
	return with(func(c *httpd.Config) {
		for _, p := range prefixes {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
		}
	})
}

func TestProxies_theClientIsTheFirstUntrustedFromTheRight(t *testing.T) {
	h := onOne(t, trusting("127.0.0.0/8", "10.0.0.0/8", "2001:db8:ffff::/48"))
	for forwarded, want := range map[string]string{
		"192.0.2.7":                          "192.0.2.7",
		"192.0.2.7, 10.1.1.1":                "192.0.2.7",
		"203.0.113.9, 192.0.2.7":             "192.0.2.7", // the left one is the client's own claim
		"1.1.1.1, 2.2.2.2, 192.0.2.7":        "192.0.2.7",
		"2001:db8::7, 2001:db8:ffff::1":      "2001:db8::7",
		"::ffff:192.0.2.7":                   "192.0.2.7",
		"10.1.1.1":                           "127.0.0.1", // proxies only: the peer
		"rubbish":                            "127.0.0.1",
		"203.0.113.9, rubbish, 10.1.1.1":     "127.0.0.1", // nothing left of rubbish is believed
		"192.0.2.7:1234":                     "127.0.0.1",
		"203.0.113.9,,192.0.2.7 , 10.1.1.1,": "192.0.2.7",
	} {
		if got := h.event(h.do("GET", "/", nil, header("X-Forwarded-For", forwarded)))["remote_ip"]; got != want {
			t.Errorf("X-Forwarded-For: %s: %v, want %s", forwarded, got, want)
		}
		if got := h.event(h.send(h.ops, "GET", "/none", nil, header("X-Forwarded-For", forwarded)))["remote_ip"]; got != want {
			t.Errorf("the operations listener, X-Forwarded-For: %s: %v, want %s", forwarded, got, want)
		}
	}
	a := h.do("GET", "/", nil, header("X-Forwarded-For", "203.0.113.9"), header("X-Forwarded-For", "192.0.2.7"))
	if got := h.event(a)["remote_ip"]; got != "192.0.2.7" {
		t.Errorf("two headers: %v", got)
	}
	a = h.do("GET", "/", nil, header("X-Real-IP", "203.0.113.9"), header("Forwarded", "for=203.0.113.9"), header("True-Client-IP", "203.0.113.9"))
	if got := h.event(a)["remote_ip"]; got != "127.0.0.1" {
		t.Errorf("other headers: %v", got)
	}
}

func TestProxies_aStrangersClaimIsIgnoredAndTold(t *testing.T) {
	h := onOne(t, trusting("10.0.0.0/8"), with(tightEdge))
	for i := range 12 { // whoever invents addresses gets no further budget
		a := h.do("GET", "/", nil, header("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)))
		if i < 10 && a.StatusCode != 200 || i >= 10 && a.StatusCode != 429 {
			t.Fatalf("request %d: %d", i, a.StatusCode)
		}
		if got := h.event(a)["remote_ip"]; got != "127.0.0.1" {
			t.Errorf("remote_ip is %v", got)
		}
	}
	e := h.told("untrusted_forwarded_for")
	if e["peer"] != "127.0.0.1" || !strings.Contains(e["hint"].(string), "AUTHSERVER_TRUSTED_PROXIES=127.0.0.1/32") {
		t.Errorf("the log says %v", e)
	}
	if n := strings.Count(h.log.String(), "untrusted_forwarded_for"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

func TestRequestID_isTakenFromTrustedProxiesOnly(t *testing.T) {
	given := header("X-Request-Id", "proxy-made.this_1")
	h := onOne(t)
	if got := h.do("GET", "/", nil, given).Header.Get("X-Request-Id"); got == "proxy-made.this_1" {
		t.Error("a stranger's id was taken")
	}
	trusted := build(t, newClock(), openSQLite(t, newClock()), trusting("127.0.0.1/32"))
	a := trusted.do("GET", "/none", nil, given)
	if p := a.refused(404, "not_found"); p.RequestID != "proxy-made.this_1" {
		t.Errorf("a proxy's id became %q", p.RequestID)
	}
	for _, bad := range []string{"short", strings.Repeat("x", 65), "with space", "a\"quote-here", "ünïcödé-id"} {
		if got := trusted.do("GET", "/", nil, header("X-Request-Id", bad)).Header.Get("X-Request-Id"); got == bad || len(got) != 20 {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func TestHost_anotherNameIsAnsweredAndToldOnce(t *testing.T) {
	h := onOne(t)
	for range 3 {
		h.do("GET", "/v1/me", nil, host("internal:8080")).is(401)
	}
	e := h.told("other_host")
	if e["seen"] != "internal:8080" || e["expected"] != "auth.example.com" || !strings.Contains(e["hint"].(string), "AUTHSERVER_ISSUER") {
		t.Errorf("the log says %v", e)
	}
	h.do("GET", "/", nil, host("127.0.0.1:8080"))
	h.do("GET", "/", nil, host("auth.example.com"))
	if n := strings.Count(h.log.String(), "other_host"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

func TestPanic_isAProblemAndTheServerLives(t *testing.T) {
	h := onOne(t)
	serve := func(f http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(h.server.Observe(f))
		t.Cleanup(s.Close)
		return s
	}
	early := serve(func(http.ResponseWriter, *http.Request) { panic("a defect with s3cret") })
	a := h.send(early.URL, "GET", "/v1/me", nil)
	p := a.refused(500, "internal_error")
	if strings.Contains(string(a.body), "s3cret") || p.Detail == "" {
		t.Errorf("the answer shows the cause: %s", a.body)
	}
	if e := h.event(a); e["level"] != "ERROR" || !strings.Contains(e["error"].(string), "a defect") || !strings.Contains(e["error"].(string), "listener_test.go") {
		t.Errorf("the event is %v", e)
	}
	late := serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
		panic("later")
	})
	resp, err := http.Get(late.URL)
	if err == nil {
		_, err = resp.Body.Read(make([]byte, 200))
		for err == nil {
			_, err = resp.Body.Read(make([]byte, 200))
		}
		resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "EOF") || err.Error() == "EOF" {
		t.Errorf("half an answer looks whole: %v", err)
	}
	h.do("GET", "/", nil).is(200)
}

func TestUserAgent_isCutBetweenCharacters(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com", header("User-Agent", strings.Repeat("é", 200)))
	if got := h.sessions(mine.Access)[0].UserAgent; got != strings.Repeat("é", 128) {
		t.Errorf("the user agent is %q (%d bytes)", got, len(got))
	}
}
