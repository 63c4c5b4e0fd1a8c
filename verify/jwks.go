package verify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Key is one public key and the one algorithm it is for.
type Key struct {
	ID        string // kid
	Algorithm string // alg
	// Public is an *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey, or
	// what Algorithm.ParseKey returned.
	Public crypto.PublicKey
}

// KeySet finds the issuer's keys. It must be safe for concurrent use.
type KeySet interface {
	// Key returns the key named kid. The error is ErrUnknownKey when the
	// issuer has no such key, and ErrKeysUnavailable, or any other, when that
	// could not be found out. It may wait, as long as ctx allows.
	Key(ctx context.Context, kid string) (Key, error)
}

const (
	maxKeySet = 1 << 20 // bytes of a JWKS
	maxKeys   = 256
	maxKeyID  = 256 // bytes of a kid
)

// StaticKeys is a key set that never changes, read from a JWKS document.
func StaticKeys(jwks []byte, extra ...Algorithm) (KeySet, error) {
	keys, err := ParseJWKS(jwks, extra...)
	if err != nil {
		return nil, err
	}
	return byID(keys), nil
}

type keyMap map[string]Key

func byID(keys []Key) keyMap {
	m := make(keyMap, len(keys))
	for _, k := range keys {
		m[k.ID] = k
	}
	return m
}

func (m keyMap) Key(_ context.Context, kid string) (Key, error) {
	if k, ok := m[kid]; ok {
		return k, nil
	}
	return Key{}, fmt.Errorf("%w: %s is not among the %d of the set", ErrUnknownKey, brief(kid), len(m))
}

// like puts old keys in the place of new ones that are the same: then whoever
// remembers a key knows it again by its pointer.
func (m keyMap) like(old keyMap) keyMap {
	for id, k := range m {
		if o, ok := old[id]; ok && sameKey(o, k) {
			m[id] = o
		}
	}
	return m
}

// ParseJWKS reads a JWK set (RFC 7517) and returns its signature keys, at
// least one.
//
// Keys that are of no use here are skipped: symmetric ones, other key types,
// curves and algorithms, `use` other than sig, `key_ops` without verify, no
// kid. A set is refused as a whole when it shows that its publisher is in
// trouble: private members, a kid twice, a point off its curve, RSA below 2048
// bits or of the kind that can be factored (CVE-2017-15361), an algorithm that
// does not go with its key, repeated JSON members.
//
// A key without `alg` is for the algorithm of its curve; an RSA key for RS256.
func ParseJWKS(data []byte, extra ...Algorithm) ([]Key, error) {
	if err := checkExtra(extra); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("verify: key set has %d bytes, expected at most %d", len(data), maxKeySet)
	}
	var keys []Key
	found, hasKeys := 0, false
	err := members(data, func(name, value []byte) error {
		if string(name) != "keys" {
			return nil
		}
		hasKeys = true
		return elements(value, func(element []byte) error {
			if found++; found > maxKeys {
				return fmt.Errorf("more than %d keys", maxKeys)
			}
			k, use, err := parseJWK(element, extra)
			if err != nil {
				return fmt.Errorf("key %d: %w", found, err)
			}
			if !use {
				return nil
			}
			if slices.ContainsFunc(keys, func(other Key) bool { return other.ID == k.ID }) {
				return fmt.Errorf("kid %s is there twice", brief(k.ID))
			}
			keys = append(keys, k)
			return nil
		})
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("verify: key set refused: %w", err)
	case !hasKeys:
		return nil, errors.New("verify: key set refused: no member `keys`")
	case len(keys) == 0:
		return nil, fmt.Errorf("verify: key set refused: no key for signatures among its %d", found)
	}
	return keys, nil
}

// jwk has the members that matter here, still encoded.
type jwk struct {
	kty, use, alg, kid, crv string
	n, e, x, y, pub         string
	ops                     []string
	hasOps                  bool
	private                 string // the name of a private member
}

// parseJWK reads one key. use is false for a key to skip.
func parseJWK(data []byte, extra []Algorithm) (k Key, use bool, err error) {
	var j jwk
	if data[0] != '{' {
		return k, false, errNoObject
	}
	if err := members(data, j.set); err != nil {
		return k, false, err
	}
	switch j.kty {
	case "RSA", "EC", "OKP", "AKP":
	default:
		return k, false, nil
	}
	if j.private != "" {
		return k, false, fmt.Errorf("kid %s has the private member %s: whoever published it has to replace it", brief(j.kid), j.private)
	}
	if j.use != "" && j.use != "sig" || j.hasOps && !slices.Contains(j.ops, "verify") || j.kid == "" {
		return k, false, nil
	}
	if len(j.kid) > maxKeyID {
		return k, false, fmt.Errorf("kid %s has %d bytes, expected at most %d", brief(j.kid), len(j.kid), maxKeyID)
	}
	k = Key{ID: j.kid}
	k.Algorithm, k.Public, err = j.public(extra)
	if err != nil {
		return Key{}, false, fmt.Errorf("kid %s: %w", brief(j.kid), err)
	}
	return k, k.Public != nil, nil
}

