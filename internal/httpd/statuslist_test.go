package httpd_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func statusLists(p *plan) { p.statusLists = true }

// unpacked reads lst as a verifier does, by the draft's own words and none of
// this server's code.
func unpacked(t testing.TB, lst string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(lst)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	bits, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return bits
}

func bit(bits []byte, index int64) byte { return bits[index/8] >> (index % 8) & 1 }

// The reader of these tests reads the draft's own example.
func TestStatusList_theReaderReadsTheExampleOfTheDraft(t *testing.T) {
	bits := unpacked(t, "eNrbuRgAAhcBXQ")
	if len(bits) != 2 {
		t.Fatalf("%x", bits)
	}
	for index, want := range []byte{1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1} {
		if bit(bits, int64(index)) != want {
			t.Errorf("status %d is %d, want %d", index, bit(bits, int64(index)), want)
		}
	}
}

type place struct {
	Index int64  `json:"idx"`
	URI   string `json:"uri"`
}

// placeOf returns what a token says of its status.
func placeOf(t *testing.T, token string) (p place, ok bool) {
	t.Helper()
	var claims struct {
		Status *struct {
			List place `json:"status_list"`
		} `json:"status"`
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	if claims.Status == nil {
		return place{}, false
	}
	return claims.Status.List, true
}

// list fetches and verifies the list that a token names, and returns its bits.
func (h *house) list(p place) []byte {
	h.t.Helper()
	a := h.do("GET", strings.TrimPrefix(p.URI, issuer), nil, header("Accept", "application/statuslist+jwt")).is(200)
	if a.Header.Get("Content-Type") != "application/statuslist+jwt" || a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("Cache-Control") != "public, max-age=30" {
		h.t.Errorf("%v", a.Header)
	}
	var claims struct {
		jwt.RegisteredClaims
		TTL  int64 `json:"ttl"`
		List struct {
			Bits int    `json:"bits"`
			Lst  string `json:"lst"`
		} `json:"status_list"`
	}
	now := h.clock.Now()
	parsed, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(h.clock.Now), jwt.WithIssuedAt(), jwt.WithExpirationRequired()).
		ParseWithClaims(string(a.body), &claims, func(t *jwt.Token) (any, error) {
			_, key, ok := h.ring.Public(fmt.Sprint(t.Header["kid"]))
			if !ok {
				return nil, fmt.Errorf("unknown kid %v", t.Header["kid"])
			}
			return key, nil
		})
	if err != nil {
		h.t.Fatal(err)
	}
	if parsed.Header["typ"] != "statuslist+jwt" || claims.Subject != p.URI || claims.Issuer != issuer || claims.List.Bits != 1 || claims.TTL != 30 || !claims.ExpiresAt.After(now) {
		h.t.Errorf("header %v, claims %+v", parsed.Header, claims)
	}
	bits := unpacked(h.t, claims.List.Lst)
	if len(bits) != 1<<17/8 {
		h.t.Fatalf("a list of %d bytes", len(bits))
	}
	return bits
}

func TestStatusList_tellsWhatEnded(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first, second := h.login("ada@example.com"), h.login("ada@example.com")
		h.read()
		a, ok := placeOf(t, first.Access)
		b, _ := placeOf(t, second.Access)
		if !ok || a == b || a.URI != issuer+"/v1/status/0" || a.Index < 1 {
			t.Fatalf("%+v and %+v", a, b)
		}
		// 700 without the claim, which repeats the issuer and is spelled in base64.
		if n := len(first.Access); n > 700+(len(a.URI)+60)*4/3 {
			t.Errorf("a token has %d bytes", n)
		}
		renewed := into[tokens](h.refresh(first.Refresh).is(200))
		replayed := into[tokens](h.refresh(first.Refresh).is(200))
		for _, again := range []tokens{renewed, replayed} {
			if p, _ := placeOf(t, again.Access); p != a {
				t.Errorf("after a refresh the place is %+v, want %+v", p, a)
			}
		}
		if bits := h.list(a); bit(bits, a.Index) != 0 || bit(bits, b.Index) != 0 || !bytes.Equal(bits, make([]byte, len(bits))) {
			t.Error("a living session is marked")
		}
		before := h.do("GET", "/v1/status/0", nil)

		h.logout(first)
		h.read()
		bits := h.list(a)
		if bit(bits, a.Index) != 1 || bit(bits, b.Index) != 0 {
			t.Errorf("after a logout: %d and %d, want 1 and 0", bit(bits, a.Index), bit(bits, b.Index))
		}
		bits[a.Index/8] ^= 1 << (a.Index % 8)
		if !bytes.Equal(bits, make([]byte, len(bits))) {
			t.Error("more is marked than what ended")
		}
		after := h.do("GET", "/v1/status/0", nil, header("If-None-Match", before.Header.Get("Etag"))).is(200)
		h.do("GET", "/v1/status/0", nil, header("If-None-Match", after.Header.Get("Etag"))).is(304)
		h.do("HEAD", "/v1/status/0", nil).is(200)

		h.advance(20 * time.Minute) // no token of that session lives any more
		h.read()
		if bits := h.list(a); bit(bits, a.Index) != 0 {
			t.Error("what has passed is still marked")
		}
		for _, path := range []string{"/v1/status/1", "/v1/status/-1", "/v1/status/00", "/v1/status/x", "/v1/status/9007199254740993", "/v1/status/+0"} {
			h.do("GET", path, nil).refused(404, "not_found")
		}
		h.do("GET", "/v1/status/0?time=1764150000", nil).refused(400, "invalid_request")
	}, statusLists)
}

func TestStatusList_isOffUnlessAskedFor(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	if p, ok := placeOf(t, h.login("ada@example.com").Access); ok {
		t.Errorf("a token names %+v", p)
	}
	h.do("GET", "/v1/status/0", nil).refused(404, "not_found")
}
