package verifytest_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/verify"
	"example.com/authserver/verify/verifytest"
)

func TestMint_goodAndBad(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	h := api(auth.Verifier(audience, func(c *verify.Config) { c.CacheSize = verify.NoCache }))
	for name, tt := range map[string]struct {
		change func(*verifytest.Token)
		want   int
	}{
		"good":               {func(*verifytest.Token) {}, 200},
		"old enough to die":  {func(k *verifytest.Token) { k.IssuedAt = time.Now().Add(-9 * time.Minute) }, 200},
		"type in long":       {func(k *verifytest.Token) { k.Type = "application/at+jwt" }, 200},
		"another scope":      {func(k *verifytest.Token) { k.Scope = "orders:write" }, 403},
		"another audience":   {func(k *verifytest.Token) { k.Audience = "x" }, 401},
		"expired":            {func(k *verifytest.Token) { k.Expired = true }, 401},
		"short":              {func(k *verifytest.Token) { k.IssuedAt, k.Life = time.Now().Add(-time.Hour), time.Minute }, 401},
		"forged":             {func(k *verifytest.Token) { k.Forged = true }, 401},
		"none":               {func(k *verifytest.Token) { k.Algorithm = "none" }, 401},
		"HS256":              {func(k *verifytest.Token) { k.Algorithm = "HS256" }, 401},
		"RS256":              {func(k *verifytest.Token) { k.Algorithm = "RS256" }, 401},
		"an ID token":        {func(k *verifytest.Token) { k.Type = "JWT" }, 401},
		"unknown key":        {func(k *verifytest.Token) { k.KeyID = "nobody" }, 401},
		"no expiry":          {func(k *verifytest.Token) { k.Claims = map[string]any{"exp": nil} }, 401},
		"no subject":         {func(k *verifytest.Token) { k.Claims = map[string]any{"sub": nil} }, 401},
		"critical extension": {func(k *verifytest.Token) { k.Header = map[string]any{"crit": []string{"x"}} }, 401},
	} {
		t.Run(name, func(t *testing.T) {
			token := verifytest.Token{Audience: audience, Scope: "orders:read"}
			tt.change(&token)
			if got := ask(t, h, auth.Mint(token)); got != tt.want {
				t.Errorf("status is %d, expected %d", got, tt.want)
			}
		})
	}
}

