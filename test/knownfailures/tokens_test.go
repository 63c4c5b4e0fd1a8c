package knownfailures

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// Keycloak chose the policy by what an unverified header said. Here the header
// only repeats what the key set says: whatever it claims, the algorithm is that
// of the key, and nothing in it is looked up.
func TestKnown_CVE_2026_16093_policyFromAnUnverifiedHeader(t *testing.T) {
	h := onSQLite(t, "KEY_ALGORITHMS=ES256,EdDSA")
	mine := h.person()
	genuine, s := open(t, mine.Field("access_token")), h.signing()
	public := h.public()
	otherKid := ""
	for _, k := range strings.Split(string(public.jwks), `"kid":"`)[1:] {
		if kid := k[:43]; kid != s.kid {
			otherKid = kid
		}
	}
	if otherKid == "" {
		t.Fatal("there is no second key")
	}
	for name, header := range map[string]map[string]any{
		"another published key":            {"kid": otherKid},
		"the algorithm of another key":     {"alg": "EdDSA"},
		"both":                             {"alg": "EdDSA", "kid": otherKid},
		"a policy":                         {"alg": "ES256", "typ": "JWT", "policy": "none"},
		"a key that may not be used so":    {"kid": otherKid, "jwk": map[string]any{"kty": "oct", "k": "AA"}},
		"an algorithm that is not allowed": {"alg": "HS256"},
	} {
		token := s.sign(t, genuine, header, nil)
		for _, d := range jwtDoors {
			if d.shows(h, token) {
				t.Errorf("%s at %s: believed", name, d.name)
			}
		}
	}
	if a := h.me(mine.Field("access_token")); a.Status != http.StatusOK {
		t.Errorf("the genuine token: %s", a)
	}
}

// Keycloak could be filled up: with a scope of a megabyte, and with names that
// are kept once each. Here bodies and headers are bounded before they are
// parsed, and thousands of different kids, hosts, origins and addresses leave
// no memory behind.
func TestKnown_CVE_2026_4634_endlessInput(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	megabyte := strings.Repeat("x", 1<<20)
	for path, body := range map[string]any{
		"/v1/login": fields{"email": "a@example.com", "password": megabyte}, "/v1/users": fields{"email": megabyte, "password": goodPassword},
		"/v1/refresh": fields{"refresh_token": megabyte}, "/v1/logout": fields{"refresh_token": megabyte},
	} {
		if a := h.first("POST", path, body); !a.Is(http.StatusRequestEntityTooLarge, "body_too_large") {
			t.Errorf("%s with a megabyte: %.200s", path, a)
		}
	}
	for name, value := range map[string]string{"Authorization": "Bearer " + megabyte, "Cookie": "refresh=" + megabyte} {
		a, err := h.nodes[0].try(t.Context(), "GET", "/v1/me", nil, name, value)
		if err == nil && a.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s of a megabyte: %d", name, a.Status)
		}
	}
	genuine, s := open(t, mine.Field("access_token")), h.signing()
	before := heap()
	var all sync.WaitGroup
	const callers, each = 32, 60
	for c := range callers {
		all.Go(func() {
			for i := range each {
				n := c*each + i
				token := s.sign(t, genuine, map[string]any{"kid": fmt.Sprintf("kid %d", n)}, nil)
				a := h.first("GET", "/v1/me", nil, "Authorization", "Bearer "+token, "Host", fmt.Sprintf("host%d.example.com", n),
					"Origin", fmt.Sprintf("https://origin%d.example.com", n), "X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255),
					"User-Agent", fmt.Sprintf("agent %d", n), "Accept-Language", fmt.Sprintf("x-%d", n))
				if !a.Is(http.StatusUnauthorized, "token_invalid") {
					t.Errorf("kid %d: %s", n, a)
				}
			}
		})
	}
	all.Wait()
	// The log of the test keeps every request: what it grew by is no leak.
	grown := heap() - before - 3*int64(len(h.nodes[0].log.String()))
	t.Logf("%d different kids, hosts, origins and addresses: the heap grew by %d KiB", callers*each, grown>>10)
	if grown > 2<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func heap() int64 {
	client.CloseIdleConnections()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Libraries of JOSE were brought down by encrypted tokens: compressed bombs,
// endless rounds of PBES2, missing members. Here nothing is decrypted, and the
// JSON serialization is not read.
func TestKnown_CVE_2024_28180_encryptedTokens(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	access := mine.Field("access_token")
	parts := strings.Split(access, ".")
	part := func(text string) string { return b64([]byte(text)) }
	for name, token := range map[string]string{
		"five parts, dir":     part(`{"alg":"dir","enc":"A256GCM"}`) + "..AAAA.AAAA.AAAA",
		"compressed":          part(`{"alg":"dir","enc":"A256GCM","zip":"DEF"}`) + "..AAAA." + strings.Repeat("A", 4000) + ".AAAA",
		"PBES2 without end":   part(`{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483647,"p2s":"AAAA"}`) + ".AAAA.AAAA.AAAA.AAAA",
		"PBES2 in a JWS":      part(`{"alg":"PBES2-HS512+A256KW","p2c":2147483647,"p2s":"AAAA"}`) + ".AAAA.AAAA",
		"the genuine one and": access + ".AAAA.AAAA",
		"flattened":           `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"general":             `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"no protected header": `{"payload":"` + parts[1] + `","signatures":[{"signature":"` + parts[2] + `"}]}`,
		"protected is null":   `{"protected":null,"payload":"` + parts[1] + `","signature":""}`,
		"no members":          `{}`,
	} {
		begun := time.Now()
		for _, d := range jwtDoors {
			if d.shows(h, token) {
				t.Errorf("%s at %s: believed", name, d.name)
			}
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s took %s", name, took)
		}
	}
}

// golang-jwt and go-jose split a header of dots into as many pieces. Here a
// token of dots costs the verifier no allocation at all, and the endpoints
// refuse it.
func TestKnown_CVE_2025_30204_aHeaderOfDots(t *testing.T) {
	h := onSQLite(t)
	v := h.verifier()
	for name, token := range map[string]string{
		"dots": strings.Repeat(".", 16<<10), "a megabyte of dots": strings.Repeat(".", 1<<20), "pieces": strings.Repeat("a.", 8<<10),
	} {
		claims, err := v.Verify(t.Context(), token)
		if claims != nil || !errors.Is(err, verify.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, claims, err)
		}
		least := math.Inf(1)
		for range 5 { // the server in this process allocates, too
			least = min(least, testing.AllocsPerRun(20, func() { _, _ = v.Verify(t.Context(), token) }))
		}
		if least > 0 {
			t.Errorf("%s: %v allocations", name, least)
		}
		if len(token) < 30<<10 {
			if a := h.me(token); !a.Is(http.StatusUnauthorized, "token_invalid") {
				t.Errorf("%s: %s", name, a)
			}
		}
	}
}

