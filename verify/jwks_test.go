package verify_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/verify"
)

// set is a JWKS document of these keys.
func set(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	return []byte(toJSON(t, map[string]any{"keys": keys}))
}

func TestParseJWKS_readsEveryKindOfKey(t *testing.T) {
	var issuers []*issuer
	for _, alg := range []string{"ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519", "ML-DSA-44", "ML-DSA-65"} {
		issuers = append(issuers, newKey(t, "kid of "+alg, alg))
	}
	keys, err := verify.ParseJWKS(jwks(t, issuers...), mlDSA...)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != len(issuers) {
		t.Fatalf("%d keys, expected %d", len(keys), len(issuers))
	}
	for n, i := range issuers {
		if keys[n].ID != i.kid || keys[n].Algorithm != i.alg {
			t.Errorf("key %d is %s for %s, expected %s for %s", n, keys[n].ID, keys[n].Algorithm, i.kid, i.alg)
		}
		if pub, ok := i.private.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(keys[n].Public) {
			t.Errorf("key %d is not the one that was published", n)
		}
	}
}

func TestParseJWKS_skipsWhatIsOfNoUse(t *testing.T) {
	good := newKey(t, "good", "ES256")
	base := good.jwk()
	for name, key := range map[string]map[string]any{
		"for encryption":         changed(base, map[string]any{"kid": "x", "use": "enc"}),
		"same kid, encryption":   changed(base, map[string]any{"use": "enc"}),
		"key_ops without verify": changed(base, map[string]any{"kid": "x", "use": nil, "key_ops": []string{"encrypt"}}),
		"without a kid":          changed(base, map[string]any{"kid": nil}),
		"symmetric":              {"kty": "oct", "kid": "x", "k": "c2VjcmV0", "alg": "HS256"},
		"unknown kty":            {"kty": "XYZ", "kid": "x", "d": "private?"},
		"no kty":                 {"kid": "x"},
		"unknown curve":          {"kty": "EC", "kid": "x", "crv": "secp256k1", "x": "AA", "y": "AA"},
		"X25519":                 {"kty": "OKP", "kid": "x", "crv": "X25519", "x": "AA"},
		"algorithm not ours":     changed(newKey(t, "x", "RS256").jwk(), map[string]any{"alg": "RS512"}),
		"ML-DSA, not given":      newKey(t, "x", "ML-DSA-44").jwk(),
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := verify.ParseJWKS(set(t, key, base))
			if err != nil || len(keys) != 1 || keys[0].ID != "good" {
				t.Errorf("beside a good key: %+v, %v", keys, err)
			}
			if keys, err := verify.ParseJWKS(set(t, key)); err == nil || keys != nil {
				t.Errorf("alone: %+v, expected an error", keys)
			}
		})
	}
}

func TestParseJWKS_aKeyWithoutAlgIsForOneAllTheSame(t *testing.T) {
	for alg, published := range map[string]string{"ES256": "ES256", "ES384": "ES384", "RS256": "RS256", "EdDSA": "EdDSA"} {
		key := changed(newKey(t, "k", published).jwk(), map[string]any{"alg": nil, "use": nil, "key_ops": []string{"verify"}})
		keys, err := verify.ParseJWKS(set(t, key))
		if err != nil || len(keys) != 1 || keys[0].Algorithm != alg {
			t.Errorf("%s: %+v, %v", alg, keys, err)
		}
	}
}

