// Package secret owns values that must never be printed, and the one source
// of randomness for them. It does not own what a secret is for: the rooms
// that use one say that.
package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every secret prints as.
const Redacted = "[redacted]"

// Bytes holds secret bytes. It prints, logs and marshals as [redacted]; the
// bytes come out only through Reveal, so every use can be found by name.
type Bytes struct{ b []byte }

// NewBytes wraps b, which the caller must not change afterwards.
func NewBytes(b []byte) Bytes { return Bytes{b} }

// Random returns n fresh bytes from the operating system's generator.
func Random(n int) Bytes {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the program instead
	return Bytes{b}
}

// Reveal returns the bytes themselves.
func (s Bytes) Reveal() []byte { return s.b }

// Len returns the number of bytes.
func (s Bytes) Len() int { return len(s.b) }

// Equal compares in constant time.
func (s Bytes) Equal(other Bytes) bool { return Equal(s.b, other.b) }

// Format implements fmt.Formatter: every verb prints [redacted].
func (Bytes) Format(f fmt.State, _ rune) { io.WriteString(f, Redacted) }

// String implements fmt.Stringer.
func (Bytes) String() string { return Redacted }

// LogValue implements slog.LogValuer.
func (Bytes) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler.
func (Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// Text holds a secret string: a password, a connection string, a token.
// Like Bytes it prints as [redacted].
type Text struct{ s string }

// NewText wraps s.
func NewText(s string) Text { return Text{s} }

// Reveal returns the string itself.
func (s Text) Reveal() string { return s.s }

// IsEmpty reports whether nothing was set.
func (s Text) IsEmpty() bool { return s.s == "" }

// Format implements fmt.Formatter: every verb prints [redacted].
func (Text) Format(f fmt.State, _ rune) { io.WriteString(f, Redacted) }

// String implements fmt.Stringer.
func (Text) String() string { return Redacted }

// LogValue implements slog.LogValuer.
func (Text) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// UnmarshalText implements encoding.TextUnmarshaler, so that configuration
// can be read straight into a Text.
func (s *Text) UnmarshalText(text []byte) error {
	s.s = string(text)
	return nil
}

// Equal compares in constant time for equal lengths. An empty value equals
// nothing, not even another empty one: what was never set proves nothing.
func Equal(a, b []byte) bool {
	return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1
}

// MAC returns HMAC-SHA-256 (RFC 2104) over label, a zero byte and the parts.
// The label keeps one key's uses apart.
func MAC(key Bytes, label string, parts ...[]byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, key.b)
	h.Write([]byte(label))
	h.Write([]byte{0})
	for _, p := range parts {
		h.Write(p)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}
