// Package id owns the identifiers of the domain: their shape, their spelling
// and how they are made. It does not own secrets: an id is a name, never a
// credential, and may appear in logs, answers and audit rows.
package id

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Of is a 128-bit identifier of one kind of thing. The kind is part of the
// type, so a session id cannot be passed where a user id is wanted. Its text
// form is the 36 characters of RFC 9562 in lower case.
type Of[Kind any] [16]byte

type (
	userKind    struct{}
	sessionKind struct{}
	familyKind  struct{}
	eventKind   struct{}
)

// The kinds of things that have ids of this shape.
type (
	// User names a person's account. It is never reused.
	User = Of[userKind]
	// Session names one login on one device or browser.
	Session = Of[sessionKind]
	// Family names the chain of refresh tokens of one client in one session.
	Family = Of[familyKind]
	// Event names a row of the audit log.
	Event = Of[eventKind]
)

// NewUser returns a fresh random user id.
func NewUser() User { return random[userKind](4) }

// NewSession returns a fresh random session id.
func NewSession() Session { return random[sessionKind](4) }

// NewEvent returns a fresh random audit event id.
func NewEvent() Event { return random[eventKind](4) }

// NewFamily returns a fresh family id whose first two bytes are the user's
// tag. A later shard is found from the token alone, which could not be added
// afterwards; the rest is random.
func NewFamily(u User) Family {
	f := random[familyKind](8)
	tag := Tag(u)
	copy(f[:2], tag[:])
	return f
}

// Tag returns the two bytes of SHA-256(user id) that every family id of that
// user begins with.
func Tag(u User) [2]byte {
	sum := sha256.Sum256(u[:])
	return [2]byte{sum[0], sum[1]}
}

// NewRequest returns an id for one HTTP request or one run of the command
// line: 20 lower-case hexadecimal characters.
func NewRequest() string {
	var b [10]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func random[Kind any](version byte) Of[Kind] {
	var i Of[Kind]
	rand.Read(i[:]) // never fails: it ends the program instead
	i[6] = i[6]&0x0f | version<<4
	i[8] = i[8]&0x3f | 0x80
	return i
}

// Parse reads the text form. It accepts what String writes and nothing else.
func Parse[Kind any](s string) (Of[Kind], error) {
	var i Of[Kind]
	if err := i.UnmarshalText([]byte(s)); err != nil {
		return Of[Kind]{}, err
	}
	return i, nil
}

// String returns the text form, 36 characters.
func (i Of[Kind]) String() string {
	return string(i.append(make([]byte, 0, 36)))
}

func (i Of[Kind]) append(to []byte) []byte {
	to = hex.AppendEncode(to, i[0:4])
	for _, cut := range [...][2]int{{4, 6}, {6, 8}, {8, 10}, {10, 16}} {
		to = append(to, '-')
		to = hex.AppendEncode(to, i[cut[0]:cut[1]])
	}
	return to
}

// IsZero reports whether no id was set.
func (i Of[Kind]) IsZero() bool { return i == Of[Kind]{} }

// Compare orders ids by their bytes, as both stores do.
func (i Of[Kind]) Compare(other Of[Kind]) int { return bytes.Compare(i[:], other[:]) }

// MarshalText implements encoding.TextMarshaler.
func (i Of[Kind]) MarshalText() ([]byte, error) { return i.append(make([]byte, 0, 36)), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see Parse.
func (i *Of[Kind]) UnmarshalText(text []byte) error {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return fmt.Errorf("id %.40q: want 36 characters like 00000000-0000-4000-8000-000000000000", text)
	}
	var digits [32]byte
	n := 0
	for p, c := range text {
		switch p {
		case 8, 13, 18, 23:
			continue
		}
		if c >= 'A' && c <= 'F' {
			return fmt.Errorf("id %q: hexadecimal digits are lower case", text)
		}
		digits[n] = c
		n++
	}
	if _, err := hex.Decode(i[:], digits[:]); err != nil {
		return fmt.Errorf("id %q: %w", text, err)
	}
	return nil
}
