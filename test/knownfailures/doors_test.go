package knownfailures

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/authserver/internal/app"
	"example.com/authserver/verify"
)

// door is one place where a credential can be shown. It reports whether it
// believed what it was shown.
type door struct {
	name  string
	shows func(h *house, credential string) bool
}

// accepted says that an answer is no refusal.
func accepted(a answer) bool { return a.Status < 300 }

const (
	logoutDoor = "POST /v1/logout, bearer"
	verifyDoor = "package verify"
)

// bearerDoors are the endpoints that take an access token.
var bearerDoors = []door{
	{"GET /v1/me", func(h *house, c string) bool { return accepted(h.first("GET", "/v1/me", nil, bearer(c)...)) }},
	{"GET /v1/sessions", func(h *house, c string) bool { return accepted(h.first("GET", "/v1/sessions", nil, bearer(c)...)) }},
	// A session that nobody has: who is believed hears 404.
	{"DELETE /v1/sessions/{id}", func(h *house, c string) bool {
		a := h.first("DELETE", "/v1/sessions/00000000-0000-4000-8000-000000000000", nil, bearer(c)...)
		return accepted(a) || a.Status == http.StatusNotFound
	}},
	// A body that nobody takes: who is believed hears 400.
	{"POST /v1/me/password", func(h *house, c string) bool {
		a := h.first("POST", "/v1/me/password", fields{}, bearer(c)...)
		return accepted(a) || a.Status == http.StatusBadRequest
	}},
	{"DELETE /v1/sessions", func(h *house, c string) bool {
		return accepted(h.first("DELETE", "/v1/sessions?except=current", nil, bearer(c)...))
	}},
	{logoutDoor, func(h *house, c string) bool { return accepted(h.first("POST", "/v1/logout", nil, bearer(c)...)) }},
}

// localDoors check an access token without HTTP.
var localDoors = []door{
	{verifyDoor, func(h *house, c string) bool {
		claims, err := h.verifier().Verify(h.t.Context(), c)
		if (claims != nil) != (err == nil) {
			h.t.Errorf("claims %v with error %v", claims, err)
		}
		return err == nil
	}},
	{"authserver token verify", func(h *house, c string) bool {
		in := h.nodes[0].in
		_, err := app.CheckToken(h.t.Context(), in, h.ring, in.Config.Audiences(), c)
		if err != nil && !errors.Is(err, app.ErrNotValid) {
			h.t.Errorf("trouble is no verdict: %v", err)
		}
		return err == nil
	}},
}

// adminDoor is the admin API. It wants another audience, and the role: an ordinary token
// says nothing about what it takes.
var adminDoor = door{"the admin API", func(h *house, c string) bool {
	return accepted(h.call(&node{URL: h.nodes[0].Ops}, "GET", "/admin/v1/users", nil, bearer(c)...))
}}

// feedDoor is a verifier that follows the revocation feed.
var feedDoor = door{"a reader of the feed", func(h *house, c string) bool {
	heard := make(chan verify.FeedState, 1)
	feed, err := verify.FollowRevocations(verify.FeedConfig{
		Issuer: issuer, Keys: h.published(), URL: "https://feed.example.com/v1/revocations", Client: &http.Client{Transport: says(c)},
		OnFeed: func(s verify.FeedState) {
			select {
			case heard <- s:
			default:
			}
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	defer feed.Close()
	s := <-heard
	if s.Loaded == (s.Err != nil) {
		h.t.Errorf("the feed is %+v", s)
	}
	return s.Loaded
}}

// says answers every question to the feed with itself, and knows no streams.
type says string

// RoundTrip implements http.RoundTripper.
func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(string(s)))}
	if strings.Contains(r.Header.Get("Accept"), "event-stream") {
		resp.StatusCode, resp.Status = http.StatusServiceUnavailable, "503 Service Unavailable"
	}
	return resp, nil
}

// refreshDoors take a refresh token. A logout answers 204 to what it does not
// know, too: whether it believed is seen by the session.
var refreshDoors = []door{
	{"POST /v1/refresh, body", func(h *house, c string) bool {
		return accepted(h.first("POST", "/v1/refresh", fields{"refresh_token": c}))
	}},
	{"POST /v1/refresh, cookie", func(h *house, c string) bool {
		return accepted(h.first("POST", "/v1/refresh", nil, "Cookie", "refresh="+c))
	}},
}

