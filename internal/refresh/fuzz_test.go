package refresh

import (
	"strings"
	"testing"

	"example.com/authserver/internal/id"
)

// A retry key is of visible characters and of some length, or it is none; the
// quotes of a structured field say nothing, and no two families share one.
func FuzzRetryKeyOf(f *testing.F) {
	for _, seed := range []string{"", `""`, `"`, "0123456789abcdef", `"0123456789abcdef"`, "0123456789abcde ", "0123456789abcd\x7f\x80", strings.Repeat("k", 128), strings.Repeat("k", 129), `"""0123456789abcdef"""`, "0123456789\tabcdef"} {
		f.Add(seed)
	}
	mine, other := id.Family{1}, id.Family{2}
	f.Fuzz(func(t *testing.T, header string) {
		key := RetryKeyOf(mine, header)
		inner := header
		if len(header) >= 2 && strings.HasPrefix(header, `"`) && strings.HasSuffix(header, `"`) {
			inner = header[1 : len(header)-1]
		}
		visible := !strings.ContainsFunc(inner, func(r rune) bool { return r <= ' ' || r > '~' })
		counts := visible && len(inner) >= 16 && len(inner) <= 128
		if counts != (key != RetryKey{}) {
			t.Fatalf("%q counts is %v, the key is %x", header, counts, key)
		}
		if !counts {
			return
		}
		if key == RetryKeyOf(other, header) {
			t.Fatalf("%q is the same key in two families", header)
		}
		if quoted := `"` + inner + `"`; RetryKeyOf(mine, quoted) != key {
			t.Fatalf("%q is another key than %q", quoted, header)
		}
	})
}