func TestParseJWKS_refuses(t *testing.T) {
	ec, rs, ed, ml := newKey(t, "ec", "ES256").jwk(), newKey(t, "rs", "RS256").jwk(), newKey(t, "ed", "EdDSA").jwk(), newKey(t, "ml", "ML-DSA-44").jwk()
	text := string(set(t, ec))
	many := make([]map[string]any, 257)
	for i := range many {
		many[i] = changed(ed, map[string]any{"kid": fmt.Sprint(i)})
	}
	cases := map[string][]byte{
		"nothing":              nil,
		"no JSON":              []byte("<html>"),
		"a list":               []byte("[]"),
		"no member keys":       []byte("{}"),
		"no keys":              set(t),
		"keys null":            []byte(`{"keys":null}`),
		"keys an object":       []byte(`{"keys":{}}`),
		"a key is no object":   []byte(`{"keys":[1]}`),
		"keys twice":           []byte(text[:len(text)-1] + `,"keys":[]}`),
		"a member twice":       []byte(strings.Replace(text, `"kid"`, `"alg":"RS256","kid"`, 1)),
		"cut off":              []byte(text[:len(text)-2]),
		"more behind":          []byte(text + text),
		"too large":            []byte(`{"keys":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`),
		"too many keys":        set(t, many...),
		"kid twice":            set(t, ec, changed(rs, map[string]any{"kid": "ec"})),
		"kid a number":         set(t, changed(ec, map[string]any{"kid": 1})),
		"kid long":             set(t, changed(ec, map[string]any{"kid": strings.Repeat("k", 300)})),
		"x null":               []byte(strings.Replace(text, `"x":"`+ec["x"].(string)+`"`, `"x":null`, 1)),
		"RSA with alg ES256":   set(t, changed(rs, map[string]any{"alg": "ES256"})),
		"P-256 with ES384":     set(t, changed(ec, map[string]any{"alg": "ES384"})),
		"P-384 with no alg":    set(t, changed(ec, map[string]any{"crv": "P-384", "alg": nil})),
		"EC with alg EdDSA":    set(t, changed(ec, map[string]any{"alg": "EdDSA"})),
		"Ed25519 with RS256":   set(t, changed(ed, map[string]any{"alg": "RS256"})),
		"RSA of 1024 bits":     set(t, changed(rs, map[string]any{"n": b64(oddBits(1024))})),
		"RSA of 16384 bits":    set(t, changed(rs, map[string]any{"n": b64(oddBits(16384))})),
		"RSA even":             set(t, changed(rs, map[string]any{"n": b64(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())})),
		"RSA zero before n":    set(t, changed(rs, map[string]any{"n": b64(append([]byte{0}, oddBits(2048)...))})),
		"RSA without n":        set(t, changed(rs, map[string]any{"n": nil})),
		"RSA without e":        set(t, changed(rs, map[string]any{"e": nil})),
		"RSA e is 1":           set(t, changed(rs, map[string]any{"e": "AQ"})),
		"RSA e is even":        set(t, changed(rs, map[string]any{"e": "BA"})),
		"RSA e of 40 bits":     set(t, changed(rs, map[string]any{"e": b64([]byte{1, 0, 0, 0, 1})})),
		"EC off its curve":     set(t, changed(ec, map[string]any{"y": ec["x"]})),
		"EC at zero":           set(t, changed(ec, map[string]any{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))})),
		"EC x short":           set(t, changed(ec, map[string]any{"x": b64(make([]byte, 31))})),
		"EC without y":         set(t, changed(ec, map[string]any{"y": nil})),
		"Ed25519 short":        set(t, changed(ed, map[string]any{"x": b64(make([]byte, 31))})),
		"ML-DSA short":         set(t, changed(ml, map[string]any{"pub": b64(make([]byte, 31))})),
		"ML-DSA without pub":   set(t, changed(ml, map[string]any{"pub": nil})),
		"standard base64":      set(t, changed(ed, map[string]any{"x": "+" + ed["x"].(string)[1:]})),
		"padded base64":        set(t, changed(ed, map[string]any{"x": ed["x"].(string) + "="})),
		"line break":           set(t, changed(ed, map[string]any{"x": ed["x"].(string)[:4] + "\n" + ed["x"].(string)[4:]})),
		"unused bits not zero": set(t, changed(ed, map[string]any{"x": strings.Repeat("A", 42) + "B"})),
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
		for _, key := range []map[string]any{ec, rs, ed, ml} {
			cases[fmt.Sprintf("%s in a key of type %s", private, key["kty"])] = set(t, changed(key, map[string]any{private: "AQ"}))
		}
	}
	cases["d in a key for encryption"] = set(t, ec, changed(rs, map[string]any{"use": "enc", "d": "AQ"}))
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			if keys, err := verify.ParseJWKS(data, mlDSA...); err == nil || keys != nil {
				t.Errorf("got %d keys, %v", len(keys), err)
			}
			if keys, err := verify.StaticKeys(data, mlDSA...); err == nil || keys != nil {
				t.Errorf("StaticKeys: %v, %v", keys, err)
			}
		})
	}
}

// An error message must not carry away what it complains about.
func TestParseJWKS_errorsDoNotShowPrivateMembers(t *testing.T) {
	key := changed(newKey(t, "ec", "ES256").jwk(), map[string]any{"d": "c2VjcmV0c2VjcmV0"})
	_, err := verify.ParseJWKS(set(t, key))
	if err == nil || strings.Contains(err.Error(), "c2VjcmV0") || !strings.Contains(err.Error(), "private") {
		t.Error(err)
	}
}

func TestStaticKeys_unknownKid(t *testing.T) {
	keys, err := verify.StaticKeys(jwks(t, newKey(t, "a", "ES256")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Key(t.Context(), "b")
	if !errors.Is(err, verify.ErrUnknownKey) || !cmp.Equal(key, verify.Key{}) {
		t.Errorf("%+v, %v", key, err)
	}
}

// A key set of one's own may hand out keys that ParseJWKS would have refused.
func TestVerify_weakKeysAreRefusedAtUseToo(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []verify.Key{
		{ID: "k", Algorithm: "RS256", Public: &weak.PublicKey},
		{ID: "k", Algorithm: "PS256", Public: weak.PublicKey},
		{ID: "k", Algorithm: "ES256", Public: &p521.PublicKey},
		{ID: "k", Algorithm: "ES256", Public: (*ecdsa.PublicKey)(nil)},
		{ID: "k", Algorithm: "RS256", Public: (*rsa.PublicKey)(nil)},
		{ID: "k", Algorithm: "EdDSA", Public: []byte("x")},
		{ID: "k", Algorithm: "EdDSA", Public: nil},
	} {
		i := newKey(t, "k", key.Algorithm)
		v := verifier(t, func(c *verify.Config) { c.Keys = fixed(key) }, i)
		refused(t, v, i.token(t), verify.ErrAlgorithm)
	}
}

func oddBits(bits int) []byte {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	return n.SetBit(n, 0, 1).Bytes()
}

func fixed(key verify.Key) keySetFunc {
	return func(context.Context, string) (verify.Key, error) { return key, nil }
}
