package httpd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/verify"
)

// instant reads an instant of an answer.
func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z", s)
	if err != nil {
		t.Fatalf("instant %q: %v", s, err)
	}
	return at
}

// claims verifies an access token as another service would.
func (h *house) claims(token, audience string) *verify.Claims {
	h.t.Helper()
	set, err := verify.StaticKeys(h.do("GET", "/.well-known/jwks.json", nil).is(200).body)
	if err != nil {
		h.t.Fatal(err)
	}
	v, err := verify.New(verify.Config{Issuer: h.issuer, Audience: audience, Keys: set, Now: h.clock.Now})
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := v.Verify(h.t.Context(), token)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// Whoever would be logged out at once is not logged in: the floor of a mass revocation is
// ahead of a clock that was set back since.
func TestLogin_belowTheFloorIsTrouble(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		if _, err := h.engine.Sessions().RaiseFloor(t.Context(), h.clock.Now().Add(time.Minute), "operator:test", "r"); err != nil {
			t.Fatal(err)
		}
		credentials := fields{"email": "ada@example.com", "password": goodWord}
		for _, transport := range []string{"body", "cookie"} {
			credentials["transport"] = transport
			a := h.post("/v1/login", credentials)
			a.refused(503, "temporarily_unavailable")
			if a.Header.Get("Retry-After") == "" || len(a.cookies()) > 0 {
				t.Errorf("trouble without Retry-After, or with a cookie: %v", a.Header)
			}
			if e := h.event(a); !strings.Contains(fmt.Sprint(e["error"]), "clock has not reached") {
				t.Errorf("the log says %v", e["error"])
			}
		}
		h.advance(time.Minute)
		credentials["transport"] = "body"
		got := into[tokens](h.post("/v1/login", credentials).is(200))
		h.refresh(got.Refresh).is(200)
	})
}

func TestLogin_tokens(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		a := h.post("/v1/login", fields{"email": "ADA@example.com", "password": goodWord, "device_name": "Ada’s laptop", "remember": false}).is(200)
		if len(a.cookies()) > 0 {
			t.Errorf("body transport sets %v", a.cookies())
		}
		got := into[tokens](a)
		now := h.clock.Now()
		want := tokens{
			Access: got.Access, Type: "Bearer", ExpiresIn: 600, Refresh: got.Refresh, RefreshExpires: 720 * 3600,
			Session:        got.Session,
			SessionExpires: now.Add(sessionTTL).Format("2006-01-02T15:04:05.000Z"),
			IdleExpires:    now.Add(720 * time.Hour).Format("2006-01-02T15:04:05.000Z"),
			Scope:          "account",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if len(got.Refresh) != 77 || !strings.HasPrefix(got.Refresh, "asrt_") {
			t.Errorf("the refresh token has %d characters", len(got.Refresh))
		}
		c := h.claims(got.Access, issuer)
		if c.SessionID != got.Session || c.ClientID != "first-party" || c.Scope != "account" || !cmp.Equal(c.AMR, []string{"pwd"}) ||
			c.ExpiresAt.Sub(c.IssuedAt) != 10*time.Minute || len(got.Access) >= 700 {
			t.Errorf("claims %+v in %d bytes", c, len(got.Access))
		}
		if e := h.event(a); e["outcome"] != "opened" || e["session_id"] != got.Session || e["client_id"] != "first-party" || e["subject"] != c.Subject {
			t.Errorf("the event is %v", e)
		}
	})
}

func TestLogin_refusalsLookAlike(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		h.register("banned@example.com")
		banned, err := h.engine.Accounts().ByEmail(t.Context(), account.EmailKey("banned@example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.engine.Accounts().Disable(t.Context(), banned.ID, "operator:test", ""); err != nil {
			t.Fatal(err)
		}
		var first problem
		for i, try := range []struct{ email, word, reason string }{
			{"ada@example.com", "wrong", "wrong_password"},
			{"nobody@example.com", goodWord, "unknown_user"},
			{"banned@example.com", goodWord, "user_disabled"},
			{"no address at all", goodWord, "unknown_user"},
		} {
			a := h.post("/v1/login", fields{"email": try.email, "password": try.word})
			p := a.refused(401, "invalid_credentials")
			p.RequestID = ""
			if i == 0 {
				first = p
			}
			if diff := cmp.Diff(first, p); diff != "" {
				t.Errorf("%s looks different:\n%s", try.reason, diff)
			}
			if e := h.event(a); e["reason"] != try.reason || e["outcome"] != "refused" || (e["subject"] == nil) != (try.reason == "unknown_user") {
				t.Errorf("the log says %v, want reason %s and the account, where there is one", e, try.reason)
			}
		}
	})
}

func TestLogin_tooManyAttempts(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	var a answer
	for range 40 {
		if a = h.post("/v1/login", fields{"email": "ada@example.com", "password": "wrong"}); a.StatusCode != 401 {
			break
		}
	}
	p := a.refused(429, "too_many_attempts")
	if p.RetryAfter < 1 || a.Header.Get("Retry-After") != fmt.Sprint(p.RetryAfter) {
		t.Errorf("retry_after is %d, the header %q", p.RetryAfter, a.Header.Get("Retry-After"))
	}
	// Also with the right password, and with an address that nobody has.
	h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}).refused(429, "too_many_attempts")
}

