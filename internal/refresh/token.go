package refresh

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
)

// Prefix begins every refresh token, for secret scanners.
const Prefix = "asrt_"

// TokenLength is the length of every refresh token in characters.
const TokenLength = len(Prefix) + rawLength/3*4

// The bytes of a token, base64url without padding after the prefix:
// version(1) | key(1) | family id(16) | generation(4) | family secret(16) | MAC(16).
const (
	tokenVersion = 1
	atKey        = 1
	atFamily     = 2
	atGeneration = atFamily + 16
	atSecret     = atGeneration + 4
	atMAC        = atSecret + 16
	rawLength    = atMAC + 16
	macLabel     = "asrt/1"
)

var encoding = base64.RawURLEncoding.Strict()

// ErrForged says that a string is no token of this server: its shape, version
// or MAC is wrong. It costs no access to the store.
var ErrForged = errors.New("not a refresh token of this server")

// Roots are the refresh root keys that tokens are authenticated with.
// Implementations answer from memory and are safe for concurrent use.
type Roots interface {
	// ActiveRoot returns the root key that new tokens are made under. An error
	// is trouble: this node does not know its keys well enough to sign.
	ActiveRoot() (number uint8, key secret.Bytes, err error)
	// Root returns the root key of that number, if this node knows it.
	Root(number uint8) (key secret.Bytes, ok bool)
	// Revision is that of the keys this node knows: it grows with each change in
	// the store. 0 when nothing was read yet.
	Revision() int64
	// Reread reads the keys again from the store, at most once a second and
	// one call at a time. An error is trouble.
	Reread(ctx context.Context) error
}

// Token is a refresh token whose MAC was checked; only Parse and Birth make
// one. It says nothing about whether the family still lives.
type Token struct {
	family     id.Family
	generation int32
	key        uint8
	secret     [16]byte
}

// Family returns the id of the family the token belongs to.
func (t Token) Family() id.Family { return t.family }

// Generation returns the token's place in its family, from 1.
func (t Token) Generation() int32 { return t.generation }

// SecretHash returns the SHA-256 of the family secret, which is all that the
// store knows of it.
func (t Token) SecretHash() [sha256.Size]byte { return sha256.Sum256(t.secret[:]) }

// Format implements fmt.Formatter: no verb shows the token.
func (Token) Format(f fmt.State, _ rune) { io.WriteString(f, secret.Redacted) }

// String never shows the token.
func (Token) String() string { return secret.Redacted }

// Parse reads a token and checks its MAC. ErrForged is a verdict; any other
// error is trouble: the token names a root key this node does not know, and
// the keys could not be read again.
func Parse(ctx context.Context, roots Roots, text string) (Token, error) {
	if len(text) != TokenLength || text[:len(Prefix)] != Prefix {
		return Token{}, ErrForged
	}
	// The decoder skips line ends, which would give one token many spellings.
	if strings.ContainsAny(text, "\r\n") {
		return Token{}, ErrForged
	}
	var raw [rawLength]byte
	if _, err := encoding.Decode(raw[:], []byte(text[len(Prefix):])); err != nil || raw[0] != tokenVersion {
		return Token{}, ErrForged
	}
	root, err := lookUp(ctx, roots, raw[atKey])
	if err != nil {
		return Token{}, err
	}
	want := mac(root, raw[:atMAC])
	if !hmac.Equal(want[:], raw[atMAC:]) {
		return Token{}, ErrForged
	}
	generation := binary.BigEndian.Uint32(raw[atGeneration:])
	if generation < 1 || generation > MaxGeneration {
		return Token{}, ErrForged
	}
	return Token{
		family:     id.Family(raw[atFamily:atGeneration]),
		generation: int32(generation),
		key:        raw[atKey],
		secret:     [16]byte(raw[atSecret:atMAC]),
	}, nil
}

// lookUp finds a root key, reading the keys again once for a number this node
// has not met. A number that the store does not know either is a forgery.
func lookUp(ctx context.Context, roots Roots, number uint8) (secret.Bytes, error) {
	if root, ok := roots.Root(number); ok {
		return root, nil
	}
	if err := roots.Reread(ctx); err != nil {
		return secret.Bytes{}, fmt.Errorf("refresh root key %d is unknown here: %w", number, err)
	}
	if root, ok := roots.Root(number); ok {
		return root, nil
	}
	return secret.Bytes{}, ErrForged
}

// at returns the token of the same family at another generation. Successors
// are derived, never stored: one byte string exists per family, generation
// and root key, whichever node answers, whenever.
func (t Token) at(generation int32, key uint8) Token {
	t.generation, t.key = generation, key
	return t
}

// text spells the token out. The error is trouble: the root key that the head
// was made under cannot be had.
func (t Token) text(ctx context.Context, roots Roots) (secret.Text, error) {
	root, err := lookUp(ctx, roots, t.key)
	if errors.Is(err, ErrForged) {
		return secret.Text{}, fmt.Errorf("the head of family %s was made under root key %d, which the store no longer has", t.family, t.key)
	}
	if err != nil {
		return secret.Text{}, err
	}
	return secret.NewText(t.spell(root)), nil
}

func (t Token) spell(root secret.Bytes) string {
	var raw [rawLength]byte
	raw[0], raw[atKey] = tokenVersion, t.key
	copy(raw[atFamily:], t.family[:])
	binary.BigEndian.PutUint32(raw[atGeneration:], uint32(t.generation))
	copy(raw[atSecret:], t.secret[:])
	sum := mac(root, raw[:atMAC])
	copy(raw[atMAC:], sum[:])

	var text [TokenLength]byte
	copy(text[:], Prefix)
	encoding.Encode(text[len(Prefix):], raw[:])
	return string(text[:])
}

// mac is HMAC-SHA-256 over the label and the bytes before the MAC, truncated
// to 128 bits (RFC 2104 section 5).
func mac(root secret.Bytes, before []byte) [16]byte {
	h := hmac.New(sha256.New, root.Reveal())
	h.Write([]byte(macLabel))
	h.Write(before)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return [16]byte(sum[:16])
}