func (j *jwk) set(name, value []byte) (err error) {
	switch string(name) {
	case "kty":
		j.kty, err = text(value)
	case "use":
		j.use, err = text(value)
	case "alg":
		j.alg, err = text(value)
	case "kid":
		j.kid, err = text(value)
	case "crv":
		j.crv, err = text(value)
	case "n":
		j.n, err = text(value)
	case "e":
		j.e, err = text(value)
	case "x":
		j.x, err = text(value)
	case "y":
		j.y, err = text(value)
	case "pub":
		j.pub, err = text(value)
	case "key_ops":
		j.hasOps = true
		j.ops, err = texts(value)
	case "d", "p", "q", "dp", "dq", "qi", "oth", "priv":
		j.private = string(name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// public returns the algorithm and the key, or no key if it is of a kind that
// we do not use.
func (j *jwk) public(extra []Algorithm) (alg string, pub crypto.PublicKey, err error) {
	switch {
	case j.kty == "RSA":
		alg = "RS256"
	case j.kty == "EC" && j.crv == "P-256":
		alg = "ES256"
	case j.kty == "EC" && j.crv == "P-384":
		alg = "ES384"
	case j.kty == "OKP" && j.crv == "Ed25519":
		alg = "EdDSA"
	case j.kty == "AKP":
		i := slices.IndexFunc(extra, func(a Algorithm) bool { return a.Name == j.alg })
		if i < 0 {
			return "", nil, nil
		}
		raw, err := j.bytes("pub", j.pub)
		if err != nil {
			return "", nil, err
		}
		pub, err = extra[i].ParseKey(raw)
		return j.alg, pub, err
	default:
		return "", nil, nil
	}
	if j.alg != "" && j.alg != alg {
		_, known := builtin[j.alg]
		switch {
		case !known:
			return "", nil, nil // an algorithm that we do not use, such as RS512 or ECDH-ES
		case alg == "RS256" && j.alg == "PS256", alg == "EdDSA" && j.alg == "Ed25519":
			alg = j.alg
		default:
			return "", nil, fmt.Errorf("alg is %s, which does not go with kty %s %s", j.alg, j.kty, j.crv)
		}
	}
	switch j.kty {
	case "RSA":
		pub, err = j.rsa()
	case "EC":
		curve := elliptic.P256()
		if alg == "ES384" {
			curve = elliptic.P384()
		}
		pub, err = j.ecdsa(curve)
	case "OKP":
		pub, err = j.ed25519()
	}
	if err != nil {
		return "", nil, err
	}
	return alg, pub, builtin[alg].fits(pub)
}

func (j *jwk) rsa() (crypto.PublicKey, error) {
	n, err := j.bytes("n", j.n)
	if err != nil {
		return nil, err
	}
	e, err := j.bytes("e", j.e)
	if err != nil {
		return nil, err
	}
	// RFC 7518 section 2: Base64urlUInt has no leading zero octets.
	if n[0] == 0 || e[0] == 0 {
		return nil, errors.New("n or e begins with a zero octet")
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if modulus.Bit(0) == 0 {
		return nil, errors.New("n is even")
	}
	if factorable(modulus) {
		return nil, errors.New("n can be factored (CVE-2017-15361): whoever published it has to replace it")
	}
	if exponent.BitLen() > 31 || exponent.Bit(0) == 0 || exponent.Int64() < 3 {
		return nil, fmt.Errorf("e is of %d bits and maybe even, expected an odd number from 3 to 2^31-1", exponent.BitLen())
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func (j *jwk) ecdsa(curve elliptic.Curve) (crypto.PublicKey, error) {
	size := (curve.Params().BitSize + 7) / 8
	x, err := j.bytes("x", j.x)
	if err != nil {
		return nil, err
	}
	y, err := j.bytes("y", j.y)
	if err != nil {
		return nil, err
	}
	if len(x) != size || len(y) != size {
		return nil, fmt.Errorf("x has %d and y %d bytes, expected %d each", len(x), len(y), size)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("no point on %s: %w", j.crv, err)
	}
	return pub, nil
}

func (j *jwk) ed25519() (crypto.PublicKey, error) {
	x, err := j.bytes("x", j.x)
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("x has %d bytes, expected %d", len(x), ed25519.PublicKeySize)
	}
	return ed25519.PublicKey(x), nil
}

// bytes decodes one member, which must be there.
func (j *jwk) bytes(name, value string) ([]byte, error) {
	if value == "" {
		return nil, fmt.Errorf("%s is missing", name)
	}
	for i := range len(value) {
		if !inAlphabet[value[i]] {
			return nil, fmt.Errorf("%s is no base64url", name)
		}
	}
	b, err := decode(value)
	if err != nil {
		return nil, fmt.Errorf("%s is no base64url: %w", name, err)
	}
	return b, nil
}
