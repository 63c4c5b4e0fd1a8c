package knownfailures

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/id"
)

// user makes an account and returns its id.
func (h *house) user() id.User {
	h.t.Helper()
	_, uid := h.register()
	return uid
}

// wrong tries a wrong password from an address behind the trusted proxy.
func (h *house) wrong(email, from string) answer {
	h.t.Helper()
	return h.first("POST", "/v1/login", fields{"email": email, "password": "wrong and wrong"}, "X-Forwarded-For", from)
}

// guessesUntilThrottled calls guess until it is refused for having been called
// too often, and returns that answer and how many guesses were verified before.
// Ten are free. A guess may take longer here than the waits that follow, but
// these double, so that seventeen are enough for the slowest machine.
func guessesUntilThrottled(t *testing.T, wrong string, guess func(i int) answer) (verified int, throttled answer) {
	t.Helper()
	for i := range 18 {
		a := guess(i)
		if a.Is(http.StatusTooManyRequests, "too_many_attempts") {
			return i, a
		}
		if a.Field("code") != wrong {
			t.Fatalf("guess %d: %s; want %s", i, a, wrong)
		}
	}
	t.Fatal("18 guesses were verified")
	return 0, answer{}
}

// Keycloak and Zitadel kept an id through a login or a logout: who had planted
// it before shared the session afterwards. Here a login with somebody else's
// cookie makes everything new and ends what was there, and a logout without the
// cookie ends the session all the same.
func TestKnown_CVE_2026_7507_idsChangeAtLogin(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		email, _ := h.register()
		planted, cookie := h.logInCookie(email)
		again, next := h.logInCookie(email, "Cookie", cookie)
		if planted.Field("session_id") == again.Field("session_id") || cookie == next {
			t.Errorf("session %s and cookie outlived a login", again.Field("session_id"))
		}
		if a := h.me(planted.Field("access_token")); !a.Is(http.StatusUnauthorized, "session_ended") {
			t.Errorf("the session whose cookie was replaced: %s", a)
		}
		if a := h.first("POST", "/v1/refresh", nil, "Cookie", cookie); a.Status != http.StatusUnauthorized {
			t.Errorf("its cookie: %s", a)
		}
		invented := "refresh=" + strings.Repeat("A", 77)
		if fresh, set := h.logInCookie(email, "Cookie", invented); set == invented || fresh.Field("session_id") == again.Field("session_id") {
			t.Error("a login took over what the caller invented")
		}
		if a := h.first("POST", "/v1/logout", nil, bearer(again.Field("access_token"))...); a.Status != http.StatusNoContent {
			t.Errorf("logout without the cookie: %s", a)
		}
		if a := h.first("POST", "/v1/refresh", nil, "Cookie", next); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
			t.Errorf("the cookie that was not there at the logout: %s", a)
		}
	})
}

// better-auth counted guesses by the text of an IPv6 address, of which there
// are many for one, and many addresses for one subscriber. Here spellings and
// neighbours count together.
func TestKnown_CVE_2026_45364_spellingsOfOneAddress(t *testing.T) {
	h := onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")
	email, _ := h.register()
	spelled := func(addresses ...string) int {
		n, _ := guessesUntilThrottled(t, "invalid_credentials", func(i int) answer { return h.wrong(email, addresses[i%len(addresses)]) })
		return n
	}
	n := spelled(
		"2001:db8:0:1::1", "2001:DB8:0:1::1", "2001:0db8:0000:0001:0000:0000:0000:0001", "2001:db8:0:1:0:0:0.0.0.1",
		"2001:db8:0:1::2", "2001:db8:0:1:ffff::", "2001:db8:0:1:1:2:3:4", "2001:db8:0:1::f", "2001:db8:0:1::10")
	if n < 10 {
		t.Errorf("%d guesses were free, want 10", n)
	}
	if a := h.wrong(email, "2001:db8:0:2::1"); !a.Is(http.StatusUnauthorized, "invalid_credentials") {
		t.Errorf("another network: %s", a)
	}
	if n := spelled("203.0.113.9", "::ffff:203.0.113.9", "::ffff:cb00:7109", "0:0:0:0:0:ffff:203.0.113.9"); n < 10 {
		t.Errorf("%d guesses were free, want 10", n)
	}
}

