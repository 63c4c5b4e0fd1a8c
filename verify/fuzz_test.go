package verify_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// Whatever comes in, only the one token that was signed is good.
func FuzzVerify(f *testing.F) {
	i := newKey(f, "k1", "EdDSA")
	v := verifier(f, nil, i)
	good := i.token(f)
	parts := strings.Split(good, ".")
	for _, seed := range []string{
		good, "", "..", "a.b.c", good + ".", parts[0] + "..", parts[0] + "." + parts[1] + ".AAAA",
		b64([]byte(`{"alg":"none","typ":"at+jwt","kid":"k1"}`)) + "." + parts[1] + ".AAAA",
		b64([]byte(`{"alg":"EdDSA","alg":"EdDSA"}`)) + ".e30.AAAA",
		b64([]byte(`{"alg":"EdDSA","typ":"at+jwt","kid":"k1","x":[[[{"a":"\ud800"}]]]}`)) + ".e30.AAAA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		claims, err := v.Verify(t.Context(), raw)
		if (claims == nil) == (err == nil) {
			t.Fatalf("claims %v with error %v", claims, err)
		}
		if err == nil && raw != good {
			t.Fatal("accepted another token than the one that was signed")
		}
	})
}

// Behind a good signature there may still be anything: what is accepted says
// to other JSON parsers what it says to us.
func FuzzVerify_signedPayload(f *testing.F) {
	i := newKey(f, "k1", "EdDSA")
	v := verifier(f, nil, i)
	good := toJSON(f, i.claims())
	for _, more := range []string{"", `,"sub":"x"`, `,"x":[1,{"y":"\u00e9\ud83d\ude00"},null,true,-1.5e3]`, `,"nbf":1.5`, `,"\u0073ub":"x"`, `,"SUB":"x"`, `,"roles2":[]`} {
		f.Add(good[:len(good)-1] + more + "}")
	}
	header := toJSON(f, i.header())
	f.Fuzz(func(t *testing.T, payload string) {
		raw := i.raw(t, header, payload)
		claims, err := v.Verify(t.Context(), raw)
		if (claims == nil) == (err == nil) {
			t.Fatalf("claims %v with error %v", claims, err)
		}
		if err != nil {
			return
		}
		var other map[string]any
		if err := json.Unmarshal([]byte(payload), &other); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		for name, ours := range map[string]string{
			"iss": claims.Issuer, "sub": claims.Subject, "jti": claims.ID, "client_id": claims.ClientID, "scope": claims.Scope,
			"sid": claims.SessionID, "acr": claims.ACR,
		} {
			if theirs, _ := other[name].(string); theirs != ours {
				t.Errorf("%s is %q to us and %q to encoding/json", name, ours, theirs)
			}
		}
		if exp, _ := other["exp"].(float64); claims.ExpiresAt.Unix() != int64(exp) || exp <= float64(noon.Add(-time.Minute).Unix()) {
			t.Errorf("exp is %v to us and %v to encoding/json", claims.ExpiresAt.Unix(), exp)
		}
		for name, theirs := range other {
			var ours any
			if err := json.Unmarshal(claims.Extra(name), &ours); err != nil || toJSON(t, ours) != toJSON(t, theirs) {
				t.Errorf("Extra(%q) is %s, %v", name, claims.Extra(name), err)
			}
		}
	})
}

// A key that comes out is one that can be used: named, alone of its name, and
// fit for its algorithm.
func FuzzParseJWKS(f *testing.F) {
	for _, alg := range []string{"ES256", "ES384", "RS256", "EdDSA", "ML-DSA-44"} {
		f.Add(jwks(f, newKey(f, "k", alg)))
	}
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := verify.ParseJWKS(data, mlDSA...)
		if (len(keys) == 0) != (err != nil) {
			t.Fatalf("%d keys with error %v", len(keys), err)
		}
		seen := map[string]bool{}
		for _, k := range keys {
			if k.ID == "" || seen[k.ID] {
				t.Fatalf("kid %q is empty or there twice", k.ID)
			}
			seen[k.ID] = true
			v := verifier(t, func(c *verify.Config) {
				c.Keys, c.Extra, c.Algorithms = fixed(k), mlDSA, []string{k.Algorithm}
			}, newKey(t, "any", "EdDSA"))
			refused(t, v, b64([]byte(toJSON(t, map[string]any{"alg": k.Algorithm, "typ": "at+jwt", "kid": "k"})))+".e30.AAAA", verify.ErrSignature)
		}
	})
}
