package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"
)

// hsm is a signer that shows nothing but what crypto.Signer asks for.
type hsm struct{ key crypto.Signer }

func (h hsm) Public() crypto.PublicKey { return h.key.Public() }
func (h hsm) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return h.key.Sign(r, digest, opts)
}

func TestMethod_signsWithAnySignerWhatOthersVerify(t *testing.T) {
	for _, a := range Algorithms() {
		t.Run(string(a), func(t *testing.T) {
			made, err := generate(a, 2048)
			if err != nil {
				t.Fatal(err)
			}
			stored, err := marshalPrivate(made)
			if err != nil {
				t.Fatal(err)
			}
			key, err := parsePrivate(a, stored)
			if err != nil {
				t.Fatal(err)
			}
			m := MethodOf(a)
			token := jwt.NewWithClaims(m, jwt.RegisteredClaims{Subject: "ada"})
			text, err := token.SignedString(hsm{key})
			if err != nil {
				t.Fatal(err)
			}
			signing, sig, _ := cutLast(text)
			raw, err := b64.DecodeString(sig)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(signing, raw, key.Public()); err != nil {
				t.Errorf("our own method refuses it: %v", err)
			}
			if theirs := jwt.GetSigningMethod(string(a)); theirs != nil {
				if err := theirs.Verify(signing, raw, key.Public()); err != nil {
					t.Errorf("golang-jwt refuses it: %v", err)
				}
				fromThem, err := theirs.Sign(signing, key)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Verify(signing, fromThem, key.Public()); err != nil {
					t.Errorf("we refuse golang-jwt's: %v", err)
				}
			}
			if err := m.Verify(signing+"x", raw, key.Public()); !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
				t.Errorf("another message: %v", err)
			}
			for _, cut := range [][]byte{nil, raw[:len(raw)-1], append(raw[:len(raw):len(raw)], 0)} {
				if m.Verify(signing, cut, key.Public()) == nil {
					t.Errorf("a signature of %d bytes passes", len(cut))
				}
			}
			raw[len(raw)/2] ^= 1
			if err := m.Verify(signing, raw, key.Public()); !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
				t.Errorf("one bit changed: %v", err)
			}
			for _, other := range Algorithms() {
				if other == a || other == PS256 && a == RS256 || other == RS256 && a == PS256 {
					continue
				}
				if _, err := MethodOf(other).Sign(signing, key); err == nil {
					t.Errorf("%s signs with a key of %s", other, a)
				}
				if err := MethodOf(other).Verify(signing, raw, key.Public()); !errors.Is(err, jwt.ErrInvalidKeyType) {
					t.Errorf("%s verifies with a key of %s: %v", other, a, err)
				}
				if _, err := parsePrivate(other, stored); err == nil && !(len(stored) == 32) {
					t.Errorf("a stored %s key is read as %s", a, other)
				}
			}
		})
	}
}

func cutLast(token string) (signing, sig string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	return token[:i], token[i+1:], i > 0
}

// The examples of RFC 6979, appendices A.2.5 and A.2.6, with the message "sample": a key in
// memory needs no random number for a signature, which a generator that repeats itself
// would turn into the key.
func TestMethod_anECDSAKeyInMemoryNeedsNoRandomNumber(t *testing.T) {
	for a, c := range map[Algorithm]struct {
		curve     elliptic.Curve
		key, r, s string
	}{
		ES256: {
			elliptic.P256(), "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
			"efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716",
			"f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
		},
		ES384: {
			elliptic.P384(), "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d896d5724e4c70a825f872c9ea60d2edf5",
			"94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46",
			"99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8",
		},
	} {
		t.Run(string(a), func(t *testing.T) {
			scalar, err := hex.DecodeString(c.key)
			if err != nil {
				t.Fatal(err)
			}
			key, err := ecdsa.ParseRawPrivateKey(c.curve, scalar)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := MethodOf(a).Sign("sample", key)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(signature); got != c.r+c.s {
				t.Errorf("got %s, want %s", got, c.r+c.s)
			}
		})
	}
}

func TestMethod_refusesWhatIsNoSigner(t *testing.T) {
	if _, err := MethodOf(ES256).Sign("a.b", []byte("an HMAC secret")); err == nil {
		t.Fatal("a byte slice signs")
	}
	if _, err := MethodOf(ES256).Sign("a.b", hsm{malformed{}}); err == nil {
		t.Fatal("a malformed signature of a signer passes")
	}
}

type malformed struct{}

func (malformed) Public() crypto.PublicKey {
	key, _ := generate(ES256, 0)
	return key.Public()
}

func (malformed) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 64), nil // r || s already: a common mistake of adapters
}

