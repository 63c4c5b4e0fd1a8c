// Package benchmark measures package verify beside what services use instead.
// It is a module of its own, so that its rivals are nobody's dependency.
package benchmark

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"syscall"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/verify"
)

const (
	issuer   = "https://auth.example.com"
	audience = "https://api.example.com"
	kid      = "k1"

	// distinct is how many tokens a first sight is taken of in turn: more than
	// small, the size of the cache there, so each is verified and remembered.
	distinct, small = 1024, 64
)

// party has one key and what it signs.
type party struct {
	alg    string
	public crypto.PublicKey
	jwks   []byte
	tokens []string
}

// claims are those of an access token of authserver, typed as golang-jwt wants.
type claims struct {
	jwt.RegisteredClaims
	ClientID  string           `json:"client_id"`
	Scope     string           `json:"scope"`
	SessionID string           `json:"sid"`
	AuthTime  *jwt.NumericDate `json:"auth_time"`
	AMR       []string         `json:"amr"`
	Roles     []string         `json:"roles"`
}

func newParty(b testing.TB, alg string) *party {
	b.Helper()
	var private crypto.Signer
	var err error
	jwk := map[string]string{"kid": kid, "alg": alg, "use": "sig"}
	switch alg {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "RS256":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		b.Fatal(err)
	}
	switch pub := private.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			b.Fatal(err)
		}
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", b64(pub)
	}
	p := &party{alg: alg, public: private.Public()}
	if p.jwks, err = json.Marshal(map[string]any{"keys": []any{jwk}}); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for n := range distinct {
		t := jwt.NewWithClaims(jwt.GetSigningMethod(alg), claims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer: issuer, Subject: "usr_01jb2m6q3v8x9t4w5y7z0c1d2e", Audience: jwt.ClaimStrings{audience}, ID: fmt.Sprintf("at_%022d", n),
				ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour)), IssuedAt: jwt.NewNumericDate(now),
			},
			ClientID: "first-party", Scope: "orders:read orders:write", SessionID: "ses_01jb2m6q3v8x9t4w5y7z0c1d2e",
			AuthTime: jwt.NewNumericDate(now), AMR: []string{"pwd"}, Roles: []string{"editor"},
		})
		t.Header["typ"], t.Header["kid"] = "at+jwt", kid
		raw, err := t.SignedString(private)
		if err != nil {
			b.Fatal(err)
		}
		p.tokens = append(p.tokens, raw)
	}
	return p
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// checker returns an error for a bad token.
type checker func(ctx context.Context, raw string) error

// Contestants, by name. Each checks signature, issuer, audience and expiry;
// verify also the type and every claim that RFC 9068 requires.
var contestants = []struct {
	name string
	make func(b testing.TB, p *party) checker
}{
	{"verify", func(b testing.TB, p *party) checker { return p.verifier(b, small) }},
	{"golang-jwt", func(_ testing.TB, p *party) checker {
		return p.golangJWT(func(*jwt.Token) (any, error) { return p.public, nil })
	}},
	{"golang-jwt+keyfunc", func(b testing.TB, p *party) checker {
		keys, err := keyfunc.NewJWKSetJSON(p.jwks)
		if err != nil {
			b.Fatal(err)
		}
		return p.golangJWT(keys.Keyfunc)
	}},
	{"go-oidc", func(_ testing.TB, p *party) checker {
		v := oidc.NewVerifier(issuer, &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{p.public}},
			&oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{p.alg}})
		return func(ctx context.Context, raw string) error {
			t, err := v.Verify(ctx, raw)
			if err != nil {
				return err
			}
			return t.Claims(&claims{})
		}
	}},
}

func (p *party) verifier(b testing.TB, cache int) checker {
	b.Helper()
	keys, err := verify.StaticKeys(p.jwks)
	if err != nil {
		b.Fatal(err)
	}
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: audience, Keys: keys, CacheSize: cache})
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, raw string) error {
		_, err := v.Verify(ctx, raw)
		return err
	}
}

func (p *party) golangJWT(keys jwt.Keyfunc) checker {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{p.alg}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(time.Minute), jwt.WithStrictDecoding())
	return func(_ context.Context, raw string) error {
		_, err := parser.ParseWithClaims(raw, &claims{}, keys)
		return err
	}
}

var algorithms = []string{"ES256", "RS256", "EdDSA"}

// BenchmarkFirstSight takes tokens that were not seen lately. For verify that
// includes remembering each.
func BenchmarkFirstSight(b *testing.B) {
	for _, alg := range algorithms {
		p := newParty(b, alg)
		for _, c := range contestants {
			b.Run(alg+"/"+c.name, func(b *testing.B) { p.run(b, c.make(b, p), p.tokens) })
		}
	}
}

// BenchmarkSecondSight takes one token again and again, as an API does that a
// client calls more than once in ten minutes. The rivals remember nothing.
func BenchmarkSecondSight(b *testing.B) {
	for _, alg := range algorithms {
		p := newParty(b, alg)
		b.Run(alg+"/verify", func(b *testing.B) { p.run(b, p.verifier(b, 0), p.tokens[:1]) })
	}
}

// BenchmarkRatio lets all of them take turns within one measurement and goes by
// the CPU time of this process, garbage collection included: what others do on
// the machine hits all alike. Targets: golang-jwt-per-first at least 1,
// golang-jwt-per-second at least 50.
func BenchmarkRatio(b *testing.B) {
	for _, alg := range algorithms {
		b.Run(alg, func(b *testing.B) {
			p := newParty(b, alg)
			var names []string
			var checks []checker
			for _, c := range contestants {
				names, checks = append(names, c.name), append(checks, c.make(b, p))
			}
			second := p.verifier(b, 0)
			const many = 100 // second sights in the time of a first one
			spent := make([]time.Duration, len(checks)+1)
			for b.Loop() {
				for i, check := range checks {
					spent[i] += turn(b, check, p.tokens)
				}
				for range many {
					spent[len(checks)] += turn(b, second, p.tokens[:1])
				}
			}
			ops := float64(b.N) * turnLength
			first, again := spent[0], spent[len(checks)]/many
			b.ReportMetric(0, "ns/op") // of a whole round: says nothing
			b.ReportMetric(float64(first)/ops, "first-cpu-ns")
			b.ReportMetric(float64(again)/ops, "second-cpu-ns")
			for i := 1; i < len(checks); i++ {
				b.ReportMetric(float64(spent[i])/float64(first), names[i]+"-per-first")
				b.ReportMetric(float64(spent[i])/float64(again), names[i]+"-per-second")
			}
		})
	}
}

const turnLength = distinct // every token once

func turn(b *testing.B, check checker, tokens []string) time.Duration {
	b.Helper()
	ctx := b.Context()
	begun := cpu(b)
	for n := range turnLength {
		if err := check(ctx, tokens[n%len(tokens)]); err != nil {
			b.Fatal(err)
		}
	}
	return cpu(b) - begun
}

// cpu is what this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkParallel takes a thousand tokens again and again on every core.
func BenchmarkParallel(b *testing.B) {
	p := newParty(b, "ES256")
	check := p.verifier(b, 0)
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if err := check(b.Context(), p.tokens[n%len(p.tokens)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func (p *party) run(b *testing.B, check checker, tokens []string) {
	b.Helper()
	ctx := b.Context()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := check(ctx, tokens[n%len(tokens)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
