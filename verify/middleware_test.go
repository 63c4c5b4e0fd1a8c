package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"example.com/authserver/verify"
)

func TestBearer(t *testing.T) {
	for name, tt := range map[string]struct {
		headers []string
		token   string
		want    error
	}{
		"one token":          {[]string{"Bearer a.b.c"}, "a.b.c", nil},
		"scheme has no case": {[]string{"bEARER a.b.c"}, "a.b.c", nil},
		"several blanks":     {[]string{"Bearer   a.b.c"}, "a.b.c", nil},
		"none":               {nil, "", verify.ErrNoToken},
		"another scheme":     {[]string{"Basic YTpi"}, "", verify.ErrNoToken},
		"empty header":       {[]string{""}, "", verify.ErrNoToken},
		"scheme glued on":    {[]string{"Bearera.b.c"}, "", verify.ErrNoToken},
		"DPoP":               {[]string{"DPoP a.b.c"}, "", verify.ErrNoToken},
		"no token":           {[]string{"Bearer"}, "", verify.ErrRequest},
		"blank token":        {[]string{"Bearer "}, "", verify.ErrRequest},
		"two tokens":         {[]string{"Bearer a.b.c d.e.f"}, "", verify.ErrRequest},
		"a list":             {[]string{"Bearer a.b.c,Bearer d.e.f"}, "", verify.ErrRequest},
		"two headers":        {[]string{"Bearer a.b.c", "Bearer a.b.c"}, "", verify.ErrRequest},
		"two schemes":        {[]string{"Basic YTpi", "Bearer a.b.c"}, "", verify.ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/?access_token=q.q.q", strings.NewReader("access_token=f.f.f"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.AddCookie(&http.Cookie{Name: "access_token", Value: "c.c.c"})
			for _, h := range tt.headers {
				r.Header.Add("Authorization", h)
			}
			token, err := verify.Bearer(r)
			if token != tt.token || !errors.Is(err, tt.want) {
				t.Errorf("%q, %v", token, err)
			}
		})
	}
}

// ask sends a token, if any, through h.
func ask(h http.Handler, token string) *http.Response {
	r := httptest.NewRequest("GET", "/orders", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

var greet = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte("hello " + verify.FromContext(r.Context()).Subject))
})

// never is a handler that must not be reached.
func never(t *testing.T) http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request got through") })
}

func TestMiddleware_handsOnTheClaims(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(t))
	verifier(t, nil, i).Middleware(greet).ServeHTTP(w, r)
	if w.Code != 200 || w.Body.String() != "hello usr_4f0c" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if verify.FromContext(t.Context()) != nil {
		t.Error("claims out of nowhere")
	}
}

// A challenge is what RFC 6750 section 3 says, down to the characters.
var challengeSyntax = regexp.MustCompile(`^Bearer (?:[a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]*")(?:, [a-z_]+="[\x20-\x21\x23-\x5b\x5d-\x7e]*")*$`)

