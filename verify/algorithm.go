package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // ES256, RS256, PS256
	_ "crypto/sha512" // ES384
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithm is a signature algorithm that this package does not bring. Its
// keys are JWKs of type AKP (RFC 9964), as those of ML-DSA are.
type Algorithm struct {
	// Name is the `alg` of tokens and keys, such as ML-DSA-44.
	Name string
	// ParseKey makes a public key of the decoded `pub` member, or refuses it.
	ParseKey func(pub []byte) (crypto.PublicKey, error)
	// Verify returns nil only if sig is a signature of signed by pub, which
	// ParseKey made or, if the key set is your own, you did.
	Verify func(pub crypto.PublicKey, signed, sig []byte) error
}

const (
	minRSABits = 2048
	maxRSABits = 8192 // beyond that, one verification takes milliseconds
)

// method is an algorithm in use: what keys fit it and how it verifies.
type method struct {
	fits   func(crypto.PublicKey) error
	verify func(pub crypto.PublicKey, signed string, sig []byte) error
}

// These are instances of our own: golang-jwt's are package variables that
// anybody in the process can change.
var builtin = map[string]method{
	"ES256": ecdsaMethod(&jwt.SigningMethodECDSA{Name: "ES256", Hash: crypto.SHA256, KeySize: 32, CurveBits: 256}, elliptic.P256()),
	"ES384": ecdsaMethod(&jwt.SigningMethodECDSA{Name: "ES384", Hash: crypto.SHA384, KeySize: 48, CurveBits: 384}, elliptic.P384()),
	"RS256": rsaMethod(&jwt.SigningMethodRSA{Name: "RS256", Hash: crypto.SHA256}),
	// RFC 7518 section 3.5: the salt is as long as the hash. golang-jwt's own
	// PS256 takes salts of any length.
	"PS256": rsaMethod(&jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: "PS256", Hash: crypto.SHA256},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}),
	"EdDSA":   ed25519Method,
	"Ed25519": ed25519Method, // the fully specified name of RFC 9864
}

var defaultAlgorithms = []string{"ES256", "RS256", "PS256", "ES384", "EdDSA"}

var ed25519Method = method{
	fits: func(pub crypto.PublicKey) error {
		if k, ok := pub.(ed25519.PublicKey); !ok || len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("it is a %T, expected an ed25519.PublicKey of %d bytes", pub, ed25519.PublicKeySize)
		}
		return nil
	},
	verify: func(pub crypto.PublicKey, signed string, sig []byte) error {
		return (&jwt.SigningMethodEd25519{}).Verify(signed, sig, pub)
	},
}

func ecdsaMethod(m *jwt.SigningMethodECDSA, curve elliptic.Curve) method {
	return method{
		fits: func(pub crypto.PublicKey) error {
			if k, ok := pub.(*ecdsa.PublicKey); !ok || k == nil || k.Curve != curve {
				return fmt.Errorf("it is a %T, expected an *ecdsa.PublicKey on %s", pub, curve.Params().Name)
			}
			return nil
		},
		verify: func(pub crypto.PublicKey, signed string, sig []byte) error { return m.Verify(signed, sig, pub) },
	}
}

func rsaMethod(m jwt.SigningMethod) method {
	return method{
		fits: func(pub crypto.PublicKey) error {
			k, ok := pub.(*rsa.PublicKey)
			if !ok || k == nil || k.N == nil {
				return fmt.Errorf("it is a %T, expected an *rsa.PublicKey", pub)
			}
			if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
				return fmt.Errorf("it has %d bits, expected %d to %d", n, minRSABits, maxRSABits)
			}
			return nil
		},
		verify: func(pub crypto.PublicKey, signed string, sig []byte) error { return m.Verify(signed, sig, pub) },
	}
}

func (a Algorithm) method() method {
	return method{
		fits: func(pub crypto.PublicKey) error {
			if pub == nil {
				return errors.New("it is nil")
			}
			return nil
		},
		verify: func(pub crypto.PublicKey, signed string, sig []byte) error { return a.Verify(pub, []byte(signed), sig) },
	}
}

// allow returns the methods for the listed names, or for the defaults and the
// extra ones if there are no names.
func allow(names []string, extra []Algorithm) (map[string]method, error) {
	if err := checkExtra(extra); err != nil {
		return nil, err
	}
	known := maps.Clone(builtin)
	if len(names) == 0 {
		names = slices.Clone(defaultAlgorithms)
		for _, a := range extra {
			names = append(names, a.Name)
		}
	}
	for _, a := range extra {
		known[a.Name] = a.method()
	}
	methods := make(map[string]method, len(names))
	for _, name := range names {
		m, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("algorithm %q is not available, expected some of %q", name, slices.Sorted(maps.Keys(known)))
		}
		methods[name] = m
	}
	return methods, nil
}

func checkExtra(extra []Algorithm) error {
	seen := map[string]bool{}
	for _, a := range extra {
		_, ours := builtin[a.Name]
		switch {
		case a.Name == "" || a.ParseKey == nil || a.Verify == nil:
			return fmt.Errorf("extra algorithm %q lacks its Name, ParseKey or Verify", a.Name)
		case ours || seen[a.Name]:
			return fmt.Errorf("extra algorithm %q is there already", a.Name)
		case strings.EqualFold(a.Name, "none") || len(a.Name) == len("HS256") && strings.EqualFold(a.Name[:2], "HS"):
			// With a public key as the secret anybody could sign (RFC 8725 section 2.1).
			return fmt.Errorf("extra algorithm %q signs nothing or with a shared secret, expected a public-key algorithm", a.Name)
		}
		seen[a.Name] = true
	}
	return nil
}