// golang-jwt v4 joined its errors: who asked for "expired" first took a token
// with a bad signature for an old one. Here expiry is what is said last, and no
// error comes with claims.
func TestKnown_CVE_2024_51744_expiredHidesABadSignature(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	genuine, s := open(t, mine.Field("access_token")), h.signing()
	thief := newThief(t, s.kid)
	old := map[string]any{"iat": time.Now().Add(-2 * time.Hour).Unix(), "exp": time.Now().Add(-time.Hour).Unix()}
	for name, c := range map[string]struct {
		token string
		want  error
		code  string
	}{
		"expired alone":           {s.sign(t, genuine, nil, old), verify.ErrExpired, "token_expired"},
		"and a thief's":           {thief.sign(t, genuine, nil, old), verify.ErrSignature, "token_invalid"},
		"and of another issuer":   {s.sign(t, genuine, nil, changed(old, map[string]any{"iss": "https://other.example.com"})), verify.ErrIssuer, "token_invalid"},
		"and for another service": {s.sign(t, genuine, nil, changed(old, map[string]any{"aud": "other"})), verify.ErrAudience, "token_invalid"},
		"and no access token":     {s.sign(t, genuine, map[string]any{"typ": "JWT"}, old), verify.ErrType, "token_invalid"},
	} {
		claims, err := h.verifier().Verify(t.Context(), c.token)
		if claims != nil || !errors.Is(err, c.want) || c.want != verify.ErrExpired && errors.Is(err, verify.ErrExpired) {
			t.Errorf("%s: %v, %v", name, claims, err)
		}
		if a := h.me(c.token); !a.Is(http.StatusUnauthorized, c.code) {
			t.Errorf("%s: %s", name, a)
		}
		if c.want != verify.ErrExpired { // which a logout takes
			if a := h.first("POST", "/v1/logout", nil, bearer(c.token)...); a.Status != http.StatusUnauthorized {
				t.Errorf("%s, at the logout: %s", name, a)
			}
		}
	}
	if a := h.me(mine.Field("access_token")); a.Status != http.StatusOK {
		t.Errorf("the session after all that: %s", a)
	}
}

// Vault compared an audience it should not have. Here an audience is one of a
// list, whole and byte for byte.
func TestKnown_CVE_2024_5798_audience(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	genuine, s := open(t, mine.Field("access_token")), h.signing()
	for _, c := range []struct {
		aud  any
		good bool
	}{
		{issuer, true},
		{[]string{issuer}, true},
		{[]string{"x", issuer}, true},
		{nil, false},
		{"", false},
		{[]string{}, false},
		{issuer + "/", false},
		{issuer[:len(issuer)-1], false},
		{issuer + "x", false},
		{strings.ToUpper(issuer), false},
		{"*", false},
		{issuer + "," + "x", false},
		{issuer + " x", false},
		{[]string{"x", "y"}, false},
		{[]any{issuer, 1}, false},
		{[]any{[]string{issuer}}, false},
		{map[string]any{"aud": issuer}, false},
		{true, false},
		{issuer + "/admin", false},
		{"first-party", false},
	} {
		token := s.sign(t, genuine, nil, map[string]any{"aud": c.aud})
		for _, d := range append(append([]door{}, bearerDoors[:2]...), localDoors...) {
			if got := d.shows(h, token); got != c.good {
				t.Errorf("aud %v at %s: believed is %v", c.aud, d.name, got)
			}
		}
	}
}

// Oathkeeper's cache of introspections had a key that two tokens could share.
// Whatever package verify remembers of a good token says nothing about another
// one that differs in a single bit.
func TestKnown_CVE_2026_33496_oneTokensVerdictForAnother(t *testing.T) {
	h := onSQLite(t)
	v := h.verifier()
	good := h.person().Field("access_token")
	for at := range len(good) {
		if good[at] == '.' {
			continue
		}
		if _, err := v.Verify(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		for _, bit := range []byte{1, 2, 32} {
			if claims, err := v.Verify(t.Context(), good[:at]+string(rune(good[at]^bit))+good[at+1:]); err == nil || claims != nil {
				t.Fatalf("character %d: %v, %v", at, claims, err)
			}
		}
	}
	dot := strings.LastIndexByte(good, '.')
	for _, other := range []string{good[:dot+1], good[:dot], good + "A", good[dot+1:], h.person().Field("access_token")[:dot] + good[dot:]} {
		if claims, err := v.Verify(t.Context(), other); err == nil || claims != nil {
			t.Errorf("%.30s...: %v, %v", other, claims, err)
		}
	}
}
