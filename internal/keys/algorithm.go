package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"filippo.io/mldsa"
)

// Algorithm is a JWS algorithm by its registered name. A key has exactly one
// (RFC 8725 section 3.1).
type Algorithm string

// The algorithms. ML-DSA is RFC 9964.
const (
	ES256   Algorithm = "ES256"
	RS256   Algorithm = "RS256"
	PS256   Algorithm = "PS256"
	ES384   Algorithm = "ES384"
	EdDSA   Algorithm = "EdDSA"
	MLDSA44 Algorithm = "ML-DSA-44"
	MLDSA65 Algorithm = "ML-DSA-65"

	// RootMAC stands in the algorithm column of refresh root keys. It is no JWS
	// algorithm of this server and never published.
	RootMAC Algorithm = "HMAC-SHA-256"
)

// Algorithms lists the signing algorithms, in the order in which the key set
// shows them: those that every verifier knows first.
func Algorithms() []Algorithm {
	return []Algorithm{ES256, RS256, PS256, ES384, EdDSA, MLDSA44, MLDSA65}
}

// Signs reports whether a is one of Algorithms.
func (a Algorithm) Signs() bool { return slices.Contains(Algorithms(), a) }

// ParseAlgorithm reads a name as RFC 7518, RFC 8037 and RFC 9964 register it;
// upper and lower case are the same.
func ParseAlgorithm(name string) (Algorithm, error) {
	for _, a := range Algorithms() {
		if strings.EqualFold(name, string(a)) {
			return a, nil
		}
	}
	return "", fmt.Errorf("algorithm %.40q: want one of %s", name, joinAlgorithms(Algorithms()))
}

func joinAlgorithms(list []Algorithm) string {
	names := make([]string, len(list))
	for i, a := range list {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// generate makes a new private key. RSA takes up to seconds; rsaBits is used
// for RSA alone.
func generate(a Algorithm, rsaBits int) (crypto.Signer, error) {
	switch a {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ES384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RS256, PS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case MLDSA44, MLDSA65:
		return mldsa.GenerateKey(a.mldsa())
	}
	return nil, fmt.Errorf("generate a key: unknown algorithm %q", a)
}

func (a Algorithm) mldsa() mldsa.Parameters {
	if a == MLDSA65 {
		return mldsa.MLDSA65()
	}
	return mldsa.MLDSA44()
}

// marshalPrivate returns what is sealed: PKCS #8, or the 32-byte seed of an
// ML-DSA key (FIPS 204; the expanded form is never stored).
func marshalPrivate(key crypto.Signer) ([]byte, error) {
	if k, ok := key.(*mldsa.PrivateKey); ok {
		return k.Bytes(), nil
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// parsePrivate reads what marshalPrivate wrote and checks that it is a key of
// that algorithm: the row names the algorithm, the key must agree.
func parsePrivate(a Algorithm, material []byte) (crypto.Signer, error) {
	if a == MLDSA44 || a == MLDSA65 {
		return mldsa.NewPrivateKey(a.mldsa(), material)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok || !fits(a, key.Public()) {
		return nil, fmt.Errorf("a %T is no key for %s", parsed, a)
	}
	return key, nil
}

// fits reports whether public is a key of algorithm a.
func fits(a Algorithm, public crypto.PublicKey) bool {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return a == ES256 && k.Curve == elliptic.P256() || a == ES384 && k.Curve == elliptic.P384()
	case *rsa.PublicKey:
		return (a == RS256 || a == PS256) && k.N.BitLen() >= 2048
	case ed25519.PublicKey:
		return a == EdDSA
	case *mldsa.PublicKey:
		return (a == MLDSA44 || a == MLDSA65) && k.Parameters() == a.mldsa()
	}
	return false
}
