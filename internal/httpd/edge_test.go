package httpd_test

import (
	"testing"

	"example.com/authserver/internal/httpd"
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
