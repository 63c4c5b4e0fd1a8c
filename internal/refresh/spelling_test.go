package refresh

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestToken_neverPrints(t *testing.T) {
	token := someToken(3, 7)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, token); strings.Contains(got, "160 161") || strings.Contains(strings.ToLower(got), "a0a1") || strings.Contains(got, "0xa0") {
			t.Errorf("%s prints the family secret: %s", verb, got)
		}
	}
}

// TestParse_oneTokenHasOneSpelling: Go's decoder skips line ends, so a token
// whose last bytes are zero must not be had from a shorter text with some.
func TestParse_oneTokenHasOneSpelling(t *testing.T) {
	roots := newRing(7)
	tried := 0
	for g := int32(1); g < 4000; g++ {
		genuine := someToken(g, 7).spell(rootOf(7))
		if genuine[76] != 'A' {
			continue
		}
		tried++
		for _, end := range []string{"\n", "\r"} {
			for _, at := range []int{5, 40, 76} {
				text := genuine[:at] + end + genuine[at:76]
				if _, err := Parse(t.Context(), roots, text); !errors.Is(err, ErrForged) {
					t.Fatalf("generation %d: %q passes for %q", g, text, genuine)
				}
			}
		}
	}
	if tried == 0 {
		t.Fatal("no token ends in A")
	}
}
