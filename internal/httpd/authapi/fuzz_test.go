package authapi

import (
	"net/http"
	"strings"
	"testing"

	"example.com/authserver/internal/login"
)

// Of whatever Cookie headers come, only the values of our cookie are taken:
// each once, none empty, and each one that stands in the header.
func FuzzCookies(f *testing.F) {
	for _, seed := range []string{
		"", "refresh=a", "refresh=a; refresh=b; refresh=a", "refresh=", "Refresh=a", "xrefresh=a; refreshx=b", `refresh="a"`, "refresh=a,refresh=b", "refresh = a", ";;;", "refresh=a=b", "refresh=\x00",
		strings.Repeat("refresh=a; ", 3000), "__Host-refresh=a; refresh=b", "refresh=\u00e9",
	} {
		f.Add(seed, "other=1")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		r := &http.Request{Header: http.Header{"Cookie": {first, second}}}
		for _, j := range []jar{jarFor("http://localhost:8080"), jarFor("https://auth.example.com")} {
			seen := map[string]bool{}
			for _, text := range j.find(r) {
				value := text.Reveal()
				if value == "" || seen[value] || !strings.Contains(first+";"+second, value) || strings.ContainsAny(value, ";\x00\r\n") {
					t.Fatalf("%q and %q hold %q for %s", first, second, value, j.name)
				}
				seen[value] = true
			}
			if len(seen) > 0 && !strings.Contains(first+";"+second, j.name) {
				t.Fatalf("%q and %q hold %v for %s", first, second, seen, j.name)
			}
		}
	})
}

// The names that people give are bounded and hold nothing that moves a cursor.
func FuzzCheckNames(f *testing.F) {
	f.Add("Ada's phone", "ada@example.com")
	f.Add("a\x1b[2J", "a@b\r\n")
	f.Add(strings.Repeat("\U0001F600", 129), "\u0085")
	f.Fuzz(func(t *testing.T, device, email string) {
		if checkNames(login.Request{DeviceName: device, Email: email}) != nil {
			return
		}
		if len([]rune(device)) > maxDeviceName || strings.ContainsAny(device+email, "\x00\x07\x1b\x7f\r\n\u0085\u009b") {
			t.Fatalf("%q and %q passed", device, email)
		}
	})
}