// Zitadel and Keycloak checked the limit before the guess and counted after
// it: parallel guesses passed together. Here of 100 at once, at three nodes, no more
// are verified than the budget has.
func TestKnown_CVE_2025_64102_parallelGuesses(t *testing.T) {
	guess := func(t *testing.T, h *house) {
		email, _ := h.register()
		var mu sync.Mutex
		said := map[string]int{}
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				a := h.call(h.nodes[i%len(h.nodes)], "POST", "/v1/login", fields{"email": email, "password": "wrong and wrong"}, "X-Forwarded-For", "198.51.100.7")
				mu.Lock()
				defer mu.Unlock()
				said[a.Field("code")]++
			})
		}
		all.Wait()
		// One more is let through after every wait: 1 s, then 2 s, then 4 s.
		most := 10
		for wait := time.Second; time.Since(begun) >= wait; wait = 2*wait + time.Second {
			most++
		}
		if n := said["invalid_credentials"]; n < 10 || n > most || said["invalid_credentials"]+said["too_many_attempts"]+said["temporarily_unavailable"] != 100 {
			t.Errorf("of 100 parallel guesses were answered: %v", said)
		}
		t.Logf("of 100 parallel guesses: %v", said)
	}
	t.Run("postgres", func(t *testing.T) { t.Parallel(); guess(t, onPostgres(t, 3, "TRUSTED_PROXIES=127.0.0.1")) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); guess(t, onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")) })
}

// Keycloak's lockout was missing on another way to the same password. Here the
// change of a password counts wrong guesses as a login from that session does, so that
// neither way is open where the other one is shut, and a disabled account is refused on
// every way.
func TestKnown_CVE_2026_9798_theOtherWayToThePassword(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		email, uid := h.register()
		mine := h.logIn(email)
		known := bearer(mine.Field("access_token"))
		change := func(current string) answer {
			return h.first("POST", "/v1/me/password", fields{"current_password": current, "new_password": "another good pass phrase"}, known...)
		}
		if n, _ := guessesUntilThrottled(t, "wrong_password", func(int) answer { return change("wrong and wrong") }); n < 10 {
			t.Errorf("%d guesses were free, want 10", n)
		}
		right := fields{"email": email, "password": goodPassword}
		byCookie := fields{"email": email, "password": goodPassword, "transport": "cookie"}
		toAdmin := fields{"email": email, "password": goodPassword, "audience": "admin"}
		for _, body := range []fields{right, byCookie, toAdmin} {
			if a := h.first("POST", "/v1/login", body, known...); !a.Is(http.StatusTooManyRequests, "too_many_attempts") {
				t.Errorf("a login from the session that guessed, as %v: %s", body, a)
			}
		}
		if _, err := h.nodes[0].in.Engine.Accounts().Disable(t.Context(), uid, "operator:test", "test"); err != nil {
			t.Fatal(err)
		}
		for _, body := range []fields{right, byCookie, toAdmin} {
			if a := h.first("POST", "/v1/login", body); !a.Is(http.StatusUnauthorized, "invalid_credentials") {
				t.Errorf("a login to a disabled account, as %v: %s", body, a)
			}
		}
		if a := change(goodPassword); !a.Is(http.StatusUnauthorized, "session_ended") {
			t.Errorf("a password change of a disabled account: %s", a)
		}
	})
}

// Authelia counted by the name that was typed: a user with two spellings had
// two budgets. Here all spellings of an address are one account.
func TestKnown_CVE_2025_24806_spellingsOfOneName(t *testing.T) {
	h := onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")
	email, _ := h.register()
	local, domain, _ := strings.Cut(email, "@")
	names := []string{
		email, strings.ToUpper(email), strings.ToUpper(local) + "@" + domain, local + "@" + strings.ToUpper(domain),
		"P" + email[1:], "pErson" + email[6:],
	}
	if n, _ := guessesUntilThrottled(t, "invalid_credentials", func(i int) answer { return h.wrong(names[i%len(names)], "198.51.100.8") }); n < 10 {
		t.Errorf("%d guesses were free, want 10", n)
	}
}

