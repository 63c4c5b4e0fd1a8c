package token_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/token"
)

// ringOfOne is a ring with one key.
type ringOfOne struct{ key *ecdsa.PrivateKey }

func (k ringOfOne) Signer(keys.Algorithm) (string, jwt.SigningMethod, crypto.Signer, error) {
	return "the-kid", keys.MethodOf(keys.ES256), k.key, nil
}

// What RFC 9068 section 2 asks of an access token, and what no verifier may be
// asked to overlook: a token from the future, or one that outlives its session.
func TestMint_whatVerifiersRelyOn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	minter := token.NewMinter(ringOfOne{key}, token.Policy{Issuer: "https://auth.example.com", TTL: 10 * time.Minute})
	now := time.Date(2026, time.November, 1, 12, 0, 0, 999_999_000, time.UTC)
	for _, c := range []struct {
		name         string
		until        time.Time
		wantedExpiry time.Time
	}{
		{"a long session", now.Add(time.Hour), time.Date(2026, time.November, 1, 12, 10, 0, 0, time.UTC)},
		{"a session that ends first", now.Add(3 * time.Minute), time.Date(2026, time.November, 1, 12, 3, 0, 0, time.UTC)},
	} {
		minted, err := minter.Mint(token.Grant{
			User: id.NewUser(), Session: id.NewSession(), Client: "a-client", Audience: []string{"an-api"}, AuthTime: now, Until: c.until,
		}, now)
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.RegisteredClaims
		parsed, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(minted.Token.Reveal(), &claims,
			func(*jwt.Token) (any, error) { return &key.PublicKey, nil })
		if err != nil {
			t.Fatal(err)
		}
		if typ, kid := parsed.Header["typ"], parsed.Header["kid"]; typ != "at+jwt" || kid != "the-kid" {
			t.Errorf("%s: typ %v, kid %v; want at+jwt and the-kid", c.name, typ, kid)
		}
		if issued := claims.IssuedAt.Time; issued.After(now) || now.Sub(issued) >= time.Second {
			t.Errorf("%s: issued at %s; want the second of %s", c.name, issued, now)
		}
		if expires := claims.ExpiresAt.Time; !expires.Equal(c.wantedExpiry) {
			t.Errorf("%s: expires at %s; want %s", c.name, expires, c.wantedExpiry)
		}
		if claims.Issuer != "https://auth.example.com" || len(claims.Audience) != 1 || claims.Audience[0] != "an-api" || claims.ID == "" {
			t.Errorf("%s: %+v", c.name, claims)
		}
	}
}

// A token of the second of a revocation is dated the second after, so that the
// feed lets it pass, and no token is ever dated further ahead.
func TestMint_isDatedAfterARevocation(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	minter := token.NewMinter(ringOfOne{key}, token.Policy{Issuer: "https://auth.example.com", TTL: time.Minute, MaxBytes: 4096})
	second := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what           string
		now, from, iat time.Time
	}{
		{"nothing was revoked", second.Add(900 * time.Millisecond), time.Time{}, second},
		{"revoked in this second", second.Add(900 * time.Millisecond), second.Add(time.Second), second.Add(time.Second)},
		{"revoked in this second, asked on its first instant", second, second.Add(time.Second), second.Add(time.Second)},
		{"revoked a second ago", second, second, second},
		{"revoked long ago", second, second.Add(-time.Hour), second},
		{"revoked by a clock that was set back since", second, second.Add(1001 * time.Millisecond), second},
	} {
		minted, err := minter.Mint(token.Grant{User: id.NewUser(), Session: id.NewSession(), Audience: []string{"a"}, From: c.from}, c.now)
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.MapClaims{}
		if _, _, err := jwt.NewParser().ParseUnverified(minted.Token.Reveal(), claims); err != nil {
			t.Fatal(err)
		}
		iat, exp := int64(claims["iat"].(float64)), int64(claims["exp"].(float64))
		if iat != c.iat.Unix() || !minted.IssuedAt.Equal(c.iat) || exp != c.iat.Add(time.Minute).Unix() {
			t.Errorf("%s: iat %d, exp %d; want iat %d and a minute more", c.what, iat, exp, c.iat.Unix())
		}
	}
}

// Claims spell what encoding/json would.
func TestClaims_areJSON(t *testing.T) {
	text, list := rapid.String(), rapid.SliceOfN(rapid.String(), 1, 3)
	rapid.Check(t, func(t *rapid.T) {
		c := token.Claims{
			Issuer: text.Draw(t, "iss"), Subject: text.Draw(t, "sub"), Audience: list.Draw(t, "aud"), ExpiresAt: rapid.Int64().Draw(t, "exp"),
			IssuedAt: rapid.Int64().Draw(t, "iat"), ID: text.Draw(t, "jti"), ClientID: text.Draw(t, "client_id"), Scope: text.Draw(t, "scope"),
			SessionID: text.Draw(t, "sid"), AuthTime: rapid.Int64().Draw(t, "auth_time"), AMR: list.Draw(t, "amr"),
		}
		want := map[string]any{
			"iss": c.Issuer, "sub": c.Subject, "aud": c.Audience, "exp": c.ExpiresAt, "iat": c.IssuedAt, "jti": c.ID, "client_id": c.ClientID,
			"scope": c.Scope, "sid": c.SessionID, "auth_time": c.AuthTime, "amr": c.AMR,
		}
		if len(c.Audience) == 1 {
			want["aud"] = c.Audience[0]
		}
		if rapid.Bool().Draw(t, "roles") {
			c.Roles = list.Draw(t, "roles")
			want["roles"] = c.Roles
		}
		if rapid.Bool().Draw(t, "status") {
			c.Status = &revocation.Place{Index: rapid.Int64().Draw(t, "idx"), URI: text.Draw(t, "uri")}
			want["status"] = map[string]any{"status_list": c.Status}
		}
		spelled, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		read := func(b []byte) (m map[string]any) {
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber()
			if err := d.Decode(&m); err != nil || !json.Valid(b) {
				t.Fatalf("%s: %v", b, err)
			}
			return m
		}
		if diff := cmp.Diff(read(spelled), read(c.Append(nil))); diff != "" {
			t.Fatalf("(-want +got)\n%s", diff)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	minter := token.NewMinter(ringOfOne{key}, token.Policy{Issuer: "https://auth.example.com", TTL: time.Minute, MaxBytes: 4096})
	grant := token.Grant{
		User: id.NewUser(), Session: id.NewSession(), Client: "first-party", Scope: "account", Audience: []string{"https://auth.example.com"},
		AuthTime: time.Now(), AMR: []string{"pwd"}, Until: time.Now().Add(time.Hour),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := minter.Mint(grant, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
