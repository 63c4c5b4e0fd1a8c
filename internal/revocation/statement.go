package revocation

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/keys"
)

// Type is the typ header of a statement: no token of another kind passes for
// one (RFC 8725 section 3.11).
const Type = "revocations+jwt"

// Claims are the claims of a statement.
type Claims struct {
	Issuer string `json:"iss"`
	// IssuedAt is when the feed was last read from the store, in seconds since
	// 1970 by the store's clock: a statement is not fresher than what it tells.
	IssuedAt int64 `json:"iat"`
	// Seq is the newest number that the statement covers.
	Seq int64 `json:"seq"`
	// After is the number that it starts after. 0: it is a snapshot and
	// replaces everything; otherwise only a reader that is at After or beyond
	// may apply it.
	After int64 `json:"after"`
	// Partial says that ends of sessions were left out of a snapshot, which would have
	// been too long.
	Partial bool    `json:"partial,omitempty"`
	Entries []Entry `json:"entries"`
}

// Statement is a signed part of the feed.
type Statement struct {
	JWS  []byte // compact; every reader gets these bytes, so nobody may change them
	Seq  int64  // the newest number that it covers
	ETag string // weak; the same on all nodes that hold the same entries
}

// Signing is the part of the key ring that signs.
type Signing interface {
	// Herald returns a key that verifiers hold by now. An error is trouble: the
	// ring is too old to sign with.
	Herald() (kid string, method jwt.SigningMethod, key crypto.Signer, err error)
	// Reread reads the ring anew; the read begins after the call.
	Reread(ctx context.Context) error
}

// sign returns claims as a compact JWS of the given type. Errors are trouble.
func sign(with Signing, typ string, claims any) ([]byte, error) {
	kid, method, key, err := with.Herald()
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("spell a %s: %w", typ, err)
	}
	signed, err := keys.Compact(typ, kid, method, key, payload)
	if err != nil {
		return nil, fault.Trouble(err)
	}
	return signed, nil
}

// etag names what a statement tells, whoever signed it and when.
func (c *Claims) etag() string {
	h := sha256.New()
	numbers := func(list ...int64) {
		for _, n := range list {
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], uint64(n))
			h.Write(b[:])
		}
	}
	numbers(c.Seq, c.After)
	if c.Partial { // what was left out passes: the same entries are then all there are
		numbers(-1)
	}
	for _, e := range c.Entries {
		numbers(e.Seq, e.NotBefore, e.Until)
		h.Write(e.ID[:])
	}
	return `W/"` + hex.EncodeToString(h.Sum(nil)[:12]) + `"`
}
