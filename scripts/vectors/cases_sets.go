package main

import (
	"encoding/base64"
	"slices"
	"strings"
)

func keySets(k *keys) *file {
	f := newFile("Key sets. \"KeySet\" as the error says that the set has to be refused as a whole; the token is a good one of the key es256.", k)
	good := k.es256.token()
	ec, rsa, ed := k.es256.jwk(), k.rs256.jwk(), k.eddsa.jwk()
	refuse := func(name, jwks string) { f.refuse("KeySet", name, good).trusting(jwks) }
	accept := func(name, jwks string) { f.accept(name, good).trusting(jwks) }
	change := func(jwk map[string]any, name string, value any) map[string]any {
		return changed(jwk, map[string]any{name: value})
	}

	accept("the key alone", setOf(ec))
	accept("beside a symmetric key, which is left out", setOf(map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "hs", "alg": "HS256"}, ec))
	accept("beside an encryption key of the same name", setOf(changed(rsa, map[string]any{"use": "enc", "alg": "RSA-OAEP", "kid": "es256"}), ec))
	accept("beside a key of a kind that nobody knows", setOf(map[string]any{"kty": "XYZ", "kid": "es256"}, ec))
	accept("beside a curve that is not used here", setOf(map[string]any{"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"}, ec))
	accept("beside a key without kid", setOf(change(rsa, "kid", nil), ec))
	accept("without alg: the curve says it", setOf(change(ec, "alg", nil)))
	accept("without use", setOf(change(ec, "use", nil)))
	accept("with key_ops verify", setOf(change(change(ec, "use", nil), "key_ops", []string{"verify"})))
	accept("with members that nobody knows", setOf(change(ec, "x-note", map[string]any{"a": 1})))
	accept("with members beside keys", `{"note":1,"keys":[`+toJSON(ec)+`],"more":[]}`)

	f.refuse("ErrUnknownKey", "the key is for encryption", good).trusting(setOf(change(ec, "use", "enc"), ed))
	f.refuse("ErrUnknownKey", "the key is for signing only (key_ops)", good).trusting(setOf(change(ec, "key_ops", []string{"sign"}), ed))
	f.refuse("ErrUnknownKey", "the key is for an algorithm that is not used here", good).trusting(setOf(change(ec, "alg", "ECDH-ES"), ed))
	f.refuse("ErrAlgorithm", "the name belongs to a key of another kind", good).trusting(setOf(change(ed, "kid", "es256")))
	f.refuse("ErrSignature", "the name belongs to another key", good).trusting(setOf(k.thief.jwk()))

	refuse("not JSON", "<html>")
	refuse("empty text", "")
	refuse("an empty object", "{}")
	refuse("no keys", `{"keys":[]}`)
	refuse("keys is an object", `{"keys":{}}`)
	refuse("keys is null", `{"keys":null}`)
	refuse("a list", "["+toJSON(ec)+"]")
	refuse("one JWK and no set", toJSON(ec))
	refuse("data behind the set", setOf(ec)+"x")
	refuse("keys twice", `{"keys":[`+toJSON(ec)+`],"keys":[`+toJSON(k.thief.jwk())+`]}`)
	refuse("a member of a key twice", `{"keys":[`+strings.TrimSuffix(toJSON(ec), "}")+`,"kid":"other"}]}`)
	refuse("a key is text", `{"keys":["es256"]}`)
	refuse("a name twice", setOf(ec, change(k.thief.jwk(), "kid", "es256")))
	refuse("a name twice, of two kinds", setOf(ec, change(rsa, "kid", "es256")))
	refuse("only a symmetric key", setOf(map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "es256", "alg": "HS256"}))
	refuse("a private member: EC", setOf(change(ec, "d", "AAAA")))
	refuse("a private member: RSA", setOf(ec, change(rsa, "d", "AAAA")))
	refuse("a private member: a prime of RSA", setOf(ec, change(rsa, "p", "AAAA")))
	refuse("EC: a point that is not on the curve", setOf(change(ec, "y", otherByte(ec["y"]))))
	refuse("EC: the point 0, 0", setOf(changed(ec, map[string]any{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))})))
	refuse("EC: x with a byte too few", setOf(change(ec, "x", shorter(ec["x"]))))
	refuse("EC: x with a zero byte before it", setOf(change(ec, "x", "AA"+ec["x"].(string))))
	refuse("EC: no y", setOf(change(ec, "y", nil)))
	refuse("EC: an algorithm of another curve", setOf(change(ec, "alg", "ES384")))
	refuse("EC: an algorithm of RSA", setOf(change(ec, "alg", "RS256")))
	refuse("EC: x is a number", setOf(change(ec, "x", 7)))
	refuse("EC: x in plain base64 with padding", setOf(change(ec, "x", ec["x"].(string)+"=")))
	refuse("OKP: x with a byte too few", setOf(ec, change(ed, "x", shorter(ed["x"]))))
	refuse("RSA: 1024 bits", setOf(ec, change(rsa, "n", b64(bytesOf("small", 128)))))
	refuse("RSA: 16,384 bits", setOf(ec, change(rsa, "n", b64(odd(bytesOf("large", 2048))))))
	refuse("RSA: e is 1", setOf(ec, change(rsa, "e", "AQ")))
	refuse("RSA: e is even", setOf(ec, change(rsa, "e", "AQAC")))
	refuse("RSA: e has 33 bits", setOf(ec, change(rsa, "e", "AQAAAAE")))
	refuse("RSA: n is even", setOf(ec, change(rsa, "n", evenOf(rsa["n"]))))
	refuse("RSA: n with a zero byte before it (RFC 7518 section 2)", setOf(ec, change(rsa, "n", zeroBefore(rsa["n"]))))
	refuse("RSA: no n", setOf(ec, change(rsa, "n", nil)))
	refuse("RSA: an algorithm of EC", setOf(ec, change(rsa, "alg", "ES256")))
	refuse("kid with 257 bytes", setOf(change(ec, "kid", strings.Repeat("k", 257)), ed))
	refuse("not UTF-8 in a name", strings.Replace(setOf(ec), "es256", `\ud800`, 1))
	many := slices.Repeat([]map[string]any{{"kty": "oct"}}, 256)
	refuse("257 keys", setOf(append(many, ec)...))
	return f
}

func bytesIn(member any) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(member.(string))
	if err != nil {
		panic(err)
	}
	return raw
}

func otherByte(member any) string {
	raw := bytesIn(member)
	raw[len(raw)-1] ^= 1
	return b64(raw)
}

func shorter(member any) string { return b64(bytesIn(member)[1:]) }

func zeroBefore(member any) string { return b64(append([]byte{0}, bytesIn(member)...)) }

func evenOf(member any) string {
	raw := bytesIn(member)
	raw[len(raw)-1] &^= 1
	return b64(raw)
}

func odd(raw []byte) []byte {
	raw[0] |= 0x80
	raw[len(raw)-1] |= 1
	return raw
}

// sortByName orders the cases added so far: some were made in the order of a map.
func sortByName(f *file) {
	slices.SortStableFunc(f.Cases, func(a, b *vector) int { return strings.Compare(a.Name, b.Name) })
}