func TestJOSESignature_isFixedWidthAndTurnsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{32, 48}).Draw(t, "size")
		number := rapid.Custom(func(t *rapid.T) *big.Int {
			b := rapid.SliceOfN(rapid.Byte(), 1, size).Draw(t, "bytes")
			return new(big.Int).SetBytes(b)
		})
		r, s := number.Draw(t, "r"), number.Draw(t, "s")
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		jose, err := joseSignature(der, size)
		if err != nil {
			t.Fatal(err)
		}
		if len(jose) != 2*size || new(big.Int).SetBytes(jose[:size]).Cmp(r) != 0 || new(big.Int).SetBytes(jose[size:]).Cmp(s) != 0 {
			t.Fatalf("r %d and s %d became %x", r, s, jose)
		}
		again, err := derSignature(jose, size)
		if err != nil || string(again) != string(der) {
			t.Fatalf("%x turned back is %x (%v)", der, again, err)
		}
		bent := append([]byte(nil), der...)
		bent[rapid.IntRange(0, 3).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		joseSignature(bent, size) // must not panic, whatever it says
		joseSignature(bent[:rapid.IntRange(0, len(bent)).Draw(t, "cut")], size)
	})
}

func TestJOSESignature_refusesWhatIsNotDER(t *testing.T) {
	for _, der := range []string{"", "\x30", "\x30\x00", "\x30\x06\x02\x01\x01\x02\x01", "\x30\x06\x02\x01\x81\x02\x01\x01", "\x30\x07\x02\x01\x01\x02\x01\x01\x00", "\x30\x05\x02\x00\x02\x01\x01", "\x31\x06\x02\x01\x01\x02\x01\x01"} {
		if got, err := joseSignature([]byte(der), 32); err == nil {
			t.Errorf("%x became %x", der, got)
		}
	}
}

// The examples of RFC 7638 section 3.1 and RFC 8037 appendix A.3.
func TestThumbprint_ofTheStandards(t *testing.T) {
	n, _ := b64.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	x, _ := b64.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	for _, test := range []struct {
		alg  Algorithm
		key  crypto.PublicKey
		want string
	}{
		{RS256, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{EdDSA, ed25519.PublicKey(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		jwk, err := newJWK(test.alg, test.key)
		if err != nil || jwk.KID != test.want {
			t.Errorf("%s: kid %s (%v), want %s", test.alg, jwk.KID, err, test.want)
		}
	}
}

func TestJWK_membersOfEveryKind(t *testing.T) {
	want := map[Algorithm]string{
		ES256: "alg crv kid kty use x y", ES384: "alg crv kid kty use x y", RS256: "alg e kid kty n use", PS256: "alg e kid kty n use",
		EdDSA: "alg crv kid kty use x", MLDSA44: "alg kid kty pub use", MLDSA65: "alg kid kty pub use",
	}
	for _, a := range Algorithms() {
		key, err := generate(a, 2048)
		if err != nil {
			t.Fatal(err)
		}
		jwk, err := newJWK(a, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(jwk)
		var members map[string]string
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(want[a]) {
			if members[name] == "" {
				t.Errorf("%s lacks %s", a, name)
			}
			delete(members, name)
		}
		if len(members) > 0 {
			t.Errorf("%s has more than it should: %v", a, members)
		}
		if jwk.Alg != string(a) || jwk.Use != "sig" {
			t.Errorf("%s says alg %s, use %s", a, jwk.Alg, jwk.Use)
		}
		if a == ES256 && len(jwk.X) != 43 || a == ES384 && len(jwk.Y) != 64 {
			t.Errorf("%s: a coordinate is not in full width", a)
		}
	}
}

// RFC 9964: the thumbprint of an AKP key covers alg, kty and pub, so one seed
// under two parameter sets can never share a kid.
func TestThumbprint_ofAnAKPKeyCoversTheAlgorithm(t *testing.T) {
	j := JWK{KTY: "AKP", Alg: "ML-DSA-44", Pub: "AA", Use: "sig", KID: "x"}
	other := j
	other.Alg = "ML-DSA-65"
	if j.Thumbprint() == other.Thumbprint() {
		t.Fatal("alg does not count")
	}
	other = j
	other.Use, other.KID = "", ""
	if j.Thumbprint() != other.Thumbprint() {
		t.Fatal("use or kid counts")
	}
}

func TestParsePrivate_refusesASmallRSAKey(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	material, err := marshalPrivate(small)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsePrivate(RS256, material); err == nil {
		t.Fatal("1024 bits are taken")
	}
}

func TestParseAlgorithm(t *testing.T) {
	if a, err := ParseAlgorithm("es256"); a != ES256 || err != nil {
		t.Errorf("es256: %q %v", a, err)
	}
	for _, bad := range []string{"", "none", "HS256", "ES512", string(RootMAC)} {
		if _, err := ParseAlgorithm(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for _, a := range []Algorithm{ES256, EdDSA, RS256} {
		key, _ := generate(a, 2048)
		m, text := MethodOf(a), strings.Repeat("x", 500)
		b.Run(string(a), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Sign(text, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	key, _ := generate(ES256, 0)
	b.Run("ES256 of golang-jwt", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			jwt.SigningMethodES256.Sign(strings.Repeat("x", 500), key)
		}
	})
}
