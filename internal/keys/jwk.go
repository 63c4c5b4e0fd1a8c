package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"

	"filippo.io/mldsa"
)

// JWK is a public signing key as RFC 7517 writes it. The order of the fields
// is the order in the key set, so that all nodes write the same bytes.
type JWK struct {
	KTY string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	KID string `json:"kid"`
	CRV string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	Pub string `json:"pub,omitempty"` // kty AKP, RFC 9964
}

var b64 = base64.RawURLEncoding

// newJWK returns public as a JWK for signatures with its thumbprint as kid.
func newJWK(a Algorithm, public crypto.PublicKey) (JWK, error) {
	if !fits(a, public) {
		return JWK{}, fmt.Errorf("a %T is no key for %s", public, a)
	}
	jwk := JWK{Use: "sig", Alg: string(a)}
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		// The uncompressed point: 4, then both coordinates in full width, as
		// RFC 7518 section 6.2.1.2 wants them.
		point, err := k.Bytes()
		if err != nil {
			return JWK{}, err
		}
		half := len(point) / 2
		jwk.KTY, jwk.CRV = "EC", k.Curve.Params().Name
		jwk.X, jwk.Y = b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:])
	case *rsa.PublicKey:
		jwk.KTY = "RSA"
		jwk.N = b64.EncodeToString(k.N.Bytes())
		jwk.E = b64.EncodeToString(big.NewInt(int64(k.E)).Bytes())
	case ed25519.PublicKey:
		jwk.KTY, jwk.CRV, jwk.X = "OKP", "Ed25519", b64.EncodeToString(k)
	case *mldsa.PublicKey:
		jwk.KTY, jwk.Pub = "AKP", b64.EncodeToString(k.Bytes())
	}
	jwk.KID = jwk.Thumbprint()
	return jwk, nil
}

// Thumbprint returns the RFC 7638 thumbprint, SHA-256 in base64url: over the
// required members of the key type alone, in lexicographic order. Every value
// is base64url or a registered name, so nothing needs escaping.
func (j JWK) Thumbprint() string {
	var members string
	switch j.KTY {
	case "EC":
		members = `{"crv":"` + j.CRV + `","kty":"EC","x":"` + j.X + `","y":"` + j.Y + `"}`
	case "RSA":
		members = `{"e":"` + j.E + `","kty":"RSA","n":"` + j.N + `"}`
	case "OKP": // RFC 8037 section 2
		members = `{"crv":"` + j.CRV + `","kty":"OKP","x":"` + j.X + `"}`
	case "AKP": // RFC 9964: alg is required, one key has one parameter set
		members = `{"alg":"` + j.Alg + `","kty":"AKP","pub":"` + j.Pub + `"}`
	}
	sum := sha256.Sum256([]byte(members))
	return b64.EncodeToString(sum[:])
}

// writeSet returns the JWK set, without white space.
func writeSet(keys []JWK) []byte {
	body, err := json.Marshal(struct {
		Keys []JWK `json:"keys"`
	}{keys})
	if err != nil { // strings alone: cannot happen
		panic(err)
	}
	return body
}
