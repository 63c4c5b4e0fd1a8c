package knownfailures

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
)

// fosite said "revoked" where the store had failed. Here each table is taken
// away in turn while somebody logs out: the answer is 204 and the session is
// dead, or 503 and nothing has changed; and no refresh is refused for it.
func TestKnown_CVE_2020_15223_aFailingStoreIsNoRevocation(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		h := onPostgres(t, 1)
		email, uid := h.register()
		conn, err := pgx.Connect(t.Context(), h.postgres)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		run := func(statement string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		for _, table := range []string{"users", "sessions", "families", "audit_events", "server_state"} {
			mine, text := h.logIn(email), h.born(uid, "first-party")
			run("ALTER TABLE " + table + " RENAME TO away")
			out := h.first("POST", "/v1/logout", fields{"refresh_token": mine.field("refresh_token")})
			again := h.refresh(h.nodes[0], text)
			run("ALTER TABLE away RENAME TO " + table)

			switch out.Status {
			case http.StatusNoContent:
				if a := h.me(mine.field("access_token")); !a.is(http.StatusUnauthorized, "session_ended") {
					t.Errorf("without %s the logout said 204, and the session is alive: %s", table, a)
				}
			case http.StatusServiceUnavailable:
				if out.Header.Get("Retry-After") == "" {
					t.Errorf("without %s: 503 without Retry-After", table)
				}
				if a := h.me(mine.field("access_token")); a.Status != http.StatusOK {
					t.Errorf("without %s the logout said 503, and then: %s", table, a)
				}
				h.rotate(h.nodes[0], mine.field("refresh_token"))
			default:
				t.Errorf("without %s the logout said %s", table, out)
			}
			if again.Status != http.StatusOK && again.Status != http.StatusServiceUnavailable {
				t.Errorf("without %s a refresh was told %s", table, again)
			}
			if a := h.refresh(h.nodes[0], text); a.Status != http.StatusOK {
				t.Errorf("the same token when %s was back: %s", table, a)
			}
		}
		h.audit()
	})
}

// Supabase and Zitadel built links from headers that anybody can send. Here the
// only public URL is the configured one, whatever a request says.
func TestKnown_GHSA_3529_5m8x_rpv3_hostFromHeaders(t *testing.T) {
	for _, trusted := range []string{"", "TRUSTED_PROXIES=127.0.0.1"} {
		settings := []string{"ISSUER=https://auth.example.com"}
		if trusted != "" {
			settings = append(settings, trusted)
		}
		h := onSQLite(t, settings...)
		email, _ := h.register()
		lies := []string{
			"Host", "evil.example.com", "X-Forwarded-Host", "evil.example.com", "X-Forwarded-Proto", "http", "X-Forwarded-Scheme", "http", "X-Forwarded-Port", "81",
			"Forwarded", "for=1.2.3.4;host=evil.example.com;proto=http", "X-Original-Host", "evil.example.com", "X-Host", "evil.example.com",
			"X-Original-URL", "/admin", "X-Rewrite-URL", "/admin", "Referer", "https://evil.example.com/",
		}
		for _, a := range []answer{
			h.first("GET", "/", nil, lies...), h.first("GET", "/nothing", nil, lies...), h.first("GET", "/.well-known/jwks.json", nil, lies...),
			h.first("POST", "/v1/users", fields{}, lies...), h.first("GET", "/v1/me", nil, lies...),
		} {
			if all := fmt.Sprint(a, a.Header); strings.Contains(all, "evil.example.com") || strings.Contains(all, "http://") {
				t.Errorf("%s: %s %v", trusted, a, a.Header)
			}
		}
		login := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword, "transport": "cookie"}, lies...)
		cookie := login.Header.Get("Set-Cookie")
		if !strings.HasPrefix(cookie, "__Host-refresh=") || !strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
			t.Errorf("the cookie is %s", cookie)
		}
		claims := open(t, login.field("access_token")).claims
		if claims["iss"] != "https://auth.example.com" || claims["aud"] != "https://auth.example.com" {
			t.Errorf("the token says %v", claims)
		}
	}
}

// chi's RealIP believed X-Real-IP and its like from anybody, and RedirectSlashes
// sent people to other hosts. Here a stranger's headers say nothing about where
// a request comes from, and no path redirects.
func TestKnown_Chi_realIPAndRedirects(t *testing.T) {
	h := onSQLite(t)
	email, _ := h.register()
	const lie = "203.0.113.66"
	mine := h.logIn(email, "X-Real-IP", lie, "True-Client-IP", lie, "X-Forwarded-For", lie, "CF-Connecting-IP", lie, "X-Client-IP", lie, "Forwarded", "for="+lie)
	list := h.first("GET", "/v1/sessions", nil, bearer(mine.field("access_token"))...)
	if !strings.Contains(string(list.Body), `"ip":"127.0.0.1"`) || strings.Contains(string(list.Body), lie) {
		t.Errorf("the session says it came from elsewhere: %s", list)
	}
	behind := onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")
	email, _ = behind.register()
	mine = behind.logIn(email, "X-Forwarded-For", "6.6.6.6, 203.0.113.5", "X-Real-IP", "6.6.6.6", "True-Client-IP", "6.6.6.6")
	list = behind.first("GET", "/v1/sessions", nil, bearer(mine.field("access_token"))...)
	if !strings.Contains(string(list.Body), `"ip":"203.0.113.5"`) {
		t.Errorf("behind a proxy the right-most address counts: %s", list)
	}
	for _, path := range []string{"//evil.example.com", "//evil.example.com/", "/v1/me/", "/v1//me", "/%2fevil.example.com", "/\\evil.example.com/", "/%5cevil.example.com/", "/v1/../v1/me", "/.well-known/jwks.json/"} {
		a := h.first("GET", path, nil)
		if a.Status/100 == 3 || a.Header.Get("Location") != "" {
			t.Errorf("%s redirects to %q", path, a.Header.Get("Location"))
		}
	}
}

