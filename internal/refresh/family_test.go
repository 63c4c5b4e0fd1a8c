package refresh

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/id"
)

func TestRetryKeyOf(t *testing.T) {
	f := id.Family{1, 2, 3}
	sum := sha256.Sum256([]byte(string(f[:]) + "0123456789abcdef"))
	want := RetryKey(sum[:16])
	for _, header := range []string{"0123456789abcdef", `"0123456789abcdef"`} {
		if got := RetryKeyOf(f, header); got != want {
			t.Errorf("%s: %x, want the first 16 bytes of SHA-256(family id, key), %x", header, got, want)
		}
	}
	if RetryKeyOf(id.Family{9}, "0123456789abcdef") == want {
		t.Error("one key gives two families one hash")
	}

	for name, header := range map[string]string{
		"128 characters":           strings.Repeat("k", 128),
		"128 characters in quotes": `"` + strings.Repeat("k", 128) + `"`,
		"the first visible one":    strings.Repeat("!", 16),
		"the last visible one":     strings.Repeat("~", 16),
		"one quote belongs to it":  `"123456789abcdef`,
	} {
		if RetryKeyOf(f, header) == (RetryKey{}) {
			t.Errorf("%s: counts as absent", name)
		}
	}
	for name, header := range map[string]string{
		"nothing":                   "",
		"a lone quote":              `"`,
		"two quotes":                `""`,
		"15 characters":             "0123456789abcde",
		"15 characters in quotes":   `"0123456789abcde"`,
		"129 characters":            strings.Repeat("k", 129),
		"129 characters in quotes":  `"` + strings.Repeat("k", 129) + `"`,
		"a space":                   "01234567 9abcdef0",
		"a leading space":           " 0123456789abcdef",
		"a tab":                     "01234567\t9abcdef0",
		"a line end":                "0123456789abcdef\n",
		"a NUL":                     "0123456789abcdef\x00",
		"DEL":                       "0123456789abcdef\x7f",
		"a letter beyond ASCII":     "0123456789abcdefé",
		"a byte that is no letter":  "0123456789abcdef\xff",
		"quotes around white space": `"                "`,
	} {
		if got := RetryKeyOf(f, header); got != (RetryKey{}) {
			t.Errorf("%s: %x, want it to count as absent", name, got)
		}
	}
}

func TestSenderOf(t *testing.T) {
	install := strings.Repeat("i", 16)
	if SenderOf(install, "a") != SenderOf(install, "b") {
		t.Error("an install id that was sent does not decide alone")
	}
	if SenderOf(install, "a") == SenderOf(install+"i", "a") {
		t.Error("two install ids are one sender")
	}
	if SenderOf("", "a") == SenderOf("", "b") {
		t.Error("two user agents are one sender")
	}
	if SenderOf(install, "") == SenderOf("", install) {
		t.Error("an install id and a user agent of the same text are one sender")
	}
	if SenderOf(strings.Repeat("i", 64), "a") == SenderOf("", "a") {
		t.Error("an install id of 64 characters does not count")
	}
	for _, bad := range []string{"", strings.Repeat("i", 15), strings.Repeat("i", 65)} {
		if SenderOf(bad, "a") != SenderOf("", "a") {
			t.Errorf("an install id of %d characters counts", len(bad))
		}
	}
	if (SenderOf("", "") == Sender{}) {
		t.Error("a sender that says nothing has no fingerprint")
	}
}

func TestIdleEnd(t *testing.T) {
	f := Family{UsedAt: born, IdleTTL: time.Hour, AbsoluteEnd: born.Add(day)}
	for _, c := range []struct {
		name          string
		used, ttl, by time.Duration // policy's TTL in by
		want          time.Duration
	}{
		{"the family's own is shorter", 0, time.Hour, 2 * time.Hour, time.Hour},
		{"the policy's is shorter", 0, time.Hour, minute, minute},
		{"never beyond the absolute end", 23*time.Hour + minute, time.Hour, time.Hour, day},
		{"the absolute end exactly", 23 * time.Hour, time.Hour, time.Hour, day},
	} {
		f.UsedAt, f.IdleTTL = born.Add(c.used), c.ttl
		if got := f.IdleEnd(Policy{IdleTTL: c.by}); !got.Equal(born.Add(c.want)) {
			t.Errorf("%s: %s after birth, want %s", c.name, got.Sub(born), c.want)
		}
	}
}
