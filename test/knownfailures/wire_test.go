package knownfailures

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/verify"
)

// fosite said "revoked" where the store had failed. Here each table is taken
// away in turn while somebody logs out, or each write to one fails: the answer is 204 and
// the session is dead, or 503 and nothing has changed; and no refresh is refused for it.
// test/prove has each statement fail (TestRevocation_whateverStatementFails).
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
		for _, table := range []string{"users", "sessions", "families", "audit_events", "server_state", "revocations"} {
			mine, text := h.logIn(email), h.born(uid, "first-party")
			run("ALTER TABLE " + table + " RENAME TO away")
			out := h.first("POST", "/v1/logout", fields{"refresh_token": mine.Field("refresh_token")})
			again := h.refresh(h.nodes[0], text)
			run("ALTER TABLE away RENAME TO " + table)
			h.endedOrNot("without "+table, mine, out)
			if again.Status != http.StatusOK && again.Status != http.StatusServiceUnavailable {
				t.Errorf("without %s a refresh was told %s", table, again)
			}
			if a := h.refresh(h.nodes[0], text); a.Status != http.StatusOK {
				t.Errorf("the same token when %s was back: %s", table, a)
			}
		}
		h.audit()
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		h := onSQLite(t)
		email, _ := h.register()
		files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(h.settings[0], "DATA_DIR="), "*.db"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		db, err := sql.Open("sqlite", files[0]+"?_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		run := func(statement string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		failed := 0
		for _, write := range []string{"UPDATE ON sessions", "UPDATE ON families", "INSERT ON revocations", "INSERT ON audit_events"} {
			mine := h.logIn(email)
			run("CREATE TRIGGER fails BEFORE " + write + " BEGIN SELECT RAISE(ABORT, 'by the test'); END")
			out := h.first("POST", "/v1/logout", fields{"refresh_token": mine.Field("refresh_token")})
			run("DROP TRIGGER fails")
			if out.Status == http.StatusServiceUnavailable {
				failed++
			}
			h.endedOrNot("where no "+write+" succeeds", mine, out)
		}
		if failed < 3 {
			t.Errorf("%d of 4 writes failed a logout, so little was tested", failed)
		}
		h.audit()
	})
}

// endedOrNot wants the session of mine dead where the logout said 204, and alive where it
// said 503.
func (h *house) endedOrNot(when string, mine, out answer) {
	h.t.Helper()
	me := h.me(mine.Field("access_token"))
	switch out.Status {
	case http.StatusNoContent:
		if !me.Is(http.StatusUnauthorized, "session_ended") {
			h.t.Errorf("%s the logout said 204, and the session is alive: %s", when, me)
		}
	case http.StatusServiceUnavailable:
		if out.Header.Get("Retry-After") == "" {
			h.t.Errorf("%s: 503 without Retry-After", when)
		}
		if me.Status != http.StatusOK {
			h.t.Errorf("%s the logout said 503, and then: %s", when, me)
		}
		h.rotate(h.nodes[0], mine.Field("refresh_token"))
	default:
		h.t.Errorf("%s the logout said %s", when, out)
	}
}

