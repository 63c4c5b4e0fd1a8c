package main

import (
	"strings"
)

func shape(k *keys) *file {
	f := newFile("Texts that are no JWT, or that two parsers could read differently.", k)
	bad := func(name, token string) { f.refuse("ErrMalformed", name, token) }
	s := k.es256
	good := s.token()
	p := parts(good)
	header, payload := toJSON(s.header()), toJSON(goodClaims())
	inHeader := func(members string) string { return s.raw(header[:len(header)-1]+","+members+"}", payload) }
	inPayload := func(members string) string { return s.raw(header, payload[:len(payload)-1]+","+members+"}") }

	bad("empty", "")
	bad("no dots", "abc")
	bad("dots alone", "..")
	bad("two parts", p[0]+"."+p[1])
	bad("the signature is empty", p[0]+"."+p[1]+".")
	bad("the payload is empty", p[0]+".."+p[2])
	bad("the header is empty", "."+p[1]+"."+p[2])
	bad("five parts, as JWE has", good+".a.a")
	bad("four parts", good+".a")
	bad("a dot behind it", good+".")
	bad("a blank before it", " "+good)
	bad("a blank behind it", good+" ")
	bad("a line break behind it", good+"\n")
	bad("a line break within", good[:20]+"\r\n"+good[20:])
	bad("a tab within", good[:20]+"\t"+good[20:])
	bad("a NUL within", good[:20]+"\x00"+good[20:])
	bad("the scheme before it", "Bearer "+good)
	bad("quotes around it", `"`+good+`"`)
	bad("base64 padding", p[0]+"."+p[1]+"."+p[2]+"==")
	bad("characters of plain base64", p[0]+"."+p[1]+".+/"+p[2][2:])
	bad("a percent-encoded dot", strings.Replace(good, ".", "%2e", 1))
	bad("JSON serialization, flattened", `{"payload":"`+p[1]+`","protected":"`+p[0]+`","signature":"`+p[2]+`"}`)
	bad("JSON serialization, general", `{"payload":"`+p[1]+`","signatures":[{"protected":"`+p[0]+`","signature":"`+p[2]+`"}]}`)
	bad("longer than 16 KiB", s.with(nil, map[string]any{"pad": strings.Repeat("x", 16<<10)}))
	bad("unused bits of the signature are set", p[0]+"."+p[1]+"."+spelledOtherwise(p[2]))
	bad("unused bits of the header are set", s.unused(toJSON(changed(s.header(), map[string]any{"kid": "es256", "x": "y"})), payload))

	bad("the header is a list", s.raw(`["ES256"]`, payload))
	bad("the header is text", s.raw(`"ES256"`, payload))
	bad("the header is cut short", s.raw(`{"alg":"ES256"`, payload))
	bad("the header has a second value behind it", s.raw(header+header, payload))
	bad("the header is not UTF-8", s.raw("{\"alg\":\"ES256\",\"x\":\"\xff\"}", payload))
	bad("the header begins with a byte order mark", s.raw("\ufeff"+header, payload))
	bad("the header has a comma too many", s.raw(header[:len(header)-1]+",}", payload))
	bad("the header has a comment", s.raw(header+"/* */", payload))
	bad("alg twice", inHeader(`"alg":"ES256"`))
	bad("alg twice, the second one none", inHeader(`"alg":"none"`))
	bad("alg twice, once escaped", inHeader(`"\u0061lg":"none"`))
	bad("kid twice", inHeader(`"kid":"rs256"`))
	bad("typ twice", inHeader(`"typ":"JWT"`))
	bad("alg is a number", s.with(map[string]any{"alg": 256}, nil))
	bad("alg is a list", s.with(map[string]any{"alg": []string{"ES256"}}, nil))
	bad("alg is null", s.raw(`{"alg":null,"typ":"at+jwt","kid":"es256"}`, payload))
	bad("kid is a number", s.with(map[string]any{"kid": 1}, nil))
	bad("kid is an object", s.with(map[string]any{"kid": map[string]any{"$ne": ""}}, nil))
	bad("typ is a list", s.with(map[string]any{"typ": []string{"at+jwt"}}, nil))
	bad("crit: an extension (RFC 7515 section 4.1.11)", inHeader(`"crit":["exp"],"exp":4102444800`))
	bad("crit: b64 (RFC 7797)", inHeader(`"crit":["b64"],"b64":false`))
	bad("crit: empty", inHeader(`"crit":[]`))
	bad("crit: null", inHeader(`"crit":null`))

	bad("the payload is text", s.raw(header, `"hello"`))
	bad("the payload is a list", s.raw(header, `[`+payload+`]`))
	bad("the payload is white space", s.raw(header, ` `))
	bad("the payload has data behind it", s.raw(header, payload+"x"))
	bad("the payload has a second object behind it", s.raw(header, payload+payload))
	bad("the payload is not UTF-8", inPayload("\"x\":\"\xc3\x28\""))
	bad("the payload begins with a byte order mark", s.raw(header, "\ufeff"+payload))
	bad("a payload with NaN", inPayload(`"x":NaN`))
	bad("a payload with a number that begins with 0", inPayload(`"x":012`))
	bad("sub twice", inPayload(`"sub":"root"`))
	bad("sub twice, once escaped", inPayload(`"s\u0075b":"root"`))
	bad("exp twice", inPayload(`"exp":4102444800`))
	bad("a name twice, deep inside", inPayload(`"x":[{"a":{"b":1,"c":[],"b":2}}]`))
	bad("half of a surrogate pair as a name", inPayload(`"\ud800":1`))
	bad("2,000 lists in each other", inPayload(`"x":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)))
	bad("1,000 objects in each other", inPayload(`"x":`+strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000)))
	return f
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// spelledOtherwise sets an unused bit in the last character of text, whose
// length is no multiple of four.
func spelledOtherwise(text string) string {
	last := strings.IndexByte(base64url, text[len(text)-1])
	return text[:len(text)-1] + base64url[last^1:][:1]
}

// unused signs a token whose header has an unused bit set: the signature is
// good, the spelling is not.
func (s *signer) unused(header, payload string) string {
	for len(header)%3 == 0 {
		header += " "
	}
	signed := spelledOtherwise(b64([]byte(header))) + "." + b64([]byte(payload))
	sig, err := s.sign(signed)
	if err != nil {
		panic(err)
	}
	return signed + "." + b64(sig)
}

func claims(k *keys) *file {
	f := newFile("Properly signed tokens whose claims are not acceptable.", k)
	s := k.es256
	header, payload := toJSON(s.header()), toJSON(goodClaims())
	for _, c := range []struct {
		class, name, claim string
		value              any
	}{
		{"ErrIssuer", "iss missing", "iss", nil},
		{"ErrIssuer", "iss empty", "iss", ""},
		{"ErrIssuer", "iss another", "iss", "https://evil.example.com"},
		{"ErrIssuer", "iss with a slash at the end", "iss", issuer + "/"},
		{"ErrIssuer", "iss in capitals", "iss", strings.ToUpper(issuer)},
		{"ErrIssuer", "iss with http", "iss", "http://auth.example.com"},
		{"ErrIssuer", "iss with the default port", "iss", issuer + ":443"},
		{"ErrIssuer", "iss a prefix", "iss", issuer[:len(issuer)-1]},
		{"ErrIssuer", "iss longer", "iss", issuer + ".evil.example"},
		{"ErrClaims", "iss a list", "iss", []string{issuer}},
		{"ErrAudience", "aud missing", "aud", nil},
		{"ErrAudience", "aud empty", "aud", ""},
		{"ErrAudience", "aud another", "aud", "https://other.example.com"},
		{"ErrAudience", "aud a list of others", "aud", []string{"a", "b"}},
		{"ErrAudience", "aud an empty list", "aud", []string{}},
		{"ErrAudience", "aud a prefix", "aud", audience[:10]},
		{"ErrAudience", "aud longer", "aud", audience + ".evil.example"},
		{"ErrAudience", "aud in capitals", "aud", strings.ToUpper(audience)},
		{"ErrAudience", "aud with a slash at the end", "aud", audience + "/"},
		{"ErrAudience", "aud several in one text", "aud", "x " + audience},
		{"ErrAudience", "aud the client", "aud", "first-party"},
		{"ErrClaims", "aud with a number", "aud", []any{audience, 7}},
		{"ErrClaims", "aud an object", "aud", map[string]any{audience: true}},
		{"ErrClaims", "sub missing", "sub", nil},
		{"ErrClaims", "sub empty", "sub", ""},
		{"ErrClaims", "sub a number", "sub", 7},
		{"ErrClaims", "sub a list", "sub", []string{"user-1"}},
		{"ErrClaims", "jti missing", "jti", nil},
		{"ErrClaims", "jti empty", "jti", ""},
		{"ErrClaims", "jti a number", "jti", 1},
		{"ErrClaims", "client_id missing", "client_id", nil},
		{"ErrClaims", "client_id empty", "client_id", ""},
		{"ErrClaims", "exp missing", "exp", nil},
		{"ErrClaims", "exp text", "exp", "4102444800"},
		{"ErrClaims", "exp negative", "exp", -1},
		{"ErrClaims", "exp true", "exp", true},
		{"ErrClaims", "exp a list", "exp", []int{now + 600}},
		{"ErrClaims", "iat missing", "iat", nil},
		{"ErrClaims", "iat text", "iat", "now"},
		{"ErrClaims", "nbf text", "nbf", "now"},
		{"ErrClaims", "auth_time text", "auth_time", "now"},
		{"ErrClaims", "scope a list", "scope", []string{"orders:read"}},
		{"ErrClaims", "roles text", "roles", "admin"},
		{"ErrClaims", "roles numbers", "roles", []int{1}},
		{"ErrClaims", "amr text", "amr", "pwd"},
		{"ErrClaims", "sid a number", "sid", 1},
		{"ErrClaims", "acr a number", "acr", 1},
		{"ErrClaims", "cnf.jkt: bound to a key that the request has to prove (RFC 9449)", "cnf", map[string]any{"jkt": "abc"}},
		{"ErrClaims", "cnf.x5t#S256: bound to a certificate (RFC 8705)", "cnf", map[string]any{"x5t#S256": "abc"}},
		{"ErrClaims", "cnf empty", "cnf", map[string]any{}},
	} {
		f.refuse(c.class, c.name, s.with(nil, map[string]any{c.claim: c.value}))
	}
	f.refuse("ErrIssuer", "no claims", s.raw(header, `{}`))
	f.refuse("ErrIssuer", "ISS in place of iss", s.raw(header, strings.Replace(payload, `"iss"`, `"ISS"`, 1)))
	f.refuse("ErrAudience", "Aud in place of aud", s.raw(header, strings.Replace(payload, `"aud"`, `"Aud"`, 1)))
	f.refuse("ErrClaims", "sub is null", s.raw(header, strings.Replace(payload, `"user-1"`, "null", 1)))
	f.refuse("ErrClaims", "exp is null", s.raw(header, numbered("exp", "null")))
	f.refuse("ErrClaims", "exp is 1e300", s.raw(header, numbered("exp", "1e300")))
	f.refuse("ErrClaims", "exp has 20 digits", s.raw(header, numbered("exp", "99999999999999999999")))
	f.refuse("ErrClaims", "nbf is null", s.raw(header, numbered("nbf", "null")))
	return f
}
