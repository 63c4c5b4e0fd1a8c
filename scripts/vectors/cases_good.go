package main

import (
	"strconv"
	"strings"
)

func accepted(k *keys) *file {
	f := newFile("Good tokens: each has to be accepted.", k)
	for _, s := range []*signer{k.es256, k.rs256, k.ps256, k.es384, k.eddsa} {
		f.accept("a token signed with "+s.alg, s.token())
	}
	s := k.es256
	header, payload := toJSON(s.header()), toJSON(goodClaims())
	f.accept("typ is a media type, application/at+jwt (RFC 9068 section 4)", s.with(map[string]any{"typ": "application/at+jwt"}, nil))
	f.accept("typ in capitals: media types know no case", s.with(map[string]any{"typ": "AT+JWT"}, nil))
	f.accept("aud is a list of one", s.with(nil, map[string]any{"aud": []string{audience}}))
	f.accept("aud is a list with others", s.with(nil, map[string]any{"aud": []string{"https://other.example.com", audience}}))
	f.accept("aud is this service's former name", s.with(nil, map[string]any{"aud": "former-name"})).
		with(func(c *settings) { c.OtherAudiences = []string{"former-name"} })
	f.accept("no optional claim", s.with(nil, map[string]any{"scope": nil, "sid": nil, "auth_time": nil, "amr": nil, "acr": nil, "roles": nil}))
	f.accept("claims that nobody knows", s.with(nil, map[string]any{"tenant": map[string]any{"id": 7}, "x": []any{1, nil, true}}))
	f.accept("equal names in different objects", s.with(nil, map[string]any{"x": map[string]any{"sub": "y"}, "z": []any{map[string]any{"sub": 1}, map[string]any{"sub": 2}}}))
	f.accept("white space in header and payload", s.raw(" { \"alg\" : \"ES256\" ,\n\t\"typ\":\"at+jwt\", \"kid\":\"es256\" } ", "\r\n"+strings.ReplaceAll(payload, `,"`, " ,\n \"")+"\n"))
	f.accept("escapes in names and values", s.raw(`{"alg":"ES256","typ":"at\u002bjwt","kid":"es256"}`, strings.Replace(payload, `"iss"`, `"\u0069ss"`, 1)))
	f.accept("header members that nobody knows", s.with(map[string]any{"x": "y", "cty": "JWT"}, nil))
	f.accept("exp has a fraction", s.raw(header, numbered("exp", strconv.Itoa(now+600)+".75")))
	f.accept("exp has an exponent", s.raw(header, numbered("exp", "1.772367e9")))
	f.accept("text beyond ASCII", s.with(nil, map[string]any{"sub": "J\u00fcrgen \U0001F600"}))
	f.accept("an embedded jwk in an honest token is ignored", s.with(map[string]any{"jwk": k.thief.jwk()}, nil))
	f.accept("a jku in an honest token is ignored", s.with(map[string]any{"jku": "https://evil.example.com/jwks.json"}, nil))
	f.accept("an x5u in an honest token is ignored", s.with(map[string]any{"x5u": "https://evil.example.com/cert.pem"}, nil))
	return f
}

// numbered are good claims but for one number, spelled as given.
func numbered(name, number string) string {
	payload := toJSON(changed(goodClaims(), map[string]any{name: nil}))
	return payload[:len(payload)-1] + `,"` + name + `":` + number + "}"
}

