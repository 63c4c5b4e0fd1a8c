package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/token"
)

// ringOfOne is a ring with one key.
type ringOfOne struct{ key *ecdsa.PrivateKey }

func (k ringOfOne) Signer(keys.Algorithm) (string, jwt.SigningMethod, crypto.Signer, error) {
	return "the-kid", jwt.SigningMethodES256, k.key, nil
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
