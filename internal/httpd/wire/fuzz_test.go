package wire_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"example.com/authserver/internal/httpd/wire"
)

// Whatever a user agent calls itself, what is stored is short, UTF-8 and without
// control characters, and it is itself when it is plain.
func FuzzCleanUserAgent(f *testing.F) {
	for _, seed := range []string{"", "curl/8.0", strings.Repeat("x", 300), strings.Repeat("\u00e9", 200), "a\x00b", "\xff\xfe", "a\r\nb", "\u0085", strings.Repeat("a", 255) + "\U0001F600"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		clean := wire.CleanUserAgent(given)
		if len(clean) > 256 || !utf8.ValidString(clean) || strings.ContainsFunc(clean, unicode.IsControl) {
			t.Fatalf("%q became %q", given, clean)
		}
		if again := wire.CleanUserAgent(clean); again != clean {
			t.Fatalf("%q became %q and then %q", given, clean, again)
		}
	})
}