func TestMiddleware_challenges(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	realm := `Bearer realm="` + ourName + `"`
	for name, tt := range map[string]struct {
		token, challenge string
		status           int
	}{
		"no token": {"", realm, 401},
		"rubbish":  {"rubbish", realm + `, error="invalid_token", error_description="the token is malformed"`, 401},
		"two":      {"a b", realm + `, error="invalid_request", error_description="exactly one Authorization header with one bearer token is expected"`, 400},
		"expired":  {i.with(t, nil, map[string]any{"exp": 1}), realm + `, error="invalid_token", error_description="the token has expired"`, 401},
		"audience": {i.with(t, nil, map[string]any{"aud": `"evil\`}), realm + `, error="invalid_token", error_description="the token is meant for another service"`, 401},
		"kid":      {i.with(t, map[string]any{"kid": "\"\r\nX: y"}, nil), realm + `, error="invalid_token", error_description="the token is signed by an unknown key"`, 401},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(v.Middleware(never(t)), tt.token)
			challenge := got.Header.Get("WWW-Authenticate")
			if got.StatusCode != tt.status || challenge != tt.challenge {
				t.Errorf("%d %s", got.StatusCode, challenge)
			}
			if !challengeSyntax.MatchString(challenge) {
				t.Errorf("no challenge of RFC 6750: %s", challenge)
			}
			if got.Header.Get("Cache-Control") != "no-store" {
				t.Error("the refusal may be cached")
			}
			var body map[string]string
			if err := json.NewDecoder(got.Body).Decode(&body); err != nil || body["error_description"] == "" {
				t.Errorf("body %v, %v", body, err)
			}
		})
	}
}

func TestMiddleware_everyErrorHasItsWords(t *testing.T) {
	v := verifier(t, func(c *verify.Config) { c.Audience = "a \"quoted\\ \r\nname\u00e9" }, newKey(t, "k1", "ES256"))
	for _, err := range append([]error{verify.ErrNoToken, verify.ErrRequest}, everyError...) {
		status, challenge := v.Challenge(err)
		switch err {
		case verify.ErrKeysUnavailable, verify.ErrFeedLost:
			if status != 503 || challenge != "" {
				t.Errorf("%v: %d %s", err, status, challenge)
			}
		default:
			if status != 401 && err != verify.ErrRequest || !challengeSyntax.MatchString(challenge) || strings.Contains(challenge, "at the moment") {
				t.Errorf("%v: %d %s", err, status, challenge)
			}
		}
	}
}

// No keys is no verdict: 401 would make clients throw good tokens away.
func TestMiddleware_noKeysIs503(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, func(c *verify.Config) {
		c.Keys = keySetFunc(func(context.Context, string) (verify.Key, error) { return verify.Key{}, errors.New("down") })
	}, i)
	if status, _ := v.Challenge(errors.Join(verify.ErrUnknownKey, verify.ErrKeysUnavailable)); status != 503 {
		t.Errorf("trouble beside a verdict: %d", status)
	}
	got := ask(v.Middleware(never(t)), i.token(t))
	if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || got.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
}

func TestRequireScope(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	h := v.Middleware(verify.RequireScope("orders:read", "orders:write")(greet))
	if got := ask(h, i.token(t)); got.StatusCode != 200 {
		t.Errorf("with both scopes: %d", got.StatusCode)
	}
	for _, scope := range []any{"orders:read", "", nil, "orders:read orders:writer", "orders:read,orders:write"} {
		got := ask(v.Middleware(verify.RequireScope("orders:read", "orders:write")(never(t))), i.with(t, nil, map[string]any{"scope": scope}))
		want := `Bearer error="insufficient_scope", error_description="the token lacks a scope", scope="orders:read orders:write"`
		if got.StatusCode != 403 || got.Header.Get("WWW-Authenticate") != want {
			t.Errorf("scope %v: %d %v", scope, got.StatusCode, got.Header)
		}
	}
	if got := ask(h, ""); got.StatusCode != 401 {
		t.Errorf("without a token: %d", got.StatusCode)
	}
}

func TestRequireRole(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	if got := ask(v.Middleware(verify.RequireRole("admin")(greet)), i.token(t)); got.StatusCode != 200 {
		t.Errorf("an admin: %d", got.StatusCode)
	}
	for _, roles := range []any{nil, []string{}, []string{"Admin", "administrator"}} {
		got := ask(v.Middleware(verify.RequireRole("admin")(never(t))), i.with(t, nil, map[string]any{"roles": roles}))
		if got.StatusCode != 403 || !challengeSyntax.MatchString(got.Header.Get("WWW-Authenticate")) {
			t.Errorf("roles %v: %d %v", roles, got.StatusCode, got.Header)
		}
	}
}

// Routes put together wrongly are closed, and say so.
func TestRequire_outsideTheMiddlewareIsClosed(t *testing.T) {
	for _, wrap := range []func(http.Handler) http.Handler{verify.RequireScope("a"), verify.RequireRole("a")} {
		if got := ask(wrap(never(t)), "a.b.c"); got.StatusCode != 500 {
			t.Errorf("%d", got.StatusCode)
		}
	}
}

func TestRequire_openDoorsPanicAtTheStart(t *testing.T) {
	for name, open := range map[string]func(){
		"no scope":         func() { verify.RequireScope() },
		"an empty scope":   func() { verify.RequireScope("a", "") },
		"two in one":       func() { verify.RequireScope("a b") },
		"a quote in scope": func() { verify.RequireScope(`a"`) },
		"no role":          func() { verify.RequireRole("") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			open()
		}()
	}
}

func TestNewContext_isForHandlerTests(t *testing.T) {
	w := httptest.NewRecorder()
	ctx := verify.NewContext(t.Context(), &verify.Claims{Subject: "someone", Scope: "a"})
	verify.RequireScope("a")(greet).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if w.Body.String() != "hello someone" {
		t.Error(w.Body)
	}
}
