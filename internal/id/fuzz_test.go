package id_test

import (
	"testing"

	"example.com/authserver/internal/id"
)

// What is read as an id is spelled the same again: every id has one spelling.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		id.NewSession().String(), "00000000-0000-0000-0000-000000000000", "00000000-0000-4000-8000-00000000000G", "00000000-0000-4000-8000-00000000000A",
		"", "{00000000-0000-4000-8000-000000000000}", "urn:uuid:00000000-0000-4000-8000-000000000000", "000000000000400080000000000000000000", "00000000\u2010000-4000-8000-00000000000",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := id.Parse[struct{}](text)
		switch {
		case err != nil && !parsed.IsZero():
			t.Fatalf("%q is an error and %s", text, parsed)
		case err == nil && parsed.String() != text:
			t.Fatalf("%q was read and is spelled %s", text, parsed)
		}
	})
}
