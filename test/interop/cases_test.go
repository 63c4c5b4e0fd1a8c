package interop

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"filippo.io/mldsa"
	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/keys"
)

// The columns of the table. Every token of a column must meet the same fate.
const (
	good     = "good"
	expired  = "expired"
	wrongAud = "audience"
	wrongIss = "issuer"
	wrongTyp = "typ"
	tampered = "tampered"
	algNone  = "alg none"
	algHS    = "HS256"
	otherAlg = "other alg"
	foreign  = "foreign key"
	rotation = "rotation"
)

var columns = []string{good, expired, wrongAud, wrongIss, wrongTyp, tampered, algNone, algHS, otherAlg, foreign, rotation}

// specimen is one token and what it is.
type specimen struct {
	column string
	what   string
	token  string
}

// specimens returns the tokens that every verifier is shown, for an issuer
// whose first algorithm is alg and whose second one is other. The verifiers are
// told to accept alg alone.
func (i *issuer) specimens(alg, other keys.Algorithm) []specimen {
	i.t.Helper()
	var all []specimen
	add := func(column, what, token string) { all = append(all, specimen{column, what, token}) }
	genuine := i.good()
	head, body := parts(i.t, genuine)
	kid, _ := head["kid"].(string)

	add(good, "as minted", genuine)
	add(good, "a minute before it expires", i.mint(issuerURL, audience, -9*time.Minute, ttl))
	add(expired, "an hour ago", i.mint(issuerURL, audience, -70*time.Minute, ttl))
	add(expired, "two minutes ago", i.mint(issuerURL, audience, -12*time.Minute, ttl))
	add(wrongAud, "of another API", i.mint(issuerURL, "https://other.example.com", 0, ttl))
	add(wrongAud, "the audience with a slash", i.mint(issuerURL, audience+"/", 0, ttl))
	add(wrongAud, "the issuer itself", i.mint(issuerURL, issuerURL, 0, ttl))
	add(wrongIss, "of another issuer", i.mint("https://other.example.com", audience, 0, ttl))
	add(wrongIss, "the issuer with a slash", i.mint(issuerURL+"/", audience, 0, ttl))
	for _, typ := range []any{"JWT", "id_token", "logout+jwt", nil} {
		add(wrongTyp, "typ "+quoted(typ), i.sign(alg, with(head, "typ", typ), body))
	}

	signed, signature := genuine[:strings.LastIndexByte(genuine, '.')], genuine[strings.LastIndexByte(genuine, '.')+1:]
	add(tampered, "another subject under the same signature",
		segment(head)+"."+segment(with(body, "sub", "mallory"))+"."+signature)
	add(tampered, "a header that says more under the same signature",
		segment(with(head, "extra", true))+"."+segment(body)+"."+signature)
	add(tampered, "one bit of the signature", signed+"."+flipped(i.t, signature))
	add(tampered, "a signature of zeros", signed+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 64)))
	add(tampered, "without its signature", signed+".")

	for _, name := range []string{"none", "None", "NONE"} {
		add(algNone, name, segment(with(head, "alg", name))+"."+segment(body)+".")
	}
	add(algNone, "none with the signature of a good one", segment(with(head, "alg", "none"))+"."+segment(body)+"."+signature)

	for what, shared := range i.publicSecrets(alg, kid) {
		add(algHS, "secret: "+what, hs256(with(head, "alg", "HS256"), body, shared))
	}

	add(otherAlg, "this server's own "+string(other)+" key", i.sign(other, head, body))
	add(otherAlg, string(other)+" by a foreign key, under the kid of the "+string(alg)+" key",
		signWith(i.t, other, foreignKey(i.t, other), with(head, "alg", string(other)), body))
	add(otherAlg, "the "+string(other)+" key's signature and kid, with the header saying "+string(alg),
		i.signAs(other, with(head, "alg", string(alg)), body))

	stranger := foreignKey(i.t, alg)
	add(foreign, "with the kid of this server's key", signWith(i.t, alg, stranger, head, body))
	add(foreign, "with a kid of its own", signWith(i.t, alg, stranger, with(head, "kid", "stranger"), body))
	add(foreign, "without a kid", signWith(i.t, alg, stranger, with(head, "kid", nil), body))
	if k, ok := stranger.(*ecdsa.PrivateKey); ok {
		add(foreign, "that comes along in the header (jwk)", signWith(i.t, alg, stranger, with(head, "jwk", publicJWK(i.t, k)), body))
	}
	return all
}