func TestMint_saysWhatItWasTold(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	got, err := auth.Verifier(audience).Verify(t.Context(), auth.Mint(verifytest.Token{
		Audience: audience, Subject: "bob", SessionID: "s7", ClientID: "app", Scope: "a b", Roles: []string{"editor"},
		Claims: map[string]any{"tenant": 7},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != auth.URL() || got.Subject != "bob" || got.SessionID != "s7" || got.ClientID != "app" || !got.HasScope("b") ||
		!got.HasRole("editor") || string(got.Extra("tenant")) != "7" || got.KeyID != auth.KeyID() || got.ID == "" {
		t.Errorf("claims are %+v", got)
	}
}

func TestRotate_nobodyNotices(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	v := auth.Verifier(audience)
	var tokens []string
	for range 5 {
		tokens = append(tokens, auth.Mint(verifytest.Token{Audience: audience}))
		before := auth.KeyID()
		if auth.Rotate() == before || auth.KeyID() == before {
			t.Fatal("the same key signs")
		}
		for _, raw := range tokens {
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRevoke_overTheNetwork(t *testing.T) {
	for name, revoke := range map[string]func(*verifytest.Issuer){
		"session": func(i *verifytest.Issuer) { i.RevokeSession("session of ada") },
		"grant":   func(i *verifytest.Issuer) { i.RevokeGrant("session of ada", "first-party") },
		"user":    func(i *verifytest.Issuer) { i.RevokeUser("ada") },
		"client":  func(i *verifytest.Issuer) { i.RevokeClient("first-party") },
		"key":     func(i *verifytest.Issuer) { i.RevokeKey(i.KeyID()) },
		"all":     func(i *verifytest.Issuer) { i.RevokeAll() },
	} {
		t.Run(name, func(t *testing.T) {
			auth := verifytest.NewIssuer(t)
			v := auth.Verifier(audience)
			old := auth.Mint(verifytest.Token{Audience: audience, IssuedAt: time.Now().Add(-time.Minute)})
			if _, err := v.Verify(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			revoke(auth)
			if _, err := v.Verify(t.Context(), old); !errors.Is(err, verify.ErrRevoked) {
				t.Errorf("the old token: %v", err)
			}
			if _, err := v.Verify(t.Context(), auth.Mint(verifytest.Token{Audience: audience})); err != nil {
				t.Errorf("a new token: %v", err)
			}
		})
	}
}

func TestRevokeKey_ofSuccessorsAndRetiredOnes(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	v := auth.Verifier(audience)
	first := auth.KeyID()
	old := auth.Mint(verifytest.Token{Audience: audience})
	auth.Rotate()
	auth.RevokeKey(first)
	if _, err := v.Verify(t.Context(), old); !errors.Is(err, verify.ErrRevoked) {
		t.Errorf("the retired key's token: %v", err)
	}
	active := auth.KeyID()
	set := kids(t, auth)
	if len(set) != 5 || set[0] != active {
		t.Fatalf("published are %v", set)
	}
	auth.RevokeKey(set[1])
	if now := kids(t, auth); len(now) != 5 || now[0] != active || now[1] != set[2] {
		t.Errorf("published are %v, before they were %v", now, set)
	}
}

func kids(t *testing.T, auth *verifytest.Issuer) (names []string) {
	t.Helper()
	var set struct{ Keys []struct{ Kid string } }
	resp := get(t, auth, auth.KeysURL(), nil)
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		names = append(names, k.Kid)
	}
	return names
}

func get(t *testing.T, auth *verifytest.Issuer, url string, header http.Header) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := auth.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// said is a statement as any reader finds it on the wire.
type said struct {
	Iss     string
	Iat     int64
	Seq     int64
	After   int64
	Entries []struct {
		Seq       int64
		Kind, ID  string
		NotBefore int64 `json:"not_before"`
		Until     int64
	}
}

func parse(t *testing.T, jws string) (header map[string]any, s said) {
	t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no compact JWS", jws)
	}
	for n, into := range []any{&header, &s} {
		text, err := base64.RawURLEncoding.DecodeString(parts[n])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, s
}

// The wire format, read without package verify.
func TestFeed_wireFormat(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	begun := time.Now()
	auth.RevokeUser("eve")
	auth.RevokeSession("s1")
	resp := get(t, auth, auth.FeedURL(), nil)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	header, s := parse(t, string(body))
	if diff := cmp.Diff(map[string]any{"alg": "ES256", "kid": auth.KeyID(), "typ": "revocations+jwt"}, header); diff != "" {
		t.Error(diff)
	}
	if s.Iss != auth.URL() || s.Seq != 2 || s.After != 0 || len(s.Entries) != 2 || s.Iat < begun.Unix() {
		t.Fatalf("it says %+v", s)
	}
	sum := sha256.Sum256([]byte("user:eve"))
	e := s.Entries[0]
	if e.Seq != 1 || e.Kind != "user" || e.ID != base64.RawURLEncoding.EncodeToString(sum[:16]) || len(e.ID) != 22 ||
		e.NotBefore < begun.Unix() || e.Until != e.NotBefore+600+120 {
		t.Errorf("the entry is %+v", e)
	}
	for name, want := range map[string]string{"Content-Type": "application/revocations+jwt", "Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, expected %q", name, got, want)
		}
	}
	etag := resp.Header.Get("ETag")
	if again := get(t, auth, auth.FeedURL(), http.Header{"If-None-Match": {etag}}); !strings.HasPrefix(etag, `W/"`) || again.StatusCode != http.StatusNotModified {
		t.Errorf("ETag %s, then %s", etag, again.Status)
	}
	for query, want := range map[string]struct {
		status       int
		after, count int64
	}{
		"?after=0": {200, 0, 2}, "?after=1": {200, 1, 1}, "?after=2": {200, 2, 0}, "?after=99": {200, 0, 2}, "?after=-1": {status: 400},
		"?after=x": {status: 400}, "?after=9007199254740992": {status: 400}, "?after=9007199254740991": {200, 0, 2},
	} {
		resp := get(t, auth, auth.FeedURL()+query, nil)
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want.status {
			t.Errorf("%s: %s, %v", query, resp.Status, err)
		}
		if want.status != 200 {
			continue
		}
		if _, s := parse(t, string(body)); s.After != want.after || int64(len(s.Entries)) != want.count {
			t.Errorf("%s: it says %+v", query, s)
		}
	}
}

func TestFeed_stream(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	auth.RevokeUser("eve")
	resp := get(t, auth, auth.FeedURL()+"?after=0", http.Header{"Accept": {"text/event-stream"}, "Last-Event-ID": {"1"}})
	in := bufio.NewScanner(resp.Body)
	event := func() (id string, s said) {
		for in.Scan() && in.Text() != "" {
			name, value, _ := strings.Cut(in.Text(), ": ")
			switch name {
			case "id":
				id = value
			case "event":
				if value != "revocations" {
					t.Errorf("event is %q", value)
				}
			case "data":
				_, s = parse(t, value)
			}
		}
		return id, s
	}
	if id, s := event(); id != "1" || s.After != 1 || s.Seq != 1 || len(s.Entries) != 0 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("the first event is %s: %+v", id, s)
	}
	auth.RevokeSession("s1")
	if id, s := event(); id != "2" || s.After != 1 || s.Seq != 2 || len(s.Entries) != 1 {
		t.Errorf("the second event is %s: %+v", id, s)
	}
}

func TestStream_aSignOfLifeEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		resp := get(t, auth, auth.FeedURL(), http.Header{"Accept": {"text/event-stream"}})
		begun := time.Now()
		in := bufio.NewScanner(resp.Body)
		alive := 0
		for alive < 3 && in.Scan() {
			if in.Text() == ": alive" {
				alive++
			}
		}
		if took := time.Since(begun); alive != 3 || took != 30*time.Second {
			t.Errorf("%d signs of life in %v", alive, took)
		}
	})
}

