package httpd_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/authserver/internal/httpd"
)

func loopback(c *httpd.Config) {
	c.Issuer = "http://localhost:8080"
	c.Audience = []string{c.Issuer}
}

func TestCookie_attributesFollowTheIssuer(t *testing.T) {
	ignore := cmpopts.IgnoreFields(http.Cookie{}, "Value", "Raw", "RawExpires", "Expires")
	for name, c := range map[string]struct {
		option option
		want   http.Cookie
	}{
		"https":         {with(func(*httpd.Config) {}), http.Cookie{Name: "__Host-refresh", Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode}},
		"http loopback": {with(loopback), http.Cookie{Name: "refresh", Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}},
	} {
		t.Run(name, func(t *testing.T) {
			h := onOne(t, c.option)
			h.register("ada@example.com")
			a := h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, "transport": "cookie"}).is(200)
			if bytes.Contains(a.body, []byte("asrt_")) || bytes.Contains(a.body, []byte("refresh_token")) {
				t.Errorf("the body holds a refresh token: %s", a.body)
			}
			set := a.cookies()[0]
			if diff := cmp.Diff(c.want, *set, ignore); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(set.Value) != 77 {
				t.Errorf("the value has %d characters", len(set.Value))
			}

			b := h.post("/v1/refresh", nil, h.cookie(set.Value)).is(200)
			if bytes.Contains(b.body, []byte("asrt_")) {
				t.Errorf("the body holds a refresh token: %s", b.body)
			}
			next := b.cookies()[0]
			if diff := cmp.Diff(c.want, *next, ignore); diff != "" || next.Value == set.Value {
				t.Errorf("the refreshed cookie (-want +got)\n%s", diff)
			}

			out := h.post("/v1/logout", nil, h.cookie(next.Value)).is(204).cookies()
			c.want.MaxAge = -1
			if len(out) != 1 || out[0].Value != "" {
				t.Fatalf("a logout sets %v", out)
			}
			if diff := cmp.Diff(c.want, *out[0], ignore); diff != "" {
				t.Errorf("the expiring cookie (-want +got)\n%s", diff)
			}
			h.post("/v1/refresh", nil, h.cookie(next.Value)).refused(401, "refresh_revoked")
		})
	}
}

func TestCookie_onlyARememberedOneHasMaxAge(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	login := func(remember bool) *http.Cookie {
		return h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, "transport": "cookie", "remember": remember}).is(200).cookies()[0]
	}
	if c := login(false); c.MaxAge != 0 || c.RawExpires != "" {
		t.Errorf("without remember: %v", c)
	}
	c := login(true)
	if c.MaxAge != int(4*sessionTTL/time.Second) {
		t.Errorf("with remember: Max-Age %d", c.MaxAge)
	}
	h.advance(time.Hour)
	c = h.post("/v1/refresh", nil, h.cookie(c.Value)).is(200).cookies()[0]
	if c.MaxAge != int((4*sessionTTL-time.Hour)/time.Second) {
		t.Errorf("after an hour: Max-Age %d", c.MaxAge)
	}
	c = login(false)
	h.advance(time.Hour)
	if c = h.post("/v1/refresh", nil, h.cookie(c.Value)).is(200).cookies()[0]; c.MaxAge != 0 {
		t.Errorf("a refresh without remember: %v", c)
	}
}

// The transport is fixed at login.
func TestCookie_theOtherTransportIsInvalid(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		_, cookie := h.loginCookie("ada@example.com")
		body := h.login("ada@example.com")
		h.refresh(cookie.Value).refused(401, "refresh_invalid")
		h.post("/v1/refresh", nil, h.cookie(body.Refresh)).refused(401, "refresh_invalid")
		a := h.refresh(cookie.Value)
		if a.refused(401, "refresh_invalid"); h.event(a)["reason"] != "wrong_transport" {
			t.Errorf("the event is %v", h.event(a))
		}
		// Neither was ended by it.
		h.refresh(body.Refresh).is(200)
		h.post("/v1/refresh", nil, h.cookie(cookie.Value)).is(200)
	})
}

