package verify_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"filippo.io/mldsa"
	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/verify"
)

var mldsaParams = mldsa.MLDSA44()

// secretsFrom returns what an attacker would try as an HMAC secret.
func secretsFrom(t *testing.T, i *issuer) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(i.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"DER":   der,
		"PEM":   pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"JWK":   []byte(toJSON(t, i.jwk())),
		"kid":   []byte(i.kid),
		"empty": {},
	}
}

// One key, one algorithm: RS256 and PS256 share their kind of key, so do EdDSA
// and Ed25519, and only the key set says which of the two it is for.
func TestVerify_aKeyIsForItsOwnAlgorithmOnly(t *testing.T) {
	for published, used := range map[string]string{"RS256": "PS256", "PS256": "RS256", "EdDSA": "Ed25519", "Ed25519": "EdDSA"} {
		i := newKey(t, "k1", published)
		v := verifier(t, func(c *verify.Config) { c.Algorithms = []string{published, used} }, i)
		if _, err := v.Verify(t.Context(), i.token(t)); err != nil {
			t.Fatal(err)
		}
		other := newKey(t, "k1", used)
		other.private = i.private // sign uses it
		refused(t, v, other.token(t), verify.ErrAlgorithm)
	}
}

// RFC 7518 section 3.5: the salt of PS256 has 32 bytes.
func TestVerify_saltOfAnotherLength(t *testing.T) {
	i := newKey(t, "k1", "PS256")
	v := verifier(t, nil, i)
	for salt, want := range map[int]error{20: verify.ErrSignature, 32: nil, 64: verify.ErrSignature} {
		i.sign = func(signed string) ([]byte, error) {
			sum := sha256.Sum256([]byte(signed))
			return i.private.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
		}
		if want != nil {
			refused(t, v, i.token(t), want)
		} else if _, err := v.Verify(t.Context(), i.token(t)); err != nil {
			t.Errorf("salt of %d bytes: %v", salt, err)
		}
	}
}

func signHS(t *testing.T, alg string, secret []byte, header, claims map[string]any) string {
	t.Helper()
	method := jwt.GetSigningMethod(alg)
	hs := &issuer{sign: func(signed string) ([]byte, error) { return method.Sign(signed, secret) }}
	return hs.raw(t, toJSON(t, header), toJSON(t, claims))
}