// Supabase and Zitadel built links from headers that anybody can send. Here the
// only public URL is the configured one, whatever a request says.
func TestKnown_GHSA_3529_5m8x_rpv3_hostFromHeaders(t *testing.T) {
	for _, trusted := range []string{"", "TRUSTED_PROXIES=127.0.0.1"} {
		settings := []string{"ISSUER=https://auth.example.com", "STATUS_LIST=on"}
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
		claims := open(t, login.Field("access_token")).claims
		if claims["iss"] != "https://auth.example.com" || claims["aud"] != "https://auth.example.com" {
			t.Errorf("the token says %v", claims)
		}
		if status := fmt.Sprint(claims["status"]); !strings.Contains(status, "uri:https://auth.example.com/") {
			t.Errorf("the token's place in the status list is %s", status)
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
	list := h.first("GET", "/v1/sessions", nil, bearer(mine.Field("access_token"))...)
	if !strings.Contains(string(list.Body), `"ip":"127.0.0.1"`) || strings.Contains(string(list.Body), lie) {
		t.Errorf("the session says it came from elsewhere: %s", list)
	}
	behind := onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")
	email, _ = behind.register()
	mine = behind.logIn(email, "X-Forwarded-For", "6.6.6.6, 203.0.113.5", "X-Real-IP", "6.6.6.6", "True-Client-IP", "6.6.6.6")
	list = behind.first("GET", "/v1/sessions", nil, bearer(mine.Field("access_token"))...)
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
			if a := h.first("DELETE", "/v1/sessions/"+url.PathEscape(text), nil, bearer(mine.Field("access_token"))...); !a.Is(http.StatusNotFound, "session_not_found") {
				t.Errorf("a session %q: %s", text, a)
			}
			a := h.first("DELETE", "/v1/sessions?except="+url.QueryEscape(text), nil, bearer(mine.Field("access_token"))...)
			if a.Status < 400 || a.Status >= 500 {
				t.Errorf("all sessions except %q: %s", text, a)
			}
			if a := h.first("POST", "/v1/login", fields{"email": text + "@example.com", "password": text}); a.Status != http.StatusUnauthorized {
				t.Errorf("a login as %q: %s", text, a)
			}
		}
		if a := h.me(mine.Field("access_token")); a.Status != http.StatusOK {
			t.Errorf("after all that: %s", a)
		}
		// The same over HTTP, where lists have places: for administrators.
		administrator, _ := h.admin()
		office, admin := &node{URL: h.nodes[0].Ops}, bearer(administrator)
		for _, text := range append(injections, "\x00", "\xff", "a\x00b", "") {
			place := url.QueryEscape(base64.RawURLEncoding.EncodeToString([]byte(text)))
			for _, path := range []string{
				"/users?after=" + place, "/users?after=" + url.QueryEscape(text), "/users?email=" + url.QueryEscape(text),
				"/audit?before=" + url.QueryEscape(text), "/audit?request_id=" + url.QueryEscape(text), "/sessions?user=" + url.QueryEscape(text),
			} {
				a := h.call(office, "GET", "/admin/v1"+path, nil, admin...)
				if a.Status != http.StatusOK && a.Status != http.StatusBadRequest {
					t.Errorf("GET %s: %s", path, a)
				}
				var list struct {
					Users []struct{ Email string }
				}
				if err := json.Unmarshal(a.Body, &list); err != nil {
					t.Errorf("GET %s: %v", path, err)
				}
				for _, u := range list.Users {
					behind := strings.HasPrefix(path, "/users?after="+place) && utf8.ValidString(text) && account.EmailKey(u.Email) <= account.EmailKey(text)
					if behind || strings.HasPrefix(path, "/users?email=") {
						t.Errorf("GET %s shows %s", path, u.Email)
					}
				}
			}
		}
	})
}

// admin makes an administrator and returns an access token for the admin API, and one for
// everything else.
func (h *house) admin() (administrator, ordinary string) {
	h.t.Helper()
	email, uid := h.register()
	if err := h.nodes[0].in.Engine.Accounts().SetRole(h.t.Context(), uid, account.RoleAdmin, true, "operator:test", "test"); err != nil {
		h.t.Fatal(err)
	}
	a := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword, "audience": "admin"})
	if a.Status != http.StatusOK {
		h.t.Fatalf("log in: %s", a)
	}
	return a.Field("access_token"), h.logIn(email).Field("access_token")
}