func TestFail(t *testing.T) {
	for fault, want := range map[verifytest.Fault]string{
		verifytest.Unreachable: "EOF", verifytest.Silent: "deadline", verifytest.Status500: "500", verifytest.EmptySet: "no key",
	} {
		auth := verifytest.NewIssuer(t)
		auth.Fail(fault)
		heard := make(chan verify.Fetch, 100)
		keys := auth.Keys(func(c *verify.RemoteConfig) {
			c.Timeout = time.Second
			c.OnFetch = func(f verify.Fetch) { heard <- f }
		})
		if f := <-heard; f.Err == nil || !strings.Contains(f.Err.Error(), want) {
			t.Errorf("fault %d: %v, expected %q", fault, f.Err, want)
		}
		auth.Fail(verifytest.None)
		for f := range heard {
			if f.Err == nil {
				break
			}
		}
		if _, err := keys.Key(t.Context(), auth.KeyID()); err != nil {
			t.Errorf("fault %d: afterwards %v", fault, err)
		}
	}
}

// Everything also works without sockets, on synctest's clock.
func TestNewInProcess_anHourInAnInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v := auth.Verifier(audience)
		raw := auth.Mint(verifytest.Token{Audience: audience})
		auth.Delay(time.Second)
		time.Sleep(time.Hour)
		if _, err := v.Verify(t.Context(), raw); !errors.Is(err, verify.ErrExpired) {
			t.Error(err)
		}
		old := auth.Mint(verifytest.Token{Audience: audience, IssuedAt: time.Now().Add(-time.Second)})
		auth.RevokeUser("ada")
		if _, err := v.Verify(t.Context(), old); !errors.Is(err, verify.ErrRevoked) {
			t.Error(err)
		}
		auth.Fail(verifytest.Unreachable)
		time.Sleep(time.Hour)
		if _, err := v.Verify(t.Context(), auth.Mint(verifytest.Token{Audience: audience})); err != nil {
			t.Errorf("with keys of an hour ago: %v", err)
		}
	})
}
