// Package revocation owns the feed that tells verifiers what ended before its
// time: what an entry means, how its subject is hidden, the signed statement,
// and what one node holds of the feed. It does not own what ends (the rooms to
// the right, through one function of their store), nor how a statement travels
// (package httpd), nor how a verifier follows it (package verify).
//
// Access tokens are verified without asking this server and live minutes. The
// feed makes an end effective within seconds all the same, for verifiers that
// follow it. It holds what could still be alive, so it is as long as the ends
// of the last few minutes.
package revocation

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// Kind says what an entry revokes.
type Kind string

// The kinds. They are stored and published.
const (
	Session Kind = "session" // subject: the sid of its tokens
	Grant   Kind = "grant"   // subject: see GrantOf
	User    Kind = "user"    // subject: the sub of its tokens
	Client  Kind = "client"  // subject: the client_id of its tokens
	Key     Kind = "key"     // subject: the kid of its tokens; any iat
	All     Kind = "all"     // subject: the issuer
)

// Kinds lists every kind.
func Kinds() []Kind { return []Kind{Session, Grant, User, Client, Key, All} }

// GrantOf returns the subject of a grant: what one client got in one session.
func GrantOf(session, client string) string { return session + " " + client }

// ID hides a subject: who does not hold a token of it learns nothing from it.
// It is the first half of SHA-256 over kind and subject.
type ID [16]byte

// IDOf returns the id of a subject.
func IDOf(k Kind, subject string) ID {
	sum := sha256.Sum256([]byte(string(k) + ":" + subject))
	return ID(sum[:16])
}

// MarshalText implements encoding.TextMarshaler: 22 characters of unpadded
// base64url.
func (i ID) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, i[:]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *ID) UnmarshalText(text []byte) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil || len(b) != len(i) {
		return fmt.Errorf("id %.40q: want 22 characters of base64url", text)
	}
	copy(i[:], b)
	return nil
}

// Entry is one line of the feed: a token that it matches is refused if its iat
// is before NotBefore, one of a revoked key whatever its iat. After Until no
// such token can be alive, and the entry is dropped on both sides.
type Entry struct {
	Seq       int64 `json:"seq"` // from 1, in the order in which readers could see them; gaps say nothing
	Kind      Kind  `json:"kind"`
	ID        ID    `json:"id"`
	NotBefore int64 `json:"not_before"` // seconds since 1970
	Until     int64 `json:"until"`      // seconds since 1970
	// Index is the place of a session's tokens in the status lists; 0: none.
	Index int64 `json:"-"`
}

// Lag is how much longer than the longest token life an entry stands, for
// verifiers' clocks and leeways.
const Lag = 120 * time.Second

// keyLag is Lag for a revoked key. What a thief signs with it expires when he
// likes; it is the caches that still hold the key which must have let go of it,
// and those may keep a key set for a day while they cannot reach the server.
const keyLag = 25 * time.Hour

// Lag returns how much longer than the longest token life an entry of the kind
// stands.
func (k Kind) Lag() time.Duration {
	if k == Key {
		return keyLag
	}
	return Lag
}

// Settling is added to the NotBefore of an entry whose subject never gets
// another token, a session's. A retry that is answered beside the transaction
// that ends its session reads the state from before and may be dated until the
// commit; no transaction takes longer than this.
const Settling = 20 * time.Second

// NotBefore returns the first whole second after now: what was issued at now or
// before has an iat, in whole seconds, before it.
func NotBefore(now time.Time) time.Time { return now.Truncate(time.Second).Add(time.Second) }
