package httpd_test

import (
	"net/http"
	"strings"
	"testing"

	"example.com/authserver/internal/httpd"
)

const app = "https://app.example.com"

func preflight(origin, method, headers string) []change {
	changes := []change{header("Origin", origin), header("Access-Control-Request-Method", method)}
	if headers != "" {
		changes = append(changes, header("Access-Control-Request-Headers", headers))
	}
	return changes
}

// Browsers send names in lower case and in order; people who try it do not.
func TestCORS_preflightByHand(t *testing.T) {
	h := onOne(t)
	for _, names := range []string{"Content-Type", "content-type, authorization", "Idempotency-Key,Content-Type,content-type"} {
		a := h.do("OPTIONS", "/v1/login", nil, preflight(app, "POST", names)...).is(204)
		if a.Header.Get("Access-Control-Allow-Origin") != app {
			t.Errorf("%q: %v", names, a.Header)
		}
	}
	a := h.do("OPTIONS", "/v1/login", nil, preflight(app, "POST", "Content-Type,X-Other")...)
	if got := a.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("with a header that is not allowed: %q", got)
	}
}

func TestCORS_preflight(t *testing.T) {
	h := onOne(t)
	all := "authorization,authserver-install-id,content-type,dpop,idempotency-key"
	for _, method := range []string{"GET", "POST", "DELETE"} {
		a := h.do("OPTIONS", "/v1/refresh", nil, preflight(app, method, all)...).is(204)
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": app, "Access-Control-Allow-Credentials": "true",
			"Access-Control-Allow-Methods": method, "Access-Control-Allow-Headers": all,
		} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		if !strings.Contains(strings.Join(a.Header["Vary"], ","), "Origin") {
			t.Errorf("Vary is %q", a.Header["Vary"])
		}
	}
	for name, changes := range map[string][]change{
		"another origin":       preflight("https://evil.example", "POST", "content-type"),
		"a subdomain":          preflight("https://x.app.example.com", "POST", ""),
		"another scheme":       preflight("http://app.example.com", "POST", ""),
		"another port":         preflight(app+":8443", "POST", ""),
		"upper case":           preflight("https://APP.example.com", "POST", ""),
		"a trailing slash":     preflight(app+"/", "POST", ""),
		"a longer name":        preflight(app+".evil.example", "POST", ""),
		"null":                 preflight("null", "POST", ""),
		"another method":       preflight(app, "PUT", ""),
		"another header":       preflight(app, "POST", "x-other"),
		"one header too many":  preflight(app, "POST", "content-type,x-other"),
		"the wildcard, spelt":  preflight("*", "POST", ""),
		"another site's login": preflight("https://auth.example.com.evil.example", "POST", ""),
	} {
		if a := h.do("OPTIONS", "/v1/refresh", nil, changes...); a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s is let in: %v", name, a.Header)
		}
	}
}

func TestCORS_answers(t *testing.T) {
	h := onOne(t)
	for name, a := range map[string]answer{
		"401": h.do("GET", "/v1/me", nil, header("Origin", app)),
		"404": h.do("GET", "/v1/none", nil, header("Origin", app)),
		"405": h.do("GET", "/v1/login", nil, header("Origin", app)),
		"400": h.post("/v1/login", "x", header("Origin", app)),
	} {
		if a.Header.Get("Access-Control-Allow-Origin") != app || a.Header.Get("Access-Control-Allow-Credentials") != "true" {
			t.Errorf("%s cannot be read by the app: %v", name, a.Header)
		}
		exposed := a.Header.Get("Access-Control-Expose-Headers")
		for _, want := range []string{"Retry-After", "Dpop-Nonce", "Www-Authenticate", "X-Request-Id"} {
			if !strings.Contains(exposed, want) {
				t.Errorf("%s exposes %q, want %s among them", name, exposed, want)
			}
		}
	}
	if a := h.do("GET", "/v1/me", nil, header("Origin", "https://evil.example")); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin may read: %v", a.Header)
	}
}

