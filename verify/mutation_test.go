package verify_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"example.com/authserver/verify"
)

// mayBe are the classes that a change in each part of a token may lead to. A
// payload that is not the one signed is never read, so no class speaks of claims.
var mayBe = map[string][]error{
	"header":    {verify.ErrMalformed, verify.ErrAlgorithm, verify.ErrType, verify.ErrUnknownKey, verify.ErrSignature},
	"dot":       {verify.ErrMalformed},
	"payload":   {verify.ErrMalformed, verify.ErrSignature},
	"signature": {verify.ErrMalformed, verify.ErrSignature},
}

// Every bit of a token counts: those of its characters and those they stand
// for. TestVerify_everyByteCounts is the same for EdDSA, byte by byte.
func TestMutations_everyBitOfAToken(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			i := newKey(t, "k1", alg)
			v := verifier(t, nil, i)
			good := i.token(t)
			if _, err := v.Verify(t.Context(), good); err != nil {
				t.Fatal(err)
			}
			tried, classes := 0, map[string]int{}
			try := func(at int, character byte) {
				bad := good[:at] + string(rune(character)) + good[at+1:]
				if character > 0x7f {
					bad = good[:at] + string([]byte{character}) + good[at+1:]
				}
				claims, err := v.Verify(t.Context(), bad)
				part := partOf(good, at)
				if claims != nil || !slices.ContainsFunc(mayBe[part], func(e error) bool { return errors.Is(err, e) }) {
					t.Fatalf("character %d, in the %s, made %q: %v, %v", at, part, character, claims, err)
				}
				tried++
				classes[part+": "+className(err)]++
			}
			const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			for at := range len(good) {
				for bit := range 8 {
					try(at, good[at]^1<<bit)
				}
				if value := strings.IndexByte(alphabet, good[at]); value >= 0 {
					for bit := range 6 {
						try(at, alphabet[value^1<<bit])
					}
				}
			}
			t.Logf("%d mutations of %d characters, all refused: %v", tried, len(good), classes)
		})
	}
}

func partOf(token string, at int) string {
	if token[at] == '.' {
		return "dot"
	}
	return []string{"header", "payload", "signature"}[strings.Count(token[:at], ".")]
}

func className(err error) string {
	for name, e := range errorNames {
		if errors.Is(err, e) {
			return name
		}
	}
	return err.Error()
}

// spellings are what `alg` may look like to somebody who is not careful.
var spellings = []string{
	"none", "None", "NONE", "nOnE", "none ", " none", "no\u0000ne", "", "null",
	"HS256", "HS384", "HS512", "hs256", "es256", "Es256", "ES256 ", " ES256", "ES256\u0000", "ES256K", "ES384", "ES512", "RS256", "PS256", "EdDSA",
	"Ed25519", "dir", "A256KW", "ES256,none", "ES-256", "\uff25\uff33256",
}

// Each spelling at each door of this package, though the key and the signature
// are the issuer's own.
func TestMutations_spellingsOfAlgAtEveryDoor(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	protected := v.Middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came through") }))
	tried := 0
	for _, alg := range spellings {
		raw := i.with(t, map[string]any{"alg": alg}, nil)
		unsigned := raw[:strings.LastIndexByte(raw, '.')+1]
		refused(t, v, raw, verify.ErrAlgorithm)
		refused(t, v, unsigned, verify.ErrMalformed)
		for _, token := range []string{raw, unsigned} {
			if claims, err := v.VerifyEvenIfExpired(t.Context(), token); claims != nil || err == nil {
				t.Errorf("alg %q: %+v, %v", alg, claims, err)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			protected.ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized {
				t.Errorf("alg %q: the middleware answers %d", alg, w.Code)
			}
			tried += 3
		}
	}
	t.Logf("%d spellings, %d tries", len(spellings), tried)
}
