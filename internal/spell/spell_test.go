package spell_test

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"example.com/authserver/internal/spell"
)

func TestStrings_areJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := rapid.SliceOf(rapid.String()).Draw(t, "list")
		var back []string
		if err := json.Unmarshal(spell.Strings(nil, given), &back); err != nil || !slices.Equal(back, given) {
			t.Fatalf("%q came back as %q: %v", given, back, err)
		}
	})
}

// What is not UTF-8 must not spoil a document.
func TestString_isJSONWhateverTheBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		if spelled := spell.String([]byte("["), string(given)); !json.Valid(append(spelled, ']')) || !utf8.Valid(spelled) {
			t.Fatalf("%q became %s", given, spelled)
		}
	})
}
