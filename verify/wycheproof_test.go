package verify_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/verify"
)

// wycheproof is a file of the test vectors in testdata/wycheproof, as far as it
// matters here.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []wycheproofGroup
}

type wycheproofGroup struct {
	Comment string
	Public  json.RawMessage // a JWK or a set; absent for symmetric keys
	Private json.RawMessage
	Tests   []struct {
		TcID    int `json:"tcId"`
		Comment string
		Result  string
		JWS     json.RawMessage // text, or an object in JSON serialization
		JWE     json.RawMessage
	}
}

// believed is what wycheproof calls valid and this package refuses all the
// same, with the reason.
var believed = map[string]string{
	"json_web_signature 259": "no payload: an access token has claims",
	"json_web_signature 272": "no payload: an access token has claims",
	// Symmetric besides, hence of an unsupported kind anyway.
	"json_web_signature 372": "characters outside of base64url",
	"json_web_signature 373": "characters outside of base64url",
}

// All that Wycheproof calls invalid is refused, and all that it calls valid is
// accepted if it is of a kind that this package knows.
func TestWycheproof(t *testing.T) {
	for name, want := range map[string]map[string]int{
		"json_web_signature": {"valid, accepted": 14, "invalid, refused": 355},
		"json_web_key":       {"valid, accepted": 1, "invalid, refused": 21},
		"json_web_crypto":    {"valid, accepted": 2, "invalid, refused": 77},
	} {
		t.Run(name, func(t *testing.T) {
			file := readWycheproof(t, name)
			counts := map[string]int{}
			for _, group := range file.TestGroups {
				runWycheproof(t, name, group, counts)
			}
			total := 0
			for _, what := range slices.Sorted(maps.Keys(counts)) {
				total += counts[what]
				t.Logf("%4d %s", counts[what], what)
			}
			if total != file.NumberOfTests {
				t.Errorf("%d cases were run, the file has %d", total, file.NumberOfTests)
			}
			for what, n := range want {
				if diff := cmp.Diff(n, counts[what]); diff != "" {
					t.Errorf("%s:\n%s", what, diff)
				}
			}
		})
	}
}

func readWycheproof(t *testing.T, name string) (file wycheproof) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "wycheproof", name+"_test.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func runWycheproof(t *testing.T, file string, group wycheproofGroup, counts map[string]int) {
	t.Helper()
	set := group.Public
	if set == nil {
		set = group.Private
	}
	if !bytes.Contains(set, []byte(`"keys"`)) {
		set = fmt.Appendf(nil, `{"keys":[%s]}`, set)
	}
	keys, setErr := verify.StaticKeys(set)
	for _, test := range group.Tests {
		raw, encrypted := plainText(test.JWS), test.JWE != nil
		if encrypted {
			raw = plainText(test.JWE)
		}
		err := setErr
		if err == nil {
			v := verifier(t, func(c *verify.Config) { c.Keys = keys }, newKey(t, "other", "EdDSA"))
			_, err = v.VerifyJWS(t.Context(), raw)
		}
		id := fmt.Sprintf("%s %d", file, test.TcID)
		kind := kindOf(raw, encrypted)
		switch reason := believed[id]; {
		case test.Result == "invalid" && err != nil:
			counts["invalid, refused"]++
		case test.Result == "invalid":
			t.Errorf("%s, %s, %s: accepted", id, group.Comment, test.Comment)
		case err == nil:
			counts["valid, accepted"]++
		case reason != "":
			counts["valid, refused on purpose: "+reason]++
		case kind != "":
			counts["valid, of a kind that is not supported: "+kind]++
		default:
			t.Errorf("%s, %s, %s: %v", id, group.Comment, test.Comment, err)
		}
	}
}

// plainText returns what is presented: the text, or the object as it stands.
func plainText(presented json.RawMessage) string {
	var text string
	if json.Unmarshal(presented, &text) != nil {
		return string(presented)
	}
	return text
}

// kindOf names what this package does not do at all; "" for what it does.
func kindOf(raw string, encrypted bool) string {
	if encrypted {
		return "encryption (JWE)"
	}
	first, _, _ := strings.Cut(raw, ".")
	header, _ := base64.RawURLEncoding.DecodeString(first) // a broken one names no alg
	var h struct{ Alg string }
	_ = json.Unmarshal(header, &h)
	switch {
	case strings.HasPrefix(h.Alg, "HS"):
		return "shared secrets (HS256, HS384, HS512)"
	case slices.Contains([]string{"RS384", "RS512", "PS384", "PS512", "ES512"}, h.Alg):
		return h.Alg
	default:
		return ""
	}
}