// Zitadel and Keycloak told by their answers which accounts exist. Here an
// address without an account, a wrong password and a disabled account are
// answered alike, also once they are throttled, and each costs the same hashes.
func TestKnown_CVE_2024_41952_whoHasAnAccount(t *testing.T) {
	h := onSQLite(t, "TRUSTED_PROXIES=127.0.0.1")
	known, _ := h.register()
	disabled, uid := h.register()
	if _, err := h.nodes[0].in.Engine.Accounts().Disable(t.Context(), uid, "operator:test", "test"); err != nil {
		t.Fatal(err)
	}
	imported := fmt.Sprintf("person%d@example.com", people.Add(1))
	address, err := account.ParseEmail(imported)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.nodes[0].in.Engine.Accounts().Create(t.Context(), account.NewUser{ID: id.NewUser(), Email: address, Actor: "operator:test"}); err != nil {
		t.Fatal(err) // somebody who has no password
	}
	var said [][]string
	for i, email := range []string{known, disabled, imported, "nobody@example.com"} {
		var answers []string
		tell := func(a answer) {
			answers = append(answers, fmt.Sprint(a.Status, " ", a.Field("code"), " ", a.Field("title"), " ", a.Field("detail"), " ", a.Header.Get("Retry-After") != ""))
		}
		before := h.hashes()
		for range 4 {
			tell(h.wrong(email, fmt.Sprintf("198.51.100.%d", 20+i)))
		}
		answers = append(answers, fmt.Sprint(h.hashes()-before, " hashes"))
		_, throttled := guessesUntilThrottled(t, "invalid_credentials", func(int) answer { return h.wrong(email, fmt.Sprintf("198.51.100.%d", 20+i)) })
		tell(throttled)
		said = append(said, answers)
	}
	for i := range said[0] {
		if said[0][i] != said[1][i] || said[0][i] != said[2][i] || said[0][i] != said[3][i] {
			t.Errorf("try %d: with an account %q, disabled %q, without a password %q, without an account %q", i, said[0][i], said[1][i], said[2][i], said[3][i])
		}
	}
	if a := h.first("POST", "/v1/login", fields{"email": disabled, "password": goodPassword}, "X-Forwarded-For", "198.51.100.30"); !a.Is(http.StatusUnauthorized, "invalid_credentials") {
		t.Errorf("a disabled account with its right password: %s", a)
	}
	// Registration is the one door that tells, and a network hears it twenty times.
	told := 0
	for i := range 24 {
		email := []string{known, disabled}[i%2]
		a := h.first("POST", "/v1/users", fields{"email": email, "password": goodPassword}, "X-Forwarded-For", "198.51.100.40")
		switch {
		case a.Is(http.StatusConflict, "email_taken"):
			told++
		case !a.Is(http.StatusTooManyRequests, "too_many_requests"):
			t.Errorf("a registration as %s: %s", email, a)
		}
	}
	if told != 20 {
		t.Errorf("a network hears %d times that an address is taken, want 20", told)
	}
	if a := h.first("POST", "/v1/users", fields{"email": "newcomer@example.com", "password": goodPassword}, "X-Forwarded-For", "198.51.100.40"); !a.Is(http.StatusTooManyRequests, "too_many_requests") {
		t.Errorf("a registration as somebody new, from there: %s", a)
	}
}

// hashes is how many password hashes the first node has computed.
func (h *house) hashes() int {
	h.t.Helper()
	ops := &node{URL: h.nodes[0].Ops}
	for line := range strings.SplitSeq(string(h.call(ops, "GET", "/metrics", nil).Body), "\n") {
		if rest, ok := strings.CutPrefix(line, "authserver_password_hash_duration_seconds_count"); ok {
			var n int
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' ')+1:], &n); err != nil {
				h.t.Fatalf("%q: %v", line, err)
			}
			return n
		}
	}
	return 0
}

// Several servers went on giving tokens to who was disabled. Here every way in
// is shut at once, also for tokens that were given before, and opens for new
// logins alone when the account is enabled again.
func TestKnown_CVE_2025_14559_disabledUser(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		email, uid := h.register()
		mine := h.logIn(email)
		browser, cookie := h.logInCookie(email)
		accounts := h.nodes[0].in.Engine.Accounts()
		if _, err := accounts.Disable(t.Context(), uid, "operator:test", "test"); err != nil {
			t.Fatal(err)
		}
		shut := func(when string) {
			for _, d := range bearerDoors[:4] {
				for _, a := range []answer{mine, browser} {
					if d.shows(h, a.Field("access_token")) {
						t.Errorf("%s: %s believes a token from before", when, d.name)
					}
				}
			}
			if d := localDoors[1]; d.shows(h, mine.Field("access_token")) {
				t.Errorf("%s: %s believes a token from before", when, d.name)
			}
			if a := h.refresh(h.nodes[0], mine.Field("refresh_token")); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
				t.Errorf("%s: refresh: %s", when, a)
			}
			if a := h.first("POST", "/v1/refresh", nil, "Cookie", cookie); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
				t.Errorf("%s: refresh by cookie: %s", when, a)
			}
		}
		shut("disabled")
		if a := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword}); !a.Is(http.StatusUnauthorized, "invalid_credentials") {
			t.Errorf("login: %s", a)
		}
		if err := accounts.Enable(t.Context(), uid, "operator:test", "test"); err != nil {
			t.Fatal(err)
		}
		shut("enabled again")
		if a := h.me(h.logIn(email).Field("access_token")); a.Status != http.StatusOK {
			t.Errorf("a new login: %s", a)
		}
	})
}

