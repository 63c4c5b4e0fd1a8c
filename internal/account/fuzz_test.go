package account

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"example.com/authserver/internal/password"
)

// An address is kept as it was given, and what addresses are compared by does
// not change when it is computed again.
func FuzzParseEmail(f *testing.F) {
	for _, seed := range []string{"ada@example.com", "ADA@EXAMPLE.COM", "a@b", "@", "a@", "@b", "\u00e9@example.com", "e\u0301@example.com", "\u0130@example.com", "\u1e9e@x", "a b@c", "a@b\x00", "\xff@b", "\u03a3@x", "\u212a@x", strings.Repeat("a", 254) + "@b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		email, err := ParseEmail(given)
		if err != nil {
			if email != (Email{}) {
				t.Fatalf("%q is an error and %s", given, email)
			}
			return
		}
		if email.String() != given || email.Key() == "" || !utf8.ValidString(given) || strings.ContainsAny(given, " \t\r\n\x00") {
			t.Fatalf("%q was taken for %q with the key %q", given, email, email.Key())
		}
		if again := EmailKey(email.Key()); again != email.Key() {
			t.Fatalf("the key of %q is %q, and the key of that %q", given, email.Key(), again)
		}
		if other := EmailKey(strings.ToUpper(email.Key())); EmailKey(strings.ToUpper(other)) != other {
			t.Fatalf("upper and lower case of %q go on for ever: %q", given, other)
		}
	})
}

// An import reads every line on its own: a line that is refused harms no other,
// and one that is taken holds nothing that could not have been registered.
func FuzzImport(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{
		`{"email":"ada@example.com"}`, "\n\n", `{"email":"ada@example.com","roles":["admin"],"disabled":true,"created_at":"2020-01-01T00:00:00Z"}` + "\r\n" + `{"email":"b@c"}`,
		`{"email":"a@b","password_hash":"$2y$10$abcdefghijklmnopqrstuuTRfMGxMl9l8C5dF9HdTGCsvSRVOnVRu"}`, `{"email":"a@b"}{"email":"c@d"}`, `[]`, `{"email":"a@b","x":1}`, `{"email":null}`,
		`{"email":"a@b","created_at":"9999-01-01T00:00:00Z"}`, strings.Repeat("x", importLine+10) + "\n" + `{"email":"a@b"}`, "\xef\xbb\xbf{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		reader := bufio.NewReaderSize(strings.NewReader(string(file)), importLine)
		lines := 0
		for {
			text, whole, err := nextLine(reader)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if lines++; whole {
				readLine(t, text, now)
			}
		}
		want := strings.Count(string(file), "\n")
		if n := len(file); n > 0 && file[n-1] != '\n' {
			want++
		}
		if lines != want {
			t.Fatalf("%d lines were read of %d", lines, want)
		}
	})
}

func readLine(t *testing.T, text []byte, now time.Time) {
	t.Helper()
	u, email, err := readImportLine(text, now)
	if err != nil {
		return
	}
	if _, err := ParseEmail(email); err != nil || u.Email.String() != email {
		t.Fatalf("%q was taken with the address %q: %v", text, email, err)
	}
	if u.Hash != "" {
		if scheme, err := password.Parse(u.Hash); err != nil || scheme.String() != u.Scheme {
			t.Fatalf("%q was taken with the hash %q: %v", text, u.Hash, err)
		}
	}
	for _, role := range u.Roles {
		if _, err := ParseRole(role); err != nil {
			t.Fatalf("%q was taken with the role %q", text, role)
		}
	}
	if CheckRoles(u.Roles) != nil || u.CreatedAt.After(now) || !u.Imported {
		t.Fatalf("%q was taken for %+v", text, u)
	}
}