// verifier is another service's: it knows the published keys and nothing else.
func (h *house) verifier() *verify.Verifier {
	h.t.Helper()
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: issuer, Keys: h.published()})
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// published are the server's keys as everybody can fetch them.
func (h *house) published() verify.KeySet {
	h.t.Helper()
	set, err := verify.StaticKeys(h.first("GET", "/.well-known/jwks.json", nil).Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return set
}

// The tokens that this server hands out, and the other kinds of JWT that a
// server like it signs with the same keys: each is believed at its own doors
// and at no other.
func TestCrossUse_onlyTheDiagonalPasses(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		email, _ := h.register()
		mine := h.logIn(email)
		browser, cookie := h.logInCookie(email)
		_, inCookie, _ := strings.Cut(cookie, "=")
		access, refreshToken := mine.Field("access_token"), mine.Field("refresh_token")
		genuine, s := open(t, access), h.signing()
		kind := func(typ any, claims map[string]any) string {
			return s.sign(t, genuine, map[string]any{"typ": typ}, claims)
		}
		const forAdmins = "access token for the admin API"
		administrator, ordinary := h.admin()
		if adminDoor.shows(h, ordinary) {
			t.Error("an administrator's token for everything else at the admin API: believed")
		}
		believedBy := map[string]map[string]bool{}
		tries, kinds := 0, 0
		ends := func(names ...string) map[string]bool {
			m := map[string]bool{}
			for _, n := range names {
				m[n] = true
			}
			return m
		}
		believedBy["access token"] = ends("GET /v1/me", "GET /v1/sessions", "DELETE /v1/sessions/{id}", "POST /v1/me/password", verifyDoor, "authserver token verify")
		believedBy[forAdmins] = ends(adminDoor.name)
		believedBy["statement of the feed"] = ends(feedDoor.name)
		believedBy["refresh token of a body"] = ends("POST /v1/refresh, body")
		believedBy["refresh token of a cookie"] = ends("POST /v1/refresh, cookie")
		for _, credential := range []struct{ name, text string }{
			{"access token", access},
			{"refresh token of a body", refreshToken},
			{"refresh token of a cookie", inCookie},
			{"ID token", kind("JWT", map[string]any{"nonce": "n", "client_id": nil})},
			{"ID token with all claims of an access token", kind("JWT", nil)},
			{"JWT without typ", kind(nil, nil)},
			{"logout token", kind("logout+jwt", map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}})},
			{"DPoP proof", kind("dpop+jwt", map[string]any{"htm": "GET", "htu": issuer + "/v1/me"})},
			{"request object", kind("oauth-authz-req+jwt", nil)},
			{"client assertion", kind("client-authentication+jwt", nil)},
			{"statement of the feed", string(h.first("GET", "/v1/revocations", nil).Body)},
			{"statement that lacks a member", kind("revocations+jwt", map[string]any{"seq": 1, "entries": []any{}})},
			{"status list", kind("statuslist+jwt", map[string]any{"status_list": map[string]any{"bits": 1, "lst": "eNrbuRgAAhcBXQ"}})},
			{"introspection answer", kind("token-introspection+jwt", nil)},
			{"access token of another issuer", kind("at+jwt", map[string]any{"iss": "https://other.example.com"})},
			{"access token for another service", kind("at+jwt", map[string]any{"aud": "https://other.example.com"})},
			{forAdmins, administrator},
			{"access token for the admin API of somebody without the role", kind("at+jwt", map[string]any{"aud": issuer + "/admin"})},
			{"session id", mine.Field("session_id")},
			{"kid", s.kid},
			{"password", goodPassword},
		} {
			kinds++
			for _, d := range slices.Concat(bearerDoors[:4], localDoors, refreshDoors, []door{adminDoor, feedDoor}) {
				tries++
				if got, want := d.shows(h, credential.text), believedBy[credential.name][d.name]; got != want {
					t.Errorf("%s at %s: believed is %v, want %v", credential.name, d.name, got, want)
				}
			}
			if !strings.Contains(credential.name, "refresh token of") && credential.text != access {
				// What ends things is tried with strangers only: the sessions stand.
				for _, d := range bearerDoors[4:] {
					if strings.HasPrefix(credential.name, forAdmins) && d.name == logoutDoor {
						continue // it ends its own session, see below
					}
					tries++
					if d.shows(h, credential.text) {
						t.Errorf("%s at %s: believed", credential.name, d.name)
					}
				}
			}
			if credential.text == access {
				continue
			}
			tries += 2
			if credential.text != refreshToken && credential.text != inCookie {
				h.first("POST", "/v1/logout", fields{"refresh_token": credential.text})
				h.first("POST", "/v1/logout", nil, "Cookie", "refresh="+credential.text)
			}
			for name, token := range map[string]string{"body": access, "cookie": browser.Field("access_token")} {
				if a := h.me(token); a.Status != http.StatusOK {
					t.Fatalf("after %s the session of the %s: %s", credential.name, name, a)
				}
			}
		}
		t.Logf("%d tries of %d kinds", tries, kinds)
		// The logout door believes a refresh token of either kind, and a bearer token
		// of either audience: it hands out nothing.
		third := h.logIn(email)
		ofThird := open(t, third.Field("access_token"))
		h.first("POST", "/v1/logout", nil, "Authorization", "Bearer "+s.sign(t, ofThird, map[string]any{"typ": "at+jwt"}, map[string]any{"aud": issuer + "/admin"}))
		if a := h.me(third.Field("access_token")); !a.Is(http.StatusUnauthorized, "session_ended") {
			t.Errorf("%s did not end its session: %s", forAdmins, a)
		}
		for _, c := range []struct {
			name, access string
			body         any
			header       []string
		}{
			{"an access token in place of a refresh token", "", fields{"refresh_token": access}, nil},
			{"an access token in the cookie", "", nil, []string{"Cookie", "refresh=" + access}},
			{"the refresh token of the body", access, fields{"refresh_token": refreshToken}, nil},
			{"the cookie", browser.Field("access_token"), nil, []string{"Cookie", cookie}},
		} {
			h.first("POST", "/v1/logout", c.body, c.header...)
			if c.access == "" {
				if a := h.me(access); a.Status != http.StatusOK {
					t.Errorf("%s ended a session: %s", c.name, a)
				}
			} else if a := h.me(c.access); !a.Is(http.StatusUnauthorized, "session_ended") {
				t.Errorf("%s did not end its session: %s", c.name, a)
			}
		}
		h.audit()
	})
}
