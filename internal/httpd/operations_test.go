package httpd_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/httpd"
)

type report struct {
	Status string
	Checks []struct {
		Name   string
		OK     bool
		Reason string
	}
}

func (r report) failing() []string {
	var names []string
	for _, c := range r.Checks {
		if !c.OK {
			names = append(names, c.Name+": "+c.Reason)
		}
	}
	return names
}

func TestHealth_readyAndWhyNot(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		get := func(path string) answer { return h.send(h.ops, "GET", path, nil, host("127.0.0.1")) }
		if got := into[report](get("/livez").is(200)); got.Status != "ok" {
			t.Errorf("livez: %v", got)
		}
		if got := into[report](get("/readyz").is(200)); got.Status != "ready" || got.Checks != nil {
			t.Errorf("readyz: %v", got)
		}
		if got := into[report](get("/readyz?verbose").is(200)); len(got.Checks) != 3 || len(got.failing()) > 0 {
			t.Errorf("readyz?verbose: %v", got)
		}
		h.clock.Advance(31 * time.Second)
		got := into[report](get("/readyz").is(503))
		if f := got.failing(); len(f) != 1 || !strings.HasPrefix(f[0], "keys: the key ring was read 31s ago") {
			t.Errorf("with old keys: %v", got)
		}
		h.advance(0)
		get("/readyz").is(200)

		h.engine.Close()
		deadline := time.Now().Add(5 * time.Second) // an answer stays warm for a quarter of a second
		for got = into[report](get("/readyz")); got.Status == "ready" && time.Now().Before(deadline); got = into[report](get("/readyz")) {
		}
		if f := got.failing(); len(f) != 1 || !strings.HasPrefix(f[0], "database: ") {
			t.Errorf("without a database: %v", got)
		}
		get("/livez").is(200)
		if e := h.event(get("/livez")); e["level"] != "DEBUG" {
			t.Errorf("livez is logged at %v", e["level"])
		}
	})
}

func TestMetrics_tellOfWhatHappened(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	h.refresh(mine.Refresh).is(200)
	h.refresh(mine.Refresh).is(200)
	h.refresh("asrt_forged").is(401)
	h.do("GET", "/v1/sessions/", nil)
	h.do("BREW", "/v1/login", nil)
	h.event(h.do("GET", "/none", nil)) // what came before has been counted
	text := string(h.send(h.ops, "GET", "/metrics", nil, host("127.0.0.1")).is(200).body)
	for _, want := range []string{
		`authserver_refresh_total{outcome="rotated"} 1`,
		`authserver_refresh_total{outcome="replayed"} 1`,
		`authserver_refresh_total{outcome="unknown"} 1`,
		`authserver_refresh_total{outcome="kept"} 0`,
		`authserver_login_total{method="password",outcome="opened"} 1`,
		`authserver_tokens_issued_total{alg="ES256",grant="login",type="access"} 1`,
		`authserver_tokens_issued_total{alg="ES256",grant="refresh",type="access"} 2`,
		`authserver_sign_duration_seconds_count{alg="ES256"} 3`,
		`authserver_http_request_duration_seconds_count{code="200",method="POST",route="/v1/refresh"} 2`,
		`authserver_http_request_duration_seconds_count{code="401",method="POST",route="/v1/refresh"} 1`,
		`authserver_http_request_duration_seconds_count{code="405",method="other",route="unmatched"} 1`,
		`authserver_http_request_duration_seconds_count{code="404",method="GET",route="unmatched"} 2`,
		`authserver_password_hash_duration_seconds_count{kind="argon2id"} 1`,
		`authserver_password_hash_inflight 0`,
		`authserver_password_hash_queue 0`,
		`authserver_password_hash_shed_total 0`,
		`authserver_refresh_batch_size_count`,
		`authserver_refresh_batch_seconds_count`,
		`authserver_key_info{alg="ES256",kid="`,
		`authserver_key_age_seconds{alg="ES256",kid="`,
		`authserver_db_pool_open_connections`,
		`authserver_build_info{`,
		`go_goroutines`,
		`process_start_time_seconds`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, never := range []string{"127.0.0.1", "ada@", mine.Session} {
		if strings.Contains(text, never) {
			t.Errorf("the metrics hold %q", never)
		}
	}
}

func TestOperations_whatIsServedOffLoopback(t *testing.T) {
	h := onOne(t)
	loop, lan := &net.TCPAddr{IP: net.IPv6loopback, Port: 8081}, &net.TCPAddr{IP: net.IPv4zero, Port: 8081}
	exposed := h.config
	exposed.AdminExpose, exposed.AdminHosts = []string{"pprof"}, []string{"ops.example.com"}
	open, err := httpd.New(exposed, h.rooms)
	if err != nil {
		t.Fatal(err)
	}
	get := func(handler http.Handler, path, host string, changes ...change) int {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		for _, change := range changes {
			change(r)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	got := map[string]int{}
	for where, handler := range map[string]http.Handler{
		"loopback": h.server.Operations(loop), "lan": h.server.Operations(lan), "lan, exposed": open.Operations(lan), "nowhere": h.server.Operations(nil),
	} {
		for _, path := range []string{"/livez", "/metrics", "/debug/pprof/cmdline", "/debug/pprof/heap", "/v1/me"} {
			got[where+" "+path] = get(handler, path, "10.0.0.1:8081")
		}
	}
	want := map[string]int{}
	for _, where := range []string{"loopback", "lan", "lan, exposed", "nowhere"} {
		want[where+" /livez"], want[where+" /metrics"], want[where+" /v1/me"] = 200, 200, 404
		code := 404
		if where == "loopback" || where == "lan, exposed" {
			code = 200
		}
		want[where+" /debug/pprof/cmdline"], want[where+" /debug/pprof/heap"] = code, code
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// Another site's page may send what it cannot read, and start profiles with it.
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200} {
		if got := get(open.Operations(loop), "/debug/pprof/cmdline", "127.0.0.1:8081", header("Sec-Fetch-Site", site)); got != want {
			t.Errorf("Sec-Fetch-Site: %s: %d, want %d", site, got, want)
		}
	}
	// DNS rebinding: a page's own name was made to point here.
	for host, want := range map[string]int{
		"evil.example": 403, "evil.example:8081": 403, "localhost": 200, "localhost:8081": 200, "127.0.0.1": 200, "[::1]:8081": 200,
		"OPS.example.com:8081": 200, "localhost.evil.example": 403, "": 403,
	} {
		if got := get(open.Operations(loop), "/debug/pprof/cmdline", host); got != want {
			t.Errorf("host %q: %d, want %d", host, got, want)
		}
		if got := get(open.Operations(loop), "/livez", host); got != 200 {
			t.Errorf("health under host %q: %d", host, got)
		}
	}
}