func TestLogin_members(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	try := func(name string, value any) answer {
		return h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, name: value})
	}
	for name, list := range map[string][]any{
		"device_name": {strings.Repeat("é", 128), "", nil},
		"remember":    {true, false, nil},
		"transport":   {"body", "cookie", nil},
		"audience":    {nil},
	} {
		for _, value := range list {
			if a := try(name, value); a.StatusCode != 200 {
				t.Errorf("%s = %v: %s", name, value, a.body)
			}
		}
	}
	for name, list := range map[string][]any{
		"device_name": {strings.Repeat("é", 129), "two\nlines", "nul\x00", 7, []string{}},
		"remember":    {"true", 1, fields{}},
		"transport":   {"Cookie", "", 1, true},
		"audience":    {"ADMIN", "", 1},
	} {
		for _, value := range list {
			if p := try(name, value).refused(400, "invalid_request"); !strings.Contains(p.Detail, name) {
				t.Errorf("%s = %v: the detail %q does not name it", name, value, p.Detail)
			}
		}
	}
}

func TestLogin_adminAudienceAsksForTheRole(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	login := fields{"email": "ada@example.com", "password": goodWord, "audience": "admin"}
	h.post("/v1/login", login).refused(403, "forbidden")
	user, err := h.engine.Accounts().ByEmail(t.Context(), account.EmailKey("ada@example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Accounts().SetRole(t.Context(), user.ID, account.RoleAdmin, true, "operator:test", ""); err != nil {
		t.Fatal(err)
	}
	got := into[tokens](h.post("/v1/login", login).is(200))
	if c := h.claims(got.Access, issuer+"/admin"); !c.HasRole("admin") {
		t.Errorf("roles %v", c.Roles)
	}
	// Such a token is for the admin API and for nothing else.
	h.do("GET", "/v1/me", nil, bearer(got.Access)).refused(401, "token_invalid")
	again := into[tokens](h.refresh(got.Refresh).is(200))
	h.claims(again.Access, issuer+"/admin")
	// But it says who is there, and a logout may use it.
	h.post("/v1/logout", nil, bearer(again.Access)).is(204)
	h.refresh(again.Refresh).refused(401, "refresh_revoked")
}

// A token that was made for less than the own account may not act for it.
func TestBearer_theScopeCounts(t *testing.T) {
	for scope, enough := range map[string]bool{"account": true, "more": false} {
		t.Run(scope, func(t *testing.T) {
			h := onOne(t, with(func(c *httpd.Config) { c.Scope = scope }))
			h.register("ada@example.com")
			mine := h.login("ada@example.com")
			if a := h.do("GET", "/v1/me", nil, bearer(mine.Access)); enough {
				a.is(200)
			} else {
				a.refused(401, "token_invalid")
			}
			h.post("/v1/logout", nil, bearer(mine.Access)).is(204)
		})
	}
}

func TestLogin_rememberIsALongerSession(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	got := into[tokens](h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, "remember": true}).is(200))
	if end := instant(t, got.SessionExpires); end.Sub(h.clock.Now()).Round(time.Second) != 4*sessionTTL {
		t.Errorf("the session ends at %s", end)
	}
}

// Whoever guesses from a network closes that network for strangers, not for
// those who show that they are none.
func TestLogin_theOwnerIsNotLockedOut(t *testing.T) {
	h := onOne(t, trusting("127.0.0.1/32"))
	h.register("ada@example.com")
	home, elsewhere := header("X-Forwarded-For", "192.0.2.1"), header("X-Forwarded-For", "192.0.2.66")
	mine := h.login("ada@example.com", home)
	_, cookie := h.loginCookie("ada@example.com", home)
	for range 40 {
		if a := h.post("/v1/login", fields{"email": "ada@example.com", "password": "wrong"}, elsewhere); a.StatusCode == 429 {
			break
		}
	}
	try := func(changes ...change) answer {
		return h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}, append(changes, elsewhere)...)
	}
	try().refused(429, "too_many_attempts")
	try(bearer("rubbish")).refused(429, "too_many_attempts")
	try(h.cookie("rubbish")).refused(429, "too_many_attempts")
	h.login("ada@example.com", home)

	// The event tells of who logged in, and of nobody where nobody did.
	a := h.post("/v1/login", fields{"email": "nobody@example.com", "password": goodWord}, elsewhere, bearer(mine.Access))
	if a.refused(401, "invalid_credentials"); h.event(a)["subject"] != nil {
		t.Errorf("the event is %v", h.event(a))
	}
	try(bearer(mine.Access)).is(200)
	h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200) // a bearer token's session stays

	for range 40 { // that success was the owner's, and the stranger goes on
		if a := h.post("/v1/login", fields{"email": "ada@example.com", "password": "wrong"}, header("X-Forwarded-For", "192.0.2.67")); a.StatusCode == 429 {
			break
		}
	}
	h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}, header("X-Forwarded-For", "192.0.2.67"), h.cookie(cookie.Value)).is(200)
}