// nhost sent the refresh token in a URL, from where it gets into logs, histories
// and referrers. Here no flow puts one there, none is taken from there, and the
// log holds none.
func TestKnown_CVE_2026_34969_refreshTokenInAURL(t *testing.T) {
	h := onSQLite(t)
	email, _ := h.register()
	mine := h.logIn(email)
	_, cookie := h.logInCookie(email)
	text, access := mine.Field("refresh_token"), mine.Field("access_token")
	for _, path := range []string{"/v1/refresh?refresh_token=", "/v1/refresh?token=", "/v1/refresh/", "/v1/logout?refresh_token="} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if a := h.first(method, path+text, nil); a.Status == http.StatusOK {
				t.Errorf("%s %s takes a token from the URL: %s", method, path, a)
			}
		}
	}
	for _, path := range []string{"/v1/me?access_token=", "/v1/sessions?access_token="} {
		if a := h.first("GET", path+access, nil); !a.Is(http.StatusUnauthorized, "token_invalid") {
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

// Dex dropped its TLS settings on the way to the wire. Here a database that says
// it has no TLS hears nothing more from who was told to use it; and it does from
// who was not, so that the probe is one.
func TestKnown_CVE_2024_23656_tlsToTheDatabase(t *testing.T) {
	for mode, inTheClear := range map[string]bool{"require": false, "verify-ca": false, "verify-full": false, "prefer": true} {
		t.Run(mode, func(t *testing.T) {
			probe := listen(t)
			heard := make(chan int, 64)
			go withoutTLS(probe, heard)
			c := configuration(t, []string{"DATABASE_URL=postgres://user:secret@" + probe.Addr().String() + "/db?sslmode=" + mode, "DATA_DIR=" + t.TempDir()})
			if in, err := app.Open(t.Context(), c, app.ToServe); err == nil {
				in.Engine.Close()
				t.Error("the probe is no database, and was opened as one")
			}
			probe.Close()
			got, tries := 0, 0
			for n := range heard {
				tries++
				got += n
			}
			if tries == 0 || inTheClear != (got > 0) {
				t.Errorf("in %d tries %d bytes came in the clear", tries, got)
			}
		})
	}
}

// withoutTLS answers every request for TLS with no (the byte N) and tells how
// many bytes came after that.
func withoutTLS(l net.Listener, heard chan<- int) {
	defer close(heard)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		request := make([]byte, 8)
		if _, err := io.ReadFull(conn, request); err == nil {
			_, _ = conn.Write([]byte{'N'}) // who went away says nothing either
			n, _ := conn.Read(make([]byte, 1024))
			heard <- n
		}
		conn.Close()
	}
}

// Zitadel and Authelia wrote what came in into pages. There are no pages here;
// whatever comes in is never answered as markup, and no browser may take it for
// any.
func TestKnown_CVE_2025_67495_noMarkupComesBack(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	const script = `<script>alert(1)</script>`
	for _, a := range []answer{
		h.first("GET", "/"+url.PathEscape(script), nil), h.first("GET", "/?x="+url.QueryEscape(script), nil),
		h.first("POST", "/v1/users", fields{"email": script, "password": goodPassword}), h.first("POST", "/v1/login", fields{script: "x"}),
		h.first("POST", "/v1/login", fields{"email": script + "@example.com", "password": script}), h.first("POST", "/v1/refresh", fields{"refresh_token": script}),
		h.first("POST", "/v1/refresh", fields{}, "Origin", "https://"+script), h.first("POST", "/v1/refresh", script, "Content-Type", script),
		h.first("GET", "/v1/me", nil, "Authorization", "Bearer "+script), h.first("DELETE", "/v1/sessions?except="+url.QueryEscape(script), nil, bearer(mine.Field("access_token"))...),
	} {
		if strings.Contains(string(a.Body), "<script") || strings.Contains(fmt.Sprint(a.Header), "<script") {
			t.Errorf("%s %v", a, a.Header)
		}
		media := a.Header.Get("Content-Type")
		if !strings.HasPrefix(media, "application/") || strings.Contains(media, "html") || a.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("an answer is %q, %q: %s", media, a.Header.Get("X-Content-Type-Options"), a)
		}
	}
}

// Zitadel could be made to call addresses inside. The server calls nobody, see
// TestAttack_forgedTokensAtEveryDoor; what package verify fetches is the one URL
// that its service named: not another scheme, and no redirect into the open.
func TestKnown_CVE_2025_67494_fetchesGoWhereTheyWereTold(t *testing.T) {
	for _, target := range []string{
		"http://169.254.169.254/latest/meta-data/", "http://auth.example.com/jwks.json", "http://127.0.0.1.evil.example.com/", "http://localhost.evil.example.com/",
		"file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "//127.0.0.1/", "127.0.0.1", "", "https://user:password@auth.example.com/jwks.json", "http://[::ffff:a9fe:a9fe]/",
	} {
		if keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: target}); err == nil {
			keys.Close()
			t.Errorf("keys may be fetched from %q", target)
		}
	}
	for _, target := range []string{"http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "http://auth.example.com/jwks.json"} {
		t.Run(target, func(t *testing.T) {
			redirects := httptest.NewServer(http.RedirectHandler(target, http.StatusFound))
			defer redirects.Close()
			heard := make(chan verify.Fetch, 1)
			keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: redirects.URL, OnFetch: func(f verify.Fetch) {
				select {
				case heard <- f:
				default:
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer keys.Close()
			if f := <-heard; f.Err == nil || f.Keys != 0 {
				t.Errorf("the fetch: %+v", f)
			} else {
				t.Log(f.Err)
			}
		})
	}
}