// Ory took a pagination token for a piece of SQL. Here what names a place in a
// list is a value and nothing else, in paths, queries and lists.
func TestKnown_CVE_2026_33504_placesInListsAreValues(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		mine := h.person()
		injections := []string{
			"' OR '1'='1", "'; DROP TABLE users; --", `" OR ""="`, "1) OR (1=1", "\\'; SELECT pg_sleep(10); --", "%", "_", "zzzz", "' UNION SELECT hash FROM passwords --",
		}
		accounts := h.nodes[0].in.Engine.Accounts()
		everybody, err := accounts.List(t.Context(), "", 100)
		if err != nil || len(everybody) == 0 {
			t.Fatalf("%d accounts, %v", len(everybody), err)
		}
		for _, text := range injections {
			list, err := accounts.List(t.Context(), account.EmailKey(text), 100)
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			for _, u := range list {
				if account.EmailKey(u.Email) <= account.EmailKey(text) {
					t.Errorf("after %q comes %s", text, u.Email)
				}
			}
			if a := h.first("DELETE", "/v1/sessions/"+url.PathEscape(text), nil, bearer(mine.field("access_token"))...); !a.is(http.StatusNotFound, "session_not_found") {
				t.Errorf("a session %q: %s", text, a)
			}
			a := h.first("DELETE", "/v1/sessions?except="+url.QueryEscape(text), nil, bearer(mine.field("access_token"))...)
			if a.Status < 400 || a.Status >= 500 {
				t.Errorf("all sessions except %q: %s", text, a)
			}
			if a := h.first("POST", "/v1/login", fields{"email": text + "@example.com", "password": text}); a.Status != http.StatusUnauthorized {
				t.Errorf("a login as %q: %s", text, a)
			}
		}
		if a := h.me(mine.field("access_token")); a.Status != http.StatusOK {
			t.Errorf("after all that: %s", a)
		}
	})
}

// nhost sent the refresh token in a URL, from where it gets into logs, histories
// and referrers. Here no flow puts one there, none is taken from there, and the
// log holds none.
func TestKnown_CVE_2026_34969_refreshTokenInAURL(t *testing.T) {
	h := onSQLite(t)
	email, _ := h.register()
	mine := h.logIn(email)
	_, cookie := h.logInCookie(email)
	text, access := mine.field("refresh_token"), mine.field("access_token")
	for _, path := range []string{"/v1/refresh?refresh_token=", "/v1/refresh?token=", "/v1/refresh/", "/v1/logout?refresh_token="} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if a := h.first(method, path+text, nil); a.Status == http.StatusOK {
				t.Errorf("%s %s takes a token from the URL: %s", method, path, a)
			}
		}
	}
	for _, path := range []string{"/v1/me?access_token=", "/v1/sessions?access_token="} {
		if a := h.first("GET", path+access, nil); !a.is(http.StatusUnauthorized, "token_invalid") {
			t.Errorf("GET %s takes a token from the URL: %s", path, a)
		}
	}
	answers := []answer{
		mine, h.rotate(h.nodes[0], text), h.first("POST", "/v1/refresh", nil, "Cookie", cookie), h.me(access), h.first("GET", "/v1/sessions", nil, bearer(access)...),
		h.first("POST", "/v1/logout", nil, bearer(access)...), h.first("GET", "/nothing/"+text, nil), h.first("POST", "/v1/refresh", fields{"refresh_token": text + "x"}),
	}
	for _, a := range answers {
		for _, name := range []string{"Location", "Link", "Refresh", "Content-Location"} {
			if v := a.Header.Get(name); v != "" {
				t.Errorf("an answer has %s: %s", name, v)
			}
		}
		if a.Status >= 400 && (strings.Contains(string(a.Body), text) || strings.Contains(string(a.Body), access)) {
			t.Errorf("a refusal repeats a token: %s", a)
		}
	}
	h.nodes[0].stop()
	for name, secret := range map[string]string{"refresh token": text, "its bytes": text[5:], "access token": access, "cookie": cookie, "password": goodPassword} {
		if strings.Contains(h.nodes[0].log.String(), secret) {
			t.Errorf("the log holds the %s", name)
		}
	}
}

// Dex dropped its TLS settings on the way to the wire. Here a database URL that
// asks for TLS is not talked to without.
func TestKnown_CVE_2024_23656_tlsToTheDatabase(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		h := onPostgres(t, 1) // a server without TLS, which is fine where none was asked for
		for _, mode := range []string{"require", "verify-ca", "verify-full"} {
			u, err := url.Parse(h.postgres)
			if err != nil {
				t.Fatal(err)
			}
			u.RawQuery = "sslmode=" + mode
			c := configuration(t, []string{"DATABASE_URL=" + u.String(), "DATA_DIR=" + t.TempDir()})
			if in, err := app.Open(t.Context(), c, app.ToServe); err == nil {
				in.Engine.Close()
				t.Errorf("sslmode=%s was answered in the clear", mode)
			} else if !strings.Contains(strings.ToLower(err.Error()), "tls") {
				t.Errorf("sslmode=%s: %v; want an error that speaks of TLS", mode, err)
			}
		}
	})
}
