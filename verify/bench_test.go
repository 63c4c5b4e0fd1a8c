package verify_test

import (
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/verify"
)

var measured = []string{"ES256", "RS256", "EdDSA"}

func BenchmarkVerify(b *testing.B) {
	benchmarkVerify(b, verify.NoCache)
}

// BenchmarkVerify_again is the second sight of a token.
func BenchmarkVerify_again(b *testing.B) {
	benchmarkVerify(b, 0)
}

func benchmarkVerify(b *testing.B, cache int) {
	for _, alg := range measured {
		b.Run(alg, func(b *testing.B) {
			i := newKey(b, "k1", alg)
			v := verifier(b, func(c *verify.Config) { c.CacheSize = cache }, i)
			raw := i.token(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGolangJWT is the yardstick: golang-jwt's own parsing, checking and
// verifying, with claims of a struct type and the checks it has.
func BenchmarkGolangJWT(b *testing.B) {
	type claims struct {
		jwt.RegisteredClaims
		ClientID  string           `json:"client_id"`
		Scope     string           `json:"scope"`
		SessionID string           `json:"sid"`
		AuthTime  *jwt.NumericDate `json:"auth_time"`
		AMR       []string         `json:"amr"`
		ACR       string           `json:"acr"`
		Roles     []string         `json:"roles"`
	}
	for _, alg := range measured {
		b.Run(alg, func(b *testing.B) {
			i := newKey(b, "k1", alg)
			keys := map[string]crypto.PublicKey{"k1": i.private.Public()}
			parser := jwt.NewParser(jwt.WithValidMethods(measured), jwt.WithIssuer(issuerName), jwt.WithAudience(ourName),
				jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(time.Minute), jwt.WithStrictDecoding(),
				jwt.WithTimeFunc(func() time.Time { return noon }))
			raw := i.token(b)
			b.ReportAllocs()
			for b.Loop() {
				_, err := parser.ParseWithClaims(raw, &claims{}, func(t *jwt.Token) (any, error) {
					kid, _ := t.Header["kid"].(string)
					return keys[kid], nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefuse is what an attacker gets for a request: first without any
// key, then with the name of one.
func BenchmarkRefuse(b *testing.B) {
	i := newKey(b, "k1", "ES256")
	v := verifier(b, nil, i)
	good := i.token(b)
	for name, raw := range map[string]string{
		"unknown kid":   i.with(b, map[string]any{"kid": "k2"}, nil),
		"bad signature": good[:len(good)-6] + "AAAAAA",
		"dots":          strings.Repeat(".", verify.MaxTokenSize),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), raw); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