// sign signs with this server's own key of an algorithm.
func (i *issuer) sign(alg keys.Algorithm, head, body map[string]any) string {
	i.t.Helper()
	kid, method, key, err := i.ring.Signer(alg)
	if err != nil {
		i.t.Fatal(err)
	}
	return compact(i.t, method, key, with(with(head, "alg", method.Alg()), "kid", kid), body)
}

// signAs is sign with the header's own alg: a header that lies.
func (i *issuer) signAs(alg keys.Algorithm, head, body map[string]any) string {
	i.t.Helper()
	kid, method, key, err := i.ring.Signer(alg)
	if err != nil {
		i.t.Fatal(err)
	}
	return compact(i.t, method, key, with(head, "kid", kid), body)
}

// publicSecrets are the spellings of a public key that a verifier may mistake
// for a shared secret.
func (i *issuer) publicSecrets(alg keys.Algorithm, kid string) map[string][]byte {
	i.t.Helper()
	pem := i.export(alg, keys.PEM)[kid]
	block := pem[bytes.Index(pem, []byte("-----BEGIN")):]
	secrets := map[string][]byte{
		"the PEM block": block, "the PEM block without its last newline": bytes.TrimSpace(block), "nothing": nil,
	}
	for _, k := range i.keySet().keys(i.t) {
		if k.KID != kid {
			continue
		}
		text, err := json.Marshal(k)
		if err != nil {
			i.t.Fatal(err)
		}
		secrets["the JWK"] = text
		secrets["the JWK's numbers"] = decoded(i.t, k.X+k.Pub)
	}
	return secrets
}

func signWith(t testing.TB, alg keys.Algorithm, key crypto.Signer, head, body map[string]any) string {
	t.Helper()
	return compact(t, keys.MethodOf(alg), key, with(head, "alg", string(alg)), body)
}

func compact(t testing.TB, method jwt.SigningMethod, key crypto.Signer, head, body map[string]any) string {
	t.Helper()
	signed := segment(head) + "." + segment(body)
	signature, err := method.Sign(signed, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func hs256(head, body map[string]any, shared []byte) string {
	signed := segment(head) + "." + segment(body)
	mac := hmac.New(sha256.New, shared)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func foreignKey(t testing.TB, alg keys.Algorithm) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case keys.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case keys.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case keys.MLDSA44:
		key, err = mldsa.GenerateKey(mldsa.MLDSA44())
	default:
		t.Fatalf("no foreign key for %s", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicJWK(t testing.TB, k *ecdsa.PrivateKey) jwk {
	t.Helper()
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := point[1:33], point[33:]
	return jwk{KTY: "EC", Use: "sig", Alg: "ES256", CRV: "P-256", X: base64.RawURLEncoding.EncodeToString(x), Y: base64.RawURLEncoding.EncodeToString(y)}
}

// parts returns header and payload of a token.
func parts(t testing.TB, token string) (head, body map[string]any) {
	t.Helper()
	three := strings.Split(token, ".")
	read := func(text string) map[string]any {
		d := json.NewDecoder(bytes.NewReader(decoded(t, text)))
		d.UseNumber()
		m := map[string]any{}
		if err := d.Decode(&m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	return read(three[0]), read(three[1])
}

func decoded(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func segment(m map[string]any) string {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // maps of strings, numbers and JWKs
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// with returns a copy of m with one member changed; nil removes it.
func with(m map[string]any, name string, value any) map[string]any {
	out := make(map[string]any, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	if out[name] = value; value == nil {
		delete(out, name)
	}
	return out
}

func flipped(t testing.TB, signature string) string {
	t.Helper()
	b := decoded(t, signature)
	b[len(b)/2] ^= 1
	return base64.RawURLEncoding.EncodeToString(b)
}

func quoted(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(text)
}
