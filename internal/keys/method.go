package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // crypto.SHA256
	_ "crypto/sha512" // crypto.SHA384
	"errors"
	"fmt"
	"io"

	"filippo.io/mldsa"
	"github.com/golang-jwt/jwt/v5"
)

// Method is a jwt.SigningMethod that signs with any crypto.Signer, so that a
// key may live in an HSM or a KMS; golang-jwt's own methods take concrete key
// types alone. Verify takes a public key of the standard library (ML-DSA: of
// filippo.io/mldsa), never a private one.
type Method struct {
	alg  Algorithm
	hash crypto.Hash // 0 where the algorithm takes the message itself
	opts crypto.SignerOpts
	size int // of one coordinate of an ECDSA signature, in bytes
}

var _ jwt.SigningMethod = (*Method)(nil)

// One of each; a method has no state.
var methods = map[Algorithm]*Method{
	ES256: {alg: ES256, hash: crypto.SHA256, opts: crypto.SHA256, size: 32},
	ES384: {alg: ES384, hash: crypto.SHA384, opts: crypto.SHA384, size: 48},
	RS256: {alg: RS256, hash: crypto.SHA256, opts: crypto.SHA256},
	// RFC 7518 section 3.5: the salt is as long as the hash.
	PS256:   {alg: PS256, hash: crypto.SHA256, opts: &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}},
	EdDSA:   {alg: EdDSA, opts: crypto.Hash(0)},
	MLDSA44: {alg: MLDSA44, opts: crypto.Hash(0)},
	MLDSA65: {alg: MLDSA65, opts: crypto.Hash(0)},
}

// MethodOf returns the signing method of a, or nil where a signs nothing.
func MethodOf(a Algorithm) *Method { return methods[a] }

// Alg implements jwt.SigningMethod: the value of the alg header.
func (m *Method) Alg() string { return string(m.alg) }

// Sign implements jwt.SigningMethod. key is a crypto.Signer whose public key
// is of this algorithm.
func (m *Method) Sign(signingString string, key any) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("sign with %s: got a %T, want a crypto.Signer", m.alg, key)
	}
	// One algorithm per key, checked where it is used: an RSA key handed to
	// ES256 would otherwise give a well-formed token that nobody can verify.
	if !fits(m.alg, signer.Public()) {
		return nil, fmt.Errorf("sign with %s: a %T is no key for it", m.alg, signer.Public())
	}
	return m.sign(signingString, signer)
}

// sign is Sign for a key that was checked when it was read.
func (m *Method) sign(signingString string, signer crypto.Signer) ([]byte, error) {
	sig, err := signer.Sign(nonces(signer), m.digest(signingString), m.opts)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", m.alg, err)
	}
	if m.size == 0 {
		return sig, nil
	}
	return joseSignature(sig, m.size)
}

// nonces is where signer takes the secret number of each signature from. An ECDSA key in
// memory derives it from itself and the message (RFC 6979): a random generator that
// repeats itself gives no key away, and the derivation costs half of what the standard
// library does with a generator. A fault of the machine could give it away only while the
// same message is signed twice, and no two tokens are the same.
func nonces(signer crypto.Signer) io.Reader {
	if _, inMemory := signer.(*ecdsa.PrivateKey); inMemory {
		return nil
	}
	return rand.Reader
}

func (m *Method) digest(signingString string) []byte {
	if m.hash == 0 {
		return []byte(signingString)
	}
	h := m.hash.New()
	h.Write([]byte(signingString))
	return h.Sum(nil)
}

// Verify implements jwt.SigningMethod. It returns nil for a good signature and
// jwt.ErrTokenSignatureInvalid for a bad one.
func (m *Method) Verify(signingString string, sig []byte, key any) error {
	if !fits(m.alg, key) {
		return fmt.Errorf("verify %s with a %T: %w", m.alg, key, jwt.ErrInvalidKeyType)
	}
	digest := m.digest(signingString)
	good := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		der, err := derSignature(sig, m.size)
		good = err == nil && ecdsa.VerifyASN1(k, digest, der)
	case *rsa.PublicKey:
		if m.alg == PS256 {
			good = rsa.VerifyPSS(k, m.hash, digest, sig, m.opts.(*rsa.PSSOptions)) == nil
		} else {
			good = rsa.VerifyPKCS1v15(k, m.hash, digest, sig) == nil
		}
	case ed25519.PublicKey:
		good = ed25519.Verify(k, digest, sig)
	case *mldsa.PublicKey:
		good = mldsa.Verify(k, digest, sig, nil) == nil
	}
	if !good {
		return jwt.ErrTokenSignatureInvalid
	}
	return nil
}

var errMalformedSignature = errors.New("the signer's ECDSA signature is not a DER sequence of two integers that fit the curve")

// joseSignature turns the ASN.1 signature SEQUENCE { r, s } of a crypto.Signer
// into r || s, each size bytes wide (RFC 7518 section 3.4). It takes DER with
// one-byte lengths alone: 104 bytes are the most that P-384 can need.
func joseSignature(der []byte, size int) ([]byte, error) {
	bad := errMalformedSignature
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 || der[1] >= 0x80 {
		return nil, bad
	}
	out, rest := make([]byte, 2*size), der[2:]
	for half := range 2 {
		if len(rest) < 2 || rest[0] != 0x02 || int(rest[1]) > len(rest)-2 || rest[1] == 0 {
			return nil, bad
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		if n[0] >= 0x80 { // negative
			return nil, bad
		}
		for len(n) > 0 && n[0] == 0 {
			n = n[1:]
		}
		if len(n) > size {
			return nil, bad
		}
		copy(out[(half+1)*size-len(n):], n)
	}
	if len(rest) != 0 {
		return nil, bad
	}
	return out, nil
}

// derSignature is the way back.
func derSignature(sig []byte, size int) ([]byte, error) {
	if len(sig) != 2*size {
		return nil, fmt.Errorf("an ECDSA signature of %d bytes, want %d", len(sig), 2*size)
	}
	der := make([]byte, 2, 2*size+8)
	der[0] = 0x30
	for _, n := range [][]byte{sig[:size], sig[size:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		der = append(der, 0x02)
		if n[0] >= 0x80 {
			der = append(der, byte(len(n)+1), 0)
		} else {
			der = append(der, byte(len(n)))
		}
		der = append(der, n...)
	}
	der[1] = byte(len(der) - 2)
	return der, nil
}
