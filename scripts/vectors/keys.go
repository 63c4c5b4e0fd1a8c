package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"filippo.io/mldsa"
)

// signer signs whatever it is told to, with a key that follows from its name.
type signer struct {
	kid, alg string
	private  crypto.Signer
	sign     func(signed string) ([]byte, error)
}

// keys are those of the issuer, and one each of a thief who names his the same.
type keys struct {
	es256, es384, rs256, ps256, eddsa, mldsa *signer
	thief, thiefRSA                          *signer
}

func newKeys() (*keys, error) {
	k := &keys{}
	for _, one := range []struct {
		to               **signer
		kid, alg, secret string
	}{
		{&k.es256, "es256", "ES256", "issuer"},
		{&k.es384, "es384", "ES384", "issuer"},
		{&k.rs256, "rs256", "RS256", "issuer"},
		{&k.ps256, "ps256", "PS256", "issuer"},
		{&k.eddsa, "eddsa", "EdDSA", "issuer"},
		{&k.mldsa, "ml-dsa-44", "ML-DSA-44", "issuer"},
		{&k.thief, "es256", "ES256", "thief"},
		{&k.thiefRSA, "rs256", "RS256", "thief"},
	} {
		s, err := newSigner(one.kid, one.alg, one.secret)
		if err != nil {
			return nil, fmt.Errorf("%s key %s: %w", one.alg, one.kid, err)
		}
		*one.to = s
	}
	return k, nil
}

func newSigner(kid, alg, secret string) (*signer, error) {
	s := &signer{kid: kid, alg: alg}
	seed := bytesOf(fmt.Sprintf("%s of the %s", alg, secret), 64)
	var err error
	switch alg {
	case "ES256":
		s.private, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:32])
		s.sign = s.ecdsa(crypto.SHA256, 32)
	case "ES384":
		s.private, err = ecdsa.ParseRawPrivateKey(elliptic.P384(), seed[:48])
		s.sign = s.ecdsa(crypto.SHA384, 48)
	case "RS256":
		s.private, err = rsaKey(secret)
		s.sign = s.rsa(crypto.SHA256)
	case "PS256":
		s.private, err = rsaKey(secret + " for PSS")
		s.sign = s.pss(32)
	case "EdDSA":
		s.private = ed25519.NewKeyFromSeed(seed[:32])
		s.sign = func(signed string) ([]byte, error) { return s.private.Sign(nil, []byte(signed), crypto.Hash(0)) }
	case "ML-DSA-44":
		var private *mldsa.PrivateKey
		private, err = mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[:32])
		s.private = private
		s.sign = func(signed string) ([]byte, error) {
			return private.SignDeterministic([]byte(signed), &mldsa.Options{})
		}
	default:
		err = fmt.Errorf("no keys for %s", alg)
	}
	return s, err
}

// ecdsa signs as RFC 6979 says, which needs no randomness, and spells the
// signature as RFC 7518 section 3.4 does.
func (s *signer) ecdsa(hash crypto.Hash, size int) func(string) ([]byte, error) {
	return func(signed string) ([]byte, error) {
		der, err := s.private.Sign(nil, digest(hash, signed), hash)
		if err != nil {
			return nil, err
		}
		var pair struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &pair); err != nil {
			return nil, err
		}
		both := make([]byte, 2*size)
		pair.R.FillBytes(both[:size])
		pair.S.FillBytes(both[size:])
		return both, nil
	}
}

func (s *signer) rsa(hash crypto.Hash) func(string) ([]byte, error) {
	return func(signed string) ([]byte, error) { return s.private.Sign(nil, digest(hash, signed), hash) }
}

// pss signs with a salt that follows from what is signed.
func (s *signer) pss(salt int) func(string) ([]byte, error) {
	return func(signed string) ([]byte, error) {
		return s.private.Sign(bytes.NewReader(bytesOf(signed, 64)), digest(crypto.SHA256, signed), &rsa.PSSOptions{SaltLength: salt, Hash: crypto.SHA256})
	}
}

func digest(hash crypto.Hash, text string) []byte {
	h := hash.New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// rsaKey makes a key of 2048 bits from a name. Nobody else should do that.
func rsaKey(name string) (*rsa.PrivateKey, error) {
	p, q := prime(name+" p"), prime(name+" q")
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, Primes: []*big.Int{p, q}}
	k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), phi)
	k.Precompute()
	return k, k.Validate()
}

// prime returns a prime of 1024 bits with its two highest bits set.
func prime(name string) *big.Int {
	b := bytesOf(name, 128)
	b[0] |= 0xc0
	b[127] |= 1
	n, two, e := new(big.Int).SetBytes(b), big.NewInt(2), big.NewInt(65537)
	for rest := new(big.Int); rest.Mod(n, e).Int64() == 1 || !n.ProbablyPrime(20); {
		n.Add(n, two)
	}
	return n
}

// bytesOf returns n bytes that follow from a name.
func bytesOf(name string, n int) []byte {
	var out []byte
	for i := uint32(0); len(out) < n; i++ {
		sum := sha512.Sum512(binary.BigEndian.AppendUint32([]byte("authserver test vectors: "+name), i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// jwk is the public key.
func (s *signer) jwk() map[string]any {
	j := map[string]any{"kid": s.kid, "alg": s.alg, "use": "sig"}
	switch pub := s.private.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err) // of a key made here
		}
		half := len(point) / 2
		j["kty"], j["crv"], j["x"], j["y"] = "EC", pub.Curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes())
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(pub)
	case *mldsa.PublicKey:
		j["kty"], j["pub"] = "AKP", b64(pub.Bytes())
	}
	return j
}

// set is the key set of the issuer.
func (k *keys) set() string {
	return setOf(k.es256.jwk(), k.rs256.jwk(), k.ps256.jwk(), k.es384.jwk(), k.eddsa.jwk())
}

func setOf(jwks ...map[string]any) string { return toJSON(map[string]any{"keys": jwks}) }

// header is the one of a good token.
func (s *signer) header() map[string]any {
	return map[string]any{"alg": s.alg, "typ": "at+jwt", "kid": s.kid}
}

// claims are those of a good token, fresh from the issuer.
func goodClaims() map[string]any {
	return map[string]any{
		"iss": issuer, "sub": "user-1", "aud": audience, "client_id": "first-party", "jti": "token-1",
		"iat": now, "exp": now + 600, "scope": "orders:read orders:write", "sid": "session-1",
		"auth_time": now - 3600, "amr": []string{"pwd"}, "acr": "1", "roles": []string{"editor"},
	}
}

// token is a good one.
func (s *signer) token() string { return s.with(nil, nil) }

// with is a good token but for the given members; nil takes one away.
func (s *signer) with(header, claims map[string]any) string {
	return s.raw(toJSON(changed(s.header(), header)), toJSON(changed(goodClaims(), claims)))
}

// raw signs any two texts.
func (s *signer) raw(header, payload string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	sig, err := s.sign(signed)
	if err != nil {
		panic(err) // of a key made here
	}
	return signed + "." + b64(sig)
}

func changed(m, changes map[string]any) map[string]any {
	m = maps.Clone(m)
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // of maps and strings made here
	}
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// parts cuts a token; join puts it together.
func parts(token string) []string {
	at := []int{}
	for i, c := range token {
		if c == '.' {
			at = append(at, i)
		}
	}
	return []string{token[:at[0]], token[at[0]+1 : at[1]], token[at[1]+1:]}
}

// signatureOf decodes the signature of a token made here.
func signatureOf(token string) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(parts(token)[2])
	if err != nil {
		panic(err)
	}
	return slices.Clip(raw)
}
