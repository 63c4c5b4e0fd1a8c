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

// oneKey signs with one ES256 key.
type oneKey struct{ key crypto.Signer }

// Signer implements token.Signing.
func (k oneKey) Signer(keys.Algorithm) (string, jwt.SigningMethod, crypto.Signer, error) {
	return "kid-1", keys.MethodOf(keys.ES256), k.key, nil
}

// A token of the second of a revocation is dated the second after, so that the
// feed lets it pass, and no token is ever dated further ahead.
func TestMint_isDatedAfterARevocation(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	minter := token.NewMinter(oneKey{key}, token.Policy{Issuer: "https://auth.example.com", TTL: time.Minute, MaxBytes: 4096})
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
