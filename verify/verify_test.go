package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/authserver/verify"
)

// everyError lists the errors of Verify: a refusal must be exactly one of them.
var everyError = []error{
	verify.ErrMalformed, verify.ErrAlgorithm, verify.ErrType, verify.ErrUnknownKey, verify.ErrSignature, verify.ErrIssuer,
	verify.ErrAudience, verify.ErrClaims, verify.ErrNotYetValid, verify.ErrRevoked, verify.ErrExpired, verify.ErrKeysUnavailable,
	verify.ErrFeedLost,
}

// refused fails the test unless v refuses raw for the reason want alone.
func refused(t *testing.T, v *verify.Verifier, raw string, want error) {
	t.Helper()
	claims, err := v.Verify(t.Context(), raw)
	if claims != nil {
		t.Errorf("claims %+v came with error %v", claims, err)
	}
	for _, e := range everyError {
		if got := errors.Is(err, e); got != (e == want) {
			t.Errorf("error is %v, expected it to be %v", err, want)
		}
	}
}

func TestNew_namesWhatIsMissing(t *testing.T) {
	_, err := verify.New(verify.Config{Leeway: time.Hour, Algorithms: []string{"HS256"}})
	for _, want := range []string{"Issuer", "Audience", "Keys", "Leeway is 1h0m0s", `"HS256"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of %s", err, want)
		}
	}
}

func TestNew_refusesWhatIsDangerous(t *testing.T) {
	keys, err := verify.StaticKeys(jwks(t, newKey(t, "a", "ES256")))
	if err != nil {
		t.Fatal(err)
	}
	extra := func(name string) func(*verify.Config) {
		return func(c *verify.Config) { c.Extra = []verify.Algorithm{mlDSAOf(name, mldsaParams)} }
	}
	for name, change := range map[string]func(*verify.Config){
		"no issuer":             func(c *verify.Config) { c.Issuer = "" },
		"no audience":           func(c *verify.Config) { c.Audience = "" },
		"only other audiences":  func(c *verify.Config) { c.Audience, c.OtherAudiences = "", []string{"x"} },
		"empty other audience":  func(c *verify.Config) { c.OtherAudiences = []string{""} },
		"no keys":               func(c *verify.Config) { c.Keys = nil },
		"leeway above 5m":       func(c *verify.Config) { c.Leeway = 5*time.Minute + 1 },
		"negative leeway":       func(c *verify.Config) { c.Leeway = -time.Second },
		"alg none":              func(c *verify.Config) { c.Algorithms = []string{"ES256", "none"} },
		"alg HS256":             func(c *verify.Config) { c.Algorithms = []string{"HS256"} },
		"alg unknown":           func(c *verify.Config) { c.Algorithms = []string{"es256"} },
		"extra none":            extra("NonE"),
		"extra HS512":           extra("hs512"),
		"extra builtin":         extra("ES256"),
		"extra without a name":  extra(""),
		"extra without methods": func(c *verify.Config) { c.Extra = []verify.Algorithm{{Name: "X"}} },
		"extra twice":           func(c *verify.Config) { c.Extra = append(mlDSA[:1:1], mlDSA[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			c := verify.Config{Issuer: issuerName, Audience: ourName, Keys: keys}
			if _, err := verify.New(c); err != nil {
				t.Fatalf("the good configuration: %v", err)
			}
			change(&c)
			if v, err := verify.New(c); err == nil || v != nil {
				t.Errorf("got %v, %v, expected an error", v, err)
			}
		})
	}
}

func TestVerify_returnsTheClaims(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	got, err := v.Verify(t.Context(), i.with(t, nil, map[string]any{
		"aud": []string{"https://other.example.com", ourName}, "nbf": noon.Unix(), "tenant": map[string]any{"id": 7},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := &verify.Claims{
		Issuer: issuerName, Subject: "usr_4f0c", Audience: []string{"https://other.example.com", ourName},
		ExpiresAt: noon.Add(10 * time.Minute), IssuedAt: noon, NotBefore: noon, ID: "at_1b2c", ClientID: "first-party",
		Scope: "orders:read orders:write", SessionID: "ses_99", AuthTime: noon.Add(-time.Hour), AMR: []string{"pwd"},
		ACR: "1", Roles: []string{"admin"}, KeyID: "k1",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(verify.Claims{})); diff != "" {
		t.Error(diff)
	}
	if got := got.Extra("tenant"); string(got) != `{"id":7}` {
		t.Errorf("Extra: %s", got)
	}
	if got := got.Extra("nothing"); got != nil {
		t.Errorf("Extra of an absent claim: %s", got)
	}
}

func TestVerify_allAlgorithms(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "RS256", "PS256", "EdDSA", "Ed25519", "ML-DSA-44", "ML-DSA-65"} {
		t.Run(alg, func(t *testing.T) {
			i := newKey(t, "k", alg)
			v := verifier(t, func(c *verify.Config) { c.Extra, c.Algorithms = mlDSA, []string{alg} }, i)
			raw := i.token(t)
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Fatal(err)
			}
			others := verifier(t, nil, newKey(t, "k", "ES256"))
			if claims, err := others.Verify(t.Context(), raw); err == nil || claims != nil {
				t.Error("verified by another key")
			}
			cut := strings.LastIndexByte(raw, '.')
			refused(t, v, raw[:cut+1]+b64(make([]byte, 64)), verify.ErrSignature)
		})
	}
}

func TestVerify_extraAlgorithmsNeedToBeGiven(t *testing.T) {
	i := newKey(t, "k", "ML-DSA-44")
	refused(t, verifier(t, nil, i), i.token(t), verify.ErrAlgorithm)
	if _, err := verifier(t, func(c *verify.Config) { c.Extra = mlDSA }, i).Verify(t.Context(), i.token(t)); err != nil {
		t.Errorf("given, hence allowed by default: %v", err)
	}
}

func TestVerify_refuses(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i, newKey(t, "rsa", "RS256"))
	header, payload := toJSON(t, i.header()), toJSON(t, i.claims())
	claim := func(name string, value any) string { return i.with(t, nil, map[string]any{name: value}) }
	head := func(name string, value any) string { return i.with(t, map[string]any{name: value}, nil) }
	addHead := func(member string) string { return i.raw(t, header[:len(header)-1]+","+member+"}", payload) }
	addClaim := func(member string) string { return i.raw(t, header, payload[:len(payload)-1]+","+member+"}") }
	good := i.token(t)
	parts := strings.Split(good, ".")

	for _, tt := range []struct {
		name, raw string
		want      error
	}{
		{"empty", "", verify.ErrMalformed},
		{"no dots", "abc", verify.ErrMalformed},
		{"two parts", parts[0] + "." + parts[1], verify.ErrMalformed},
		{"empty signature", parts[0] + "." + parts[1] + ".", verify.ErrMalformed},
		{"empty payload", parts[0] + ".." + parts[2], verify.ErrMalformed},
		{"empty header", "." + parts[1] + "." + parts[2], verify.ErrMalformed},
		{"five parts (JWE)", good + ".a.a", verify.ErrMalformed},
		{"trailing dot", good + ".", verify.ErrMalformed},
		{"space before", " " + good, verify.ErrMalformed},
		{"line break after", good + "\n", verify.ErrMalformed},
		{"line break within", good[:20] + "\r\n" + good[20:], verify.ErrMalformed},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "==", verify.ErrMalformed},
		{"standard base64", parts[0] + "." + parts[1] + "." + "+/" + parts[2][2:], verify.ErrMalformed},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, verify.ErrMalformed},
		{"percent-encoded dot", strings.Replace(good, ".", "%2e", 1), verify.ErrMalformed},
		{"too long", claim("pad", strings.Repeat("x", verify.MaxTokenSize)), verify.ErrMalformed},
		{"signature cut short", good[:len(good)-2], verify.ErrSignature},
		{"signature made longer", good + "AAAA", verify.ErrSignature},

		{"header is no object", i.raw(t, `["ES256"]`, payload), verify.ErrMalformed},
		{"header is no JSON", i.raw(t, `{"alg":"ES256"`, payload), verify.ErrMalformed},
		{"header has two values", i.raw(t, header+header, payload), verify.ErrMalformed},
		{"header not UTF-8", i.raw(t, "{\"alg\":\"ES256\",\"x\":\"\xff\"}", payload), verify.ErrMalformed},
		{"alg twice", addHead(`"alg":"ES256"`), verify.ErrMalformed},
		{"alg twice, once escaped", addHead(`"\u0061lg":"none"`), verify.ErrMalformed},
		{"alg as a number", head("alg", 256), verify.ErrMalformed},
		{"alg null", addHead(`"x":null,"kid2":1,"alg":null`), verify.ErrMalformed},
		{"alg missing", head("alg", nil), verify.ErrAlgorithm},
		{"alg by name in capitals", i.raw(t, `{"ALG":"ES256","typ":"at+jwt","kid":"k1"}`, payload), verify.ErrAlgorithm},
		{"alg unknown", head("alg", "ES256K"), verify.ErrAlgorithm},
		{"alg of another key", head("alg", "RS256"), verify.ErrAlgorithm},
		{"key of another alg", head("kid", "rsa"), verify.ErrAlgorithm},
		{"crit", addHead(`"crit":["b64"],"b64":false`), verify.ErrMalformed},
		{"crit empty", addHead(`"crit":[]`), verify.ErrMalformed},
		{"typ missing", head("typ", nil), verify.ErrType},
		{"typ JWT", head("typ", "JWT"), verify.ErrType},
		{"typ of a DPoP proof", head("typ", "dpop+jwt"), verify.ErrType},
		{"typ of a logout token", head("typ", "logout+jwt"), verify.ErrType},
		{"typ of another family", head("typ", "text/at+jwt"), verify.ErrType},
		{"typ with a blank", head("typ", "at+jwt "), verify.ErrType},
		{"kid missing", head("kid", nil), verify.ErrUnknownKey},
		{"kid unknown", head("kid", "k2"), verify.ErrUnknownKey},
		{"kid a path", head("kid", "../../../dev/null"), verify.ErrUnknownKey},
		{"kid long", head("kid", strings.Repeat("k", 5000)), verify.ErrUnknownKey},

		{"payload is no object", i.raw(t, header, `"hello"`), verify.ErrMalformed},
		{"payload is empty JSON", i.raw(t, header, ` `), verify.ErrMalformed},
		{"payload has trailing data", i.raw(t, header, payload+"x"), verify.ErrMalformed},
		{"payload not UTF-8", addClaim("\"x\":\"\xc3\x28\""), verify.ErrMalformed},
		{"sub twice", addClaim(`"sub":"root"`), verify.ErrMalformed},
		{"sub twice, once escaped", addClaim(`"s\u0075b":"root"`), verify.ErrMalformed},
		{"repeated name deep inside", addClaim(`"x":[{"a":{"b":1,"c":[],"b":2}}]`), verify.ErrMalformed},
		{"half a surrogate pair as a name", addClaim(`"\ud800":1`), verify.ErrMalformed},
		{"deep nesting", addClaim(`"x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), verify.ErrMalformed},
		{"deep objects", addClaim(`"x":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)), verify.ErrMalformed},

		{"no claims", i.raw(t, header, `{}`), verify.ErrIssuer},
		{"iss missing", claim("iss", nil), verify.ErrIssuer},
		{"iss another", claim("iss", "https://evil.example.com"), verify.ErrIssuer},
		{"iss with a slash", claim("iss", issuerName+"/"), verify.ErrIssuer},
		{"iss in capitals", claim("iss", strings.ToUpper(issuerName)), verify.ErrIssuer},
		{"iss as a list", claim("iss", []string{issuerName}), verify.ErrClaims},
		{"ISS only", i.raw(t, header, strings.Replace(payload, `"iss"`, `"ISS"`, 1)), verify.ErrIssuer},
		{"aud missing", claim("aud", nil), verify.ErrAudience},
		{"aud another", claim("aud", "https://other.example.com"), verify.ErrAudience},
		{"aud others", claim("aud", []string{"a", "b"}), verify.ErrAudience},
		{"aud empty list", claim("aud", []string{}), verify.ErrAudience},
		{"aud a prefix", claim("aud", ourName[:10]), verify.ErrAudience},
		{"aud longer", claim("aud", ourName+".evil.example"), verify.ErrAudience},
		{"aud joined", claim("aud", "x "+ourName), verify.ErrAudience},
		{"aud with a number", claim("aud", []any{ourName, 7}), verify.ErrClaims},
		{"aud an object", claim("aud", map[string]any{ourName: true}), verify.ErrClaims},
		{"sub missing", claim("sub", nil), verify.ErrClaims},
		{"sub empty", claim("sub", ""), verify.ErrClaims},
		{"sub a number", claim("sub", 7), verify.ErrClaims},
		{"sub null", addClaim(`"z":0,"nbf":null`), verify.ErrClaims},
		{"jti missing", claim("jti", nil), verify.ErrClaims},
		{"client_id missing", claim("client_id", nil), verify.ErrClaims},
		{"client_id empty", claim("client_id", ""), verify.ErrClaims},
		{"exp missing", claim("exp", nil), verify.ErrClaims},
		{"exp a string", claim("exp", "4102444800"), verify.ErrClaims},
		{"exp negative", claim("exp", -1), verify.ErrClaims},
		{"exp beyond all calendars", claim("exp", 1e300), verify.ErrClaims},
		{"exp beyond int64", addedNumber(t, i, "exp", "99999999999999999999"), verify.ErrClaims},
		{"exp true", claim("exp", true), verify.ErrClaims},
		{"exp zero", claim("exp", 0), verify.ErrExpired},
		{"iat missing", claim("iat", nil), verify.ErrClaims},
		{"iat a string", claim("iat", "now"), verify.ErrClaims},
		{"scope a list", claim("scope", []string{"a"}), verify.ErrClaims},
		{"roles a string", claim("roles", "admin"), verify.ErrClaims},
		{"roles of numbers", claim("roles", []int{1}), verify.ErrClaims},
		{"cnf: bound to a DPoP key", claim("cnf", map[string]any{"jkt": "abc"}), verify.ErrClaims},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, v, tt.raw, tt.want) })
	}
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatalf("the token that all of these were made from: %v", err)
	}
}

func addedNumber(t *testing.T, i *issuer, name, number string) string {
	t.Helper()
	payload := toJSON(t, changed(i.claims(), map[string]any{name: nil}))
	return i.raw(t, toJSON(t, i.header()), payload[:len(payload)-1]+`,"`+name+`":`+number+"}")
}

func TestVerify_accepts(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, func(c *verify.Config) { c.OtherAudiences = []string{"old-name"} }, i)
	payload := toJSON(t, i.claims())
	for name, raw := range map[string]string{
		"typ as a media type": i.with(t, map[string]any{"typ": "application/at+jwt"}, nil),
		"typ in capitals":     i.with(t, map[string]any{"typ": "AT+JWT"}, nil),
		"aud a list of one":   i.with(t, nil, map[string]any{"aud": []string{ourName}}),
		"our other name":      i.with(t, nil, map[string]any{"aud": "old-name"}),
		"exp with a fraction": addedNumber(t, i, "exp", "1772366400.75"),
		"exp with exponent":   addedNumber(t, i, "exp", "1.7723664e9"),
		"white space":         i.raw(t, " { \"alg\" : \"ES256\" ,\n\t\"typ\":\"at+jwt\", \"kid\":\"k1\" } ", "\r\n"+strings.ReplaceAll(payload, ",", " ,\n ")+"\n"),
		"escapes":             i.raw(t, `{"alg":"ES256","typ":"at\u002bjwt","kid":"k1"}`, strings.Replace(payload, `"iss"`, `"\u0069ss"`, 1)),
		"few optional claims": i.with(t, nil, map[string]any{"scope": nil, "sid": nil, "auth_time": nil, "amr": nil, "acr": nil, "roles": nil}),
		"equal names, apart":  i.with(t, nil, map[string]any{"x": map[string]any{"sub": "y"}, "z": []any{map[string]any{"sub": 1}, map[string]any{"sub": 2}}}),
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := v.Verify(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Subject != "usr_4f0c" {
				t.Errorf("sub is %q", claims.Subject)
			}
		})
	}
}

// A token that differs in one byte is another token: no byte is without meaning.
func TestVerify_everyByteCounts(t *testing.T) {
	t.Parallel()
	i := newKey(t, "k1", "EdDSA")
	v := verifier(t, nil, i)
	good := i.token(t)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	for at := range len(good) {
		for other := range 256 {
			if byte(other) == good[at] {
				continue
			}
			bad := []byte(good)
			bad[at] = byte(other)
			if claims, err := v.Verify(t.Context(), string(bad)); err == nil || claims != nil {
				t.Fatalf("byte %d: %q accepted in place of %q", at, byte(other), good[at])
			}
		}
		if _, err := v.Verify(t.Context(), good[:at]); err == nil {
			t.Fatalf("the first %d bytes accepted", at)
		}
		if _, err := v.Verify(t.Context(), good[:at]+good[at+1:]); err == nil {
			t.Fatalf("accepted without byte %d", at)
		}
	}
}

func TestVerify_noneInAnySpelling(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	payload := b64([]byte(toJSON(t, i.claims())))
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", " none", "no\u0000ne", "NoNe", "null", ""} {
		header := b64([]byte(toJSON(t, map[string]any{"alg": none, "typ": "at+jwt", "kid": "k1"})))
		refused(t, v, header+"."+payload+"."+b64([]byte("x")), verify.ErrAlgorithm)
		refused(t, v, header+"."+payload+".", verify.ErrMalformed)
	}
}

// The attack of the first hour: the public key, which everybody has, used as
// an HMAC secret.
func TestVerify_publicKeyAsSharedSecret(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256"} {
		i := newKey(t, "k1", alg)
		v := verifier(t, nil, i)
		for _, secret := range secretsFrom(t, i) {
			for _, hs := range []string{"HS256", "HS384", "HS512"} {
				refused(t, v, signHS(t, hs, secret, changed(i.header(), map[string]any{"alg": hs}), i.claims()), verify.ErrAlgorithm)
				refused(t, v, signHS(t, hs, secret, i.header(), i.claims()), verify.ErrSignature)
			}
		}
	}
}

// A token does not bring its own key.
func TestVerify_embeddedKeysAreIgnored(t *testing.T) {
	honest, thief := newKey(t, "k1", "ES256"), newKey(t, "k1", "ES256")
	v := verifier(t, nil, honest)
	for name, value := range map[string]any{
		"jwk": thief.jwk(), "jku": "https://evil.example.com/jwks.json", "x5u": "https://evil.example.com/cert.pem", "x5c": []string{"AAAA"},
	} {
		member := map[string]any{name: value}
		refused(t, v, thief.with(t, member, nil), verify.ErrSignature)
		refused(t, v, thief.with(t, changed(member, map[string]any{"kid": "k2"}), nil), verify.ErrUnknownKey)
		if _, err := v.Verify(t.Context(), honest.with(t, member, nil)); err != nil {
			t.Errorf("%s in an honest token: %v", name, err)
		}
	}
}

func TestVerify_timesAtTheirBorders(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	for _, tt := range []struct {
		name   string
		leeway time.Duration
		claims map[string]any
		want   error
	}{
		{"exp: last moment", verify.NoLeeway, map[string]any{"exp": noon.Unix() + 1}, nil},
		{"exp: now", verify.NoLeeway, map[string]any{"exp": noon.Unix()}, verify.ErrExpired},
		{"exp: within leeway", 0, map[string]any{"exp": noon.Unix() - 59}, nil},
		{"exp: leeway used up", 0, map[string]any{"exp": noon.Unix() - 60}, verify.ErrExpired},
		{"exp: leeway of 10 s", 10 * time.Second, map[string]any{"exp": noon.Unix() - 10}, verify.ErrExpired},
		{"exp: largest leeway", 5 * time.Minute, map[string]any{"exp": noon.Unix() - 299}, nil},
		{"exp: fraction", verify.NoLeeway, map[string]any{"exp": float64(noon.Unix()) + 0.5}, nil},
		{"iat: now", verify.NoLeeway, map[string]any{"iat": noon.Unix()}, nil},
		{"iat: a second ahead", verify.NoLeeway, map[string]any{"iat": noon.Unix() + 1}, verify.ErrNotYetValid},
		{"iat: leeway used up", 0, map[string]any{"iat": noon.Unix() + 60}, nil},
		{"iat: beyond leeway", 0, map[string]any{"iat": noon.Unix() + 61}, verify.ErrNotYetValid},
		{"nbf: now", verify.NoLeeway, map[string]any{"nbf": noon.Unix()}, nil},
		{"nbf: within leeway", 0, map[string]any{"nbf": noon.Unix() + 60}, nil},
		{"nbf: beyond leeway", 0, map[string]any{"nbf": noon.Unix() + 61}, verify.ErrNotYetValid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := verifier(t, func(c *verify.Config) { c.Leeway = tt.leeway }, i)
			raw := i.with(t, nil, tt.claims)
			if tt.want != nil {
				refused(t, v, raw, tt.want)
			} else if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
}

// CVE-2024-51744 was a library whose callers saw "expired" where the signature
// was bad as well.
func TestVerify_expiryIsTheLastThingReported(t *testing.T) {
	i, thief := newKey(t, "k1", "ES256"), newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	old := map[string]any{"exp": noon.Unix() - 3600, "iat": noon.Unix() - 7200}
	refused(t, v, i.with(t, nil, old), verify.ErrExpired)
	refused(t, v, thief.with(t, nil, old), verify.ErrSignature)
	for name, want := range map[string]error{"iss": verify.ErrIssuer, "aud": verify.ErrAudience, "sub": verify.ErrClaims} {
		refused(t, v, i.with(t, nil, changed(old, map[string]any{name: "", "x": 1})), want)
	}
}

func TestVerifyEvenIfExpired_forgivesNothingElse(t *testing.T) {
	i, thief := newKey(t, "k1", "ES256"), newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	old := map[string]any{"exp": noon.Unix() - 86400, "iat": noon.Unix() - 90000}
	claims, err := v.VerifyEvenIfExpired(t.Context(), i.with(t, nil, old))
	if err != nil || claims.SessionID != "ses_99" {
		t.Fatalf("%+v, %v", claims, err)
	}
	for want, raw := range map[error]string{
		verify.ErrSignature:   thief.with(t, nil, old),
		verify.ErrIssuer:      i.with(t, nil, changed(old, map[string]any{"iss": "x"})),
		verify.ErrAudience:    i.with(t, nil, changed(old, map[string]any{"aud": "x"})),
		verify.ErrClaims:      i.with(t, nil, map[string]any{"exp": nil}),
		verify.ErrNotYetValid: i.with(t, nil, changed(old, map[string]any{"iat": noon.Unix() + 3600})),
	} {
		if claims, err := v.VerifyEvenIfExpired(t.Context(), raw); !errors.Is(err, want) || claims != nil {
			t.Errorf("%+v, %v, expected %v", claims, err, want)
		}
	}
}

// CVE-2025-30204: a header full of dots must cost the caller more than us.
func TestVerify_rubbishCostsNothing(t *testing.T) {
	v := verifier(t, nil, newKey(t, "k1", "ES256"))
	for name, raw := range map[string]string{
		"dots":          strings.Repeat(".", verify.MaxTokenSize),
		"megabyte":      strings.Repeat(".", 1<<20),
		"letters":       strings.Repeat("a", verify.MaxTokenSize),
		"dotted":        strings.Repeat("a.", verify.MaxTokenSize/2),
		"not a token":   "Bearer Bearer Bearer",
		"empty parts":   "..",
		"unprintable":   "\x00\x00",
		"megabyte of a": strings.Repeat("a", 1<<20),
	} {
		refused(t, v, raw, verify.ErrMalformed)
		if n := testing.AllocsPerRun(100, func() { _, _ = v.Verify(context.Background(), raw) }); n > 0 {
			t.Errorf("%s: %v allocations, expected none", name, n)
		}
	}
}

// keySetFunc is a key set of one's own.
type keySetFunc func(ctx context.Context, kid string) (verify.Key, error)

func (f keySetFunc) Key(ctx context.Context, kid string) (verify.Key, error) { return f(ctx, kid) }

func TestVerify_foreignKeySets(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	other := newKey(t, "x", "ES384")
	with := func(f keySetFunc) *verify.Verifier {
		return verifier(t, func(c *verify.Config) { c.Keys = f }, i)
	}
	broken := errors.New("disk on fire")
	for name, tt := range map[string]struct {
		set  keySetFunc
		want error
	}{
		"trouble is no verdict": {func(context.Context, string) (verify.Key, error) { return verify.Key{}, broken }, verify.ErrKeysUnavailable},
		"unknown is a verdict": {func(context.Context, string) (verify.Key, error) {
			return verify.Key{}, fmt.Errorf("x: %w", verify.ErrUnknownKey)
		}, verify.ErrUnknownKey},
		"key of another curve": {func(context.Context, string) (verify.Key, error) {
			return verify.Key{ID: "k1", Algorithm: "ES256", Public: other.private.Public()}, nil
		}, verify.ErrAlgorithm},
		"no key at all":          {func(context.Context, string) (verify.Key, error) { return verify.Key{}, nil }, verify.ErrAlgorithm},
		"key without its public": {func(context.Context, string) (verify.Key, error) { return verify.Key{Algorithm: "ES256"}, nil }, verify.ErrAlgorithm},
	} {
		t.Run(name, func(t *testing.T) { refused(t, with(tt.set), i.token(t), tt.want) })
	}
	_, err := with(func(context.Context, string) (verify.Key, error) { return verify.Key{}, broken }).Verify(t.Context(), i.token(t))
	if !errors.Is(err, broken) {
		t.Errorf("the cause is lost: %v", err)
	}
}

// A kid is anybody's text: what cannot be one does not reach the key set.
func TestVerify_absurdKidsDoNotReachTheKeySet(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, func(c *verify.Config) {
		c.Keys = keySetFunc(func(_ context.Context, kid string) (verify.Key, error) {
			t.Errorf("asked for a kid of %d bytes", len(kid))
			return verify.Key{}, verify.ErrUnknownKey
		})
	}, i)
	for _, kid := range []any{nil, "", strings.Repeat("k", 257)} {
		refused(t, v, i.with(t, map[string]any{"kid": kid}, nil), verify.ErrUnknownKey)
	}
}

func TestClaims_scopesAndRoles(t *testing.T) {
	c := &verify.Claims{Scope: "orders:read  orders:write", Roles: []string{"admin", ""}}
	for scope, want := range map[string]bool{"orders:read": true, "orders:write": true, "orders": false, "": false, "orders:read  orders:write": false, "Orders:read": false} {
		if got := c.HasScope(scope); got != want {
			t.Errorf("HasScope(%q) = %v", scope, got)
		}
	}
	for role, want := range map[string]bool{"admin": true, "Admin": false, "": false} {
		if got := c.HasRole(role); got != want {
			t.Errorf("HasRole(%q) = %v", role, got)
		}
	}
	if diff := cmp.Diff([]string{"orders:read", "orders:write"}, c.Scopes()); diff != "" {
		t.Error(diff)
	}
	if c.Extra("x") != nil {
		t.Error("claims that were never parsed have extras")
	}
}
