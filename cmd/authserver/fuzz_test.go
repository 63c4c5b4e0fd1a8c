package main

import (
	"strings"
	"testing"
	"unicode"

	"example.com/authserver/internal/id"
)

// A name on the command line is an address, an id, or refused.
func FuzzCheckUserName(f *testing.F) {
	for _, seed := range []string{"", "ada@example.com", id.NewUser().String(), strings.ToUpper(id.NewUser().String()), "x", "@", "--help"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkUserName(name) != nil || strings.Contains(name, "@") {
			return
		}
		if u, err := id.Parse[struct{}](name); err != nil || u.String() != name {
			t.Fatalf("%q passed", name)
		}
	})
}

// What others wrote does not move the cursor of the operator who reads it.
func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b[2J", "a\r\nb", "\u202e", "\u009b1m", "\xff", "\u2066x", "\u00e9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := printable(text)
		if strings.ContainsFunc(shown, unicode.IsControl) || strings.ContainsAny(shown, "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") {
			t.Fatalf("%q is shown as %q", text, shown)
		}
	})
}
