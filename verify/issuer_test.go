package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"

	"filippo.io/mldsa"
	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/verify"
)

const (
	issuerName = "https://auth.example.com"
	ourName    = "https://api.example.com"
)

// noon is the time at which the tests of this package happen.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// issuer signs whatever it is told to: unlike a real one it has no opinion on
// headers and claims.
type issuer struct {
	kid, alg string
	private  crypto.Signer
	sign     func(signed string) ([]byte, error)
}

// newKey makes an issuer for alg, one of those that are verified.
func newKey(t testing.TB, kid, alg string) *issuer {
	t.Helper()
	i := &issuer{kid: kid, alg: alg}
	var err error
	method := jwt.GetSigningMethod(alg)
	switch alg {
	case "ES256":
		i.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		i.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "RS256", "PS256":
		i.private = rsaKey()
	case "EdDSA", "Ed25519":
		_, i.private, err = ed25519.GenerateKey(rand.Reader)
		method = jwt.SigningMethodEdDSA
	case "ML-DSA-44", "ML-DSA-65":
		params := mldsa.MLDSA44()
		if alg == "ML-DSA-65" {
			params = mldsa.MLDSA65()
		}
		i.private, err = mldsa.GenerateKey(params)
		i.sign = func(signed string) ([]byte, error) {
			return i.private.Sign(nil, []byte(signed), &mldsa.Options{})
		}
	default:
		t.Fatalf("no keys for %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	if i.sign == nil {
		i.sign = func(signed string) ([]byte, error) { return method.Sign(signed, i.private) }
	}
	return i
}

// rsaKey is shared: making one takes a while.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// header is the one of a good token.
func (i *issuer) header() map[string]any {
	return map[string]any{"alg": i.alg, "typ": "at+jwt", "kid": i.kid}
}

// claims are those of a good token, ten minutes old at most.
func (i *issuer) claims() map[string]any {
	return map[string]any{
		"iss": issuerName, "sub": "usr_4f0c", "aud": ourName, "client_id": "first-party",
		"exp": noon.Add(10 * time.Minute).Unix(), "iat": noon.Unix(), "jti": "at_1b2c",
		"scope": "orders:read orders:write", "sid": "ses_99", "auth_time": noon.Add(-time.Hour).Unix(),
		"amr": []string{"pwd"}, "acr": "1", "roles": []string{"admin"},
	}
}

// token is a good one.
func (i *issuer) token(t testing.TB) string {
	t.Helper()
	return i.with(t, nil, nil)
}

// with is a good token but for the given members; a nil value takes one away.
func (i *issuer) with(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	return i.raw(t, toJSON(t, changed(i.header(), header)), toJSON(t, changed(i.claims(), claims)))
}

// raw signs any two texts.
func (i *issuer) raw(t testing.TB, header, payload string) string {
	t.Helper()
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	signature, err := i.sign(signed)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}

// jwk is the public key as the server publishes it.
func (i *issuer) jwk() map[string]any {
	j := map[string]any{"kid": i.kid, "alg": i.alg, "use": "sig"}
	switch pub := i.private.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		j["kty"], j["crv"] = "EC", pub.Curve.Params().Name
		j["x"], j["y"] = b64(point[1:1+half]), b64(point[1+half:])
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(pub)
	case *mldsa.PublicKey:
		j["kty"], j["pub"] = "AKP", b64(pub.Bytes())
	default:
		panic(fmt.Sprintf("no JWK for %T", pub))
	}
	return j
}

// jwks is a key set document of these issuers.
func jwks(t testing.TB, issuers ...*issuer) []byte {
	t.Helper()
	keys := []map[string]any{}
	for _, i := range issuers {
		keys = append(keys, i.jwk())
	}
	return []byte(toJSON(t, map[string]any{"keys": keys}))
}

// verifier believes these issuers, at noon unless change says otherwise.
func verifier(t testing.TB, change func(*verify.Config), issuers ...*issuer) *verify.Verifier {
	t.Helper()
	keys, err := verify.StaticKeys(jwks(t, issuers...), mlDSA...)
	if err != nil {
		t.Fatal(err)
	}
	c := verify.Config{Issuer: issuerName, Audience: ourName, Keys: keys, Now: func() time.Time { return noon }}
	if change != nil {
		change(&c)
	}
	v, err := verify.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mlDSA is how a service adds the post-quantum algorithms (RFC 9964).
var mlDSA = []verify.Algorithm{
	mlDSAOf("ML-DSA-44", mldsa.MLDSA44()),
	mlDSAOf("ML-DSA-65", mldsa.MLDSA65()),
}

func mlDSAOf(name string, params mldsa.Parameters) verify.Algorithm {
	return verify.Algorithm{
		Name:     name,
		ParseKey: func(pub []byte) (crypto.PublicKey, error) { return mldsa.NewPublicKey(params, pub) },
		Verify: func(pub crypto.PublicKey, signed, sig []byte) error {
			key, ok := pub.(*mldsa.PublicKey)
			if !ok {
				return fmt.Errorf("key is a %T", pub)
			}
			return mldsa.Verify(key, signed, sig, nil)
		},
	}
}

func changed(m, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func toJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// markOf is how the feed names what is revoked.
func markOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return b64(sum[:16])
}