// nhost kept sessions through a change of password. Here every other session
// ends with it, and a policy that gets stricter counts for living ones.
func TestKnown_GHSA_7hgr_xvrr_xpw3_sessionsAfterAPasswordChange(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		email, uid := h.register()
		mine, other := h.logIn(email), h.logIn(email)
		quiet := h.born(uid, "first-party")
		if a := h.first("POST", "/v1/me/password", fields{"current_password": goodPassword, "new_password": "another good pass phrase"}, bearer(mine.Field("access_token"))...); a.Status != http.StatusNoContent {
			t.Fatalf("change: %s", a)
		}
		if a := h.me(mine.Field("access_token")); a.Status != http.StatusOK {
			t.Errorf("the session that asked: %s", a)
		}
		if a := h.me(other.Field("access_token")); !a.Is(http.StatusUnauthorized, "session_ended") {
			t.Errorf("the other session's access token: %s", a)
		}
		for _, text := range []string{other.Field("refresh_token"), quiet} {
			if a := h.refresh(h.nodes[0], text); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
				t.Errorf("another session's refresh token: %s", a)
			}
		}
		if a := h.first("POST", "/v1/login", fields{"email": email, "password": goodPassword}); a.Status != http.StatusUnauthorized {
			t.Errorf("the old password: %s", a)
		}
		mine = h.rotate(h.nodes[0], mine.Field("refresh_token"))
		// A shorter idle life is for the living, too.
		h.nodes[0].stop()
		h.settings = append(h.settings, "REFRESH_IDLE_TTL=1ms")
		n := h.start()
		if a := h.refresh(n, mine.Field("refresh_token")); !a.Is(http.StatusUnauthorized, "refresh_expired") {
			t.Errorf("a session from before the idle life was shortened: %s", a)
		}
	})
}

// better-auth took whose account it was from the body. Here nobody's identity
// comes from a body, a query or a header, and other people's things are not
// there.
func TestKnown_CVE_2025_61928_identityNeverFromTheBody(t *testing.T) {
	h := onSQLite(t)
	mine, victim := h.person(), h.person()
	theirs := open(t, victim.Field("access_token")).claims
	for _, more := range []string{"id", "user_id", "userId", "sub", "roles", "admin", "session_id", "email_verified", "created_at"} {
		for path, body := range map[string]fields{
			"/v1/users":       {"email": "new@example.com", "password": goodPassword},
			"/v1/login":       {"email": "new@example.com", "password": goodPassword},
			"/v1/refresh":     {"refresh_token": mine.Field("refresh_token")},
			"/v1/logout":      {"refresh_token": "x"},
			"/v1/me/password": {"current_password": goodPassword, "new_password": "another good pass phrase"},
		} {
			body[more] = theirs["sub"]
			if a := h.first("POST", path, body, bearer(mine.Field("access_token"))...); !a.Is(http.StatusBadRequest, "invalid_request") {
				t.Errorf("%s with the member %s: %s", path, more, a)
			}
		}
	}
	for _, path := range []string{"/v1/me?user_id=", "/v1/me?sub=", "/v1/sessions?user_id="} {
		a := h.first("GET", path+fmt.Sprint(theirs["sub"]), nil, append(bearer(mine.Field("access_token")), "X-User-Id", fmt.Sprint(theirs["sub"]))...)
		if strings.Contains(string(a.Body), fmt.Sprint(theirs["sub"])) || strings.Contains(string(a.Body), victim.Field("session_id")) {
			t.Errorf("%s shows somebody else: %s", path, a)
		}
	}
	if a := h.first("DELETE", "/v1/sessions/"+victim.Field("session_id"), nil, bearer(mine.Field("access_token"))...); !a.Is(http.StatusNotFound, "session_not_found") {
		t.Errorf("ending somebody else's session: %s", a)
	}
	h.first("DELETE", "/v1/sessions?except=current", nil, bearer(mine.Field("access_token"))...)
	if a := h.me(victim.Field("access_token")); a.Status != http.StatusOK {
		t.Errorf("the victim: %s", a)
	}
}

// Zitadel gave away ids a second time. Here a thousand of each kind are all
// different, and the ids of what has ended are not handed out again.
func TestKnown_CVE_2026_55670_idsAreNotReused(t *testing.T) {
	h := onSQLite(t)
	uid := h.user()
	seen := map[string]bool{}
	for range 1000 {
		for _, text := range []string{id.NewUser().String(), id.NewSession().String(), id.NewFamily(uid).String(), id.NewEvent().String(), id.NewRequest()} {
			if seen[text] {
				t.Fatalf("%s was made twice", text)
			}
			seen[text] = true
		}
	}
	email, _ := h.register()
	for range 3 {
		a := h.logIn(email)
		if seen[a.Field("session_id")] {
			t.Errorf("session %s is there twice", a.Field("session_id"))
		}
		seen[a.Field("session_id")] = true
		h.first("POST", "/v1/logout", nil, bearer(a.Field("access_token"))...)
	}
}