func TestCookie_withABodyTokenIsRefused(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	_, cookie := h.loginCookie("ada@example.com")
	body := h.login("ada@example.com")
	for _, path := range []string{"/v1/refresh", "/v1/logout"} {
		p := h.post(path, fields{"refresh_token": body.Refresh}, h.cookie(cookie.Value)).refused(400, "invalid_request")
		if !strings.Contains(p.Detail, "__Host-refresh") {
			t.Errorf("the detail %q does not name the cookie", p.Detail)
		}
	}
	h.refresh(body.Refresh).is(200)
	h.post("/v1/refresh", fields{}, h.cookie(cookie.Value)).is(200) // an empty object is no token
	h.post("/v1/refresh", "not JSON", h.cookie(cookie.Value)).refused(400, "invalid_request")
}

func TestCookie_noRefusalTakesItAway(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	_, first := h.loginCookie("ada@example.com")
	h.post("/v1/refresh", nil, h.cookie(first.Value)).is(200)
	h.advance(2 * time.Minute)
	for name, a := range map[string]answer{
		"reused":       h.post("/v1/refresh", nil, h.cookie(first.Value)),
		"revoked":      h.post("/v1/refresh", nil, h.cookie(first.Value)),
		"forged":       h.post("/v1/refresh", nil, h.cookie("asrt_forged")),
		"login":        h.post("/v1/login", fields{"email": "ada@example.com", "password": "wrong"}, h.cookie(first.Value)),
		"bad bearer":   h.post("/v1/logout", nil, bearer("rubbish")),
		"cross origin": h.post("/v1/logout", nil, h.cookie(first.Value), header("Origin", "https://evil.example"), header("Sec-Fetch-Site", "cross-site")),
	} {
		if a.StatusCode < 400 || a.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %d sets %q", name, a.StatusCode, a.Header["Set-Cookie"])
		}
	}
}

func TestLogin_aLivingCookieEndsItsSession(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		h.register("grace@example.com")
		_, first := h.loginCookie("ada@example.com")
		body := h.login("ada@example.com")

		h.post("/v1/login", fields{"email": "ada@example.com", "password": "wrong"}, h.cookie(first.Value)).refused(401, "invalid_credentials")
		first = h.post("/v1/refresh", nil, h.cookie(first.Value)).is(200).cookies()[0] // a failed login ends nothing

		_, second := h.loginCookie("grace@example.com", h.cookie(first.Value)) // even as somebody else
		if second.Value == first.Value {
			t.Error("the new session has the old token")
		}
		a := h.post("/v1/refresh", nil, h.cookie(first.Value))
		a.refused(401, "refresh_revoked")

		// A token of body transport in the cookie is not this browser's session.
		h.login("ada@example.com", h.cookie(body.Refresh))
		h.refresh(body.Refresh).is(200)
	})
}

// On localhost another program may have set a cookie of the same name.
func TestCookie_several(t *testing.T) {
	h := onOne(t, with(loopback))
	h.register("ada@example.com")
	_, mine := h.loginCookie("ada@example.com")
	both := func(a, b string) change { return header("Cookie", "refresh="+a+"; other=1; refresh="+b) }

	mine = h.post("/v1/refresh", nil, both("something-else", mine.Value)).is(200).cookies()[0]
	mine = h.post("/v1/refresh", nil, both(mine.Value, mine.Value)).is(200).cookies()[0]
	h.post("/v1/refresh", nil, both("a", "b")).refused(401, "refresh_invalid")
	_, second := h.loginCookie("ada@example.com")
	h.post("/v1/refresh", nil, both(mine.Value, second.Value)).refused(400, "invalid_request")
	h.post("/v1/refresh", nil, header("Cookie", "refresh=a; refresh=b; refresh=c; refresh=d; refresh=e")).refused(400, "invalid_request")
	// Nothing was used up; and a logout ends them all.
	h.post("/v1/logout", nil, both(mine.Value, second.Value)).is(204)
	for _, c := range []*http.Cookie{mine, second} {
		h.post("/v1/refresh", nil, h.cookie(c.Value)).refused(401, "refresh_revoked")
	}
}