func times(k *keys) *file {
	f := newFile("Instants at their borders. The leeway is 60 s unless the case says otherwise.", k)
	leeway := func(seconds int) func(*settings) { return func(c *settings) { c.LeewaySeconds = seconds } }
	for _, c := range []struct {
		class, name string
		leeway      int
		claim       string
		at          int
	}{
		{"", "exp in a second, no leeway", 0, "exp", now + 1},
		{"ErrExpired", "exp now, no leeway", 0, "exp", now},
		{"ErrExpired", "exp a second ago, no leeway", 0, "exp", now - 1},
		{"", "exp 59 s ago", 60, "exp", now - 59},
		{"ErrExpired", "exp 60 s ago", 60, "exp", now - 60},
		{"ErrExpired", "exp an hour ago", 60, "exp", now - 3600},
		{"ErrExpired", "exp in 1970", 60, "exp", 0},
		{"ErrExpired", "exp 10 s ago, leeway of 10 s", 10, "exp", now - 10},
		{"", "exp 299 s ago, leeway of 300 s", 300, "exp", now - 299},
		{"", "exp in the year 9999", 60, "exp", 253402300799},
		{"", "iat now, no leeway", 0, "iat", now},
		{"ErrNotYetValid", "iat in a second, no leeway", 0, "iat", now + 1},
		{"", "iat in 60 s", 60, "iat", now + 60},
		{"ErrNotYetValid", "iat in 61 s", 60, "iat", now + 61},
		{"ErrNotYetValid", "iat given in milliseconds", 60, "iat", now * 1000 % 253402300799},
		{"", "nbf now, no leeway", 0, "nbf", now},
		{"ErrNotYetValid", "nbf in a second, no leeway", 0, "nbf", now + 1},
		{"", "nbf in 60 s", 60, "nbf", now + 60},
		{"ErrNotYetValid", "nbf in 61 s", 60, "nbf", now + 61},
		{"ErrNotYetValid", "nbf in a day", 60, "nbf", now + 86400},
	} {
		f.refuse(c.class, c.name, k.es256.with(nil, map[string]any{c.claim: c.at})).with(leeway(c.leeway))
	}
	old := map[string]any{"iat": now - 7200, "exp": now - 3600}
	and := func(name string, value any) map[string]any { return changed(old, map[string]any{name: value}) }
	// CVE-2024-51744: "expired" must not hide what is worse.
	f.refuse("ErrSignature", "expired, and the signature is not the issuer's", k.thief.with(nil, old))
	f.refuse("ErrIssuer", "expired, and of another issuer", k.es256.with(nil, and("iss", "https://evil.example.com")))
	f.refuse("ErrAudience", "expired, and for another service", k.es256.with(nil, and("aud", "https://other.example.com")))
	f.refuse("ErrClaims", "expired, and with an empty sub", k.es256.with(nil, and("sub", "")))
	f.refuse("ErrType", "expired, and no access token", k.es256.with(map[string]any{"typ": "JWT"}, old))
	f.refuse("ErrUnknownKey", "expired, and of an unknown key", k.es256.with(map[string]any{"kid": "other"}, old))
	return f
}

func mlDSA(k *keys) *file {
	f := newFile("ML-DSA-44 (RFC 9964, post-quantum). Leave this file out where there is no such algorithm.", k)
	f.JWKS = setOf(k.es256.jwk(), k.mldsa.jwk())
	f.Config.Algorithms = append(f.Config.Algorithms, "ML-DSA-44")
	good := k.mldsa.token()
	p := parts(good)
	f.accept("a token signed with ML-DSA-44", good)
	f.accept("ES256 beside it", k.es256.token())
	flipped := signatureOf(good)
	flipped[100] ^= 1
	f.refuse("ErrSignature", "one bit of the signature is another", p[0]+"."+p[1]+"."+b64(flipped))
	f.refuse("ErrSignature", "the signature is cut short", p[0]+"."+p[1]+"."+b64(flipped[:2000]))
	f.refuse("ErrAlgorithm", "the algorithm is not among those allowed", good).with(func(*settings) {})
	f.refuse("ErrAlgorithm", "the alg of another key", k.mldsa.with(map[string]any{"alg": "ES256"}, nil))
	f.refuse("ErrAlgorithm", "another size of the algorithm", k.mldsa.with(map[string]any{"alg": "ML-DSA-65"}, nil))
	f.refuse("ErrExpired", "expired", k.mldsa.with(nil, map[string]any{"iat": now - 7200, "exp": now - 3600}))
	return f
}