func TestCORS_aRejectedOriginIsToldOnceWithTheLineToAdd(t *testing.T) {
	h := onOne(t)
	for range 3 {
		h.do("GET", "/v1/me", nil, header("Origin", "https://new.example.com"))
	}
	e := h.told("origin_rejected")
	if hint := e["hint"].(string); e["origin"] != "https://new.example.com" || !strings.Contains(hint, "AUTHSERVER_ALLOWED_ORIGINS=https://new.example.com") {
		t.Errorf("the log says %v", e)
	}
	if n := strings.Count(h.log.String(), "origin_rejected"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

func TestCORS_theKeySetIsForEverybodyAndVariesByNothing(t *testing.T) {
	h := onOne(t)
	a := h.do("GET", "/.well-known/jwks.json", nil, header("Origin", "https://anybody.example")).is(200)
	if a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Access-Control-Allow-Credentials") != "" || a.Header.Get("Vary") != "" {
		t.Errorf("got %v", a.Header)
	}
	b := h.do("OPTIONS", "/.well-known/jwks.json", nil, preflight("https://anybody.example", "GET", "cache-control")...).is(204)
	if b.Header.Get("Access-Control-Allow-Origin") != "*" || b.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("got %v", b.Header)
	}
}

func TestCSRF_anotherSitesPageIsRefused(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	_, cookie := h.loginCookie("ada@example.com")
	const evil = "https://evil.example"
	for name, headers := range map[string][]change{
		"a modern browser": {header("Origin", evil), header("Sec-Fetch-Site", "cross-site")},
		"a sibling host":   {header("Origin", "https://blog.example.com"), header("Sec-Fetch-Site", "same-site")},
		"an old browser":   {header("Origin", evil)},
		"a sandbox":        {header("Origin", "null"), header("Sec-Fetch-Site", "cross-site")},
		"no origin":        {header("Sec-Fetch-Site", "cross-site")},
	} {
		for _, endpoint := range [][2]string{
			{"POST", "/v1/login"},
			{"POST", "/v1/refresh"},
			{"POST", "/v1/logout"},
			{"POST", "/v1/users"},
			{"POST", "/v1/me/password"},
			{"DELETE", "/v1/sessions"},
			{"DELETE", "/v1/sessions/" + mine.Session},
		} {
			a := h.do(endpoint[0], endpoint[1], nil, append(headers, h.cookie(cookie.Value))...)
			p := a.refused(403, "cross_origin")
			seen := "cross-site"
			if o := a.Request.Header.Get("Origin"); o != "" {
				seen = o
			}
			if !strings.Contains(p.Detail, seen) || seen != "cross-site" && !strings.Contains(p.Detail, "AUTHSERVER_ALLOWED_ORIGINS") {
				t.Errorf("%s, %v: the detail %q names neither what was seen nor the setting", name, endpoint, p.Detail)
			}
		}
	}
	h.post("/v1/refresh", nil, h.cookie(cookie.Value)).is(200) // and nothing happened
	h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200)
}

func TestCSRF_trustedCallersPass(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	for name, headers := range map[string][]change{
		"no browser":               nil,
		"the app":                  {header("Origin", app), header("Sec-Fetch-Site", "same-site")},
		"the app, an old browser":  {header("Origin", app)},
		"the issuer's own pages":   {header("Origin", issuer), header("Sec-Fetch-Site", "same-origin")},
		"the issuer behind a host": {header("Origin", issuer), host("internal:8080")},
		"typed by a person":        {header("Sec-Fetch-Site", "none")},
	} {
		if a := h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}, headers...); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
}

func TestNew_refusesAnOriginThatIsNone(t *testing.T) {
	h := onOne(t)
	for _, bad := range []string{"app.example.com", "https://app.example.com/", "https://app.example.com/x", "*", ""} {
		c := h.config
		c.AllowedOrigins = []string{bad}
		if _, err := httpd.New(c, h.rooms); err == nil || !strings.Contains(err.Error(), "AUTHSERVER_ALLOWED_ORIGINS") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
