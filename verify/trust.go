package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// trust is what signatures are checked against: access tokens and the
// statements of the revocation feed alike.
type trust struct {
	keys    KeySet
	methods map[string]method
	feed    *Feed // knows the revoked keys; nil where no feed is followed
}

// kind is one use of a JWT. One key signs several kinds, and `typ` alone keeps
// them apart (RFC 8725 section 3.11).
type kind struct {
	typ  string
	size int // bytes at most
}

var accessToken = kind{"at+jwt", MaxTokenSize} // RFC 9068 section 2.1

// is: `typ` without a slash means application/..., and media types know no
// case (RFC 7515 section 4.1.9, RFC 9068 section 4).
func (k kind) is(typ string) bool {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	return strings.EqualFold(typ, k.typ)
}

// opened is a JWT whose signature is good. Of its payload nothing has been
// looked at.
type opened struct {
	payload []byte
	kid     string
	key     Key
}

// open checks everything about raw that comes before its claims.
func (t *trust) open(ctx context.Context, raw string, want kind) (opened, error) {
	jws, err := split(raw, want.size)
	if err != nil {
		return opened{}, err
	}
	h, err := parseHeader(jws.header)
	if err != nil {
		return opened{}, err
	}
	m, ok := t.methods[h.alg]
	if !ok {
		return opened{}, fmt.Errorf("%w: token says %s", ErrAlgorithm, brief(h.alg))
	}
	if !want.is(h.typ) {
		return opened{}, fmt.Errorf("%w: typ is %s, expected %s", ErrType, brief(h.typ), want.typ)
	}
	key, err := t.key(ctx, h.kid)
	if err != nil {
		return opened{}, err
	}
	// One key, one algorithm (RFC 8725 section 3.1): the header only repeats
	// what the key set says, it never chooses.
	if key.Algorithm != h.alg {
		return opened{}, fmt.Errorf("%w: token says %s, its key is for %s", ErrAlgorithm, brief(h.alg), key.Algorithm)
	}
	if err := m.fits(key.Public); err != nil {
		return opened{}, fmt.Errorf("%w: key %s is no %s key: %w", ErrAlgorithm, brief(h.kid), h.alg, err)
	}
	signature, err := decode(jws.signature)
	if err != nil {
		return opened{}, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	if err := m.verify(key.Public, jws.signed, signature); err != nil {
		return opened{}, fmt.Errorf("%w: %s with key %s", ErrSignature, h.alg, brief(h.kid))
	}
	payload, err := decode(jws.payload)
	if err != nil {
		return opened{}, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	return opened{payload, h.kid, key}, nil
}

// key finds a key that is not revoked. The feed comes first: a kid that it
// names is no reason to ask anybody for keys.
func (t *trust) key(ctx context.Context, kid string) (Key, error) {
	if kid == "" || len(kid) > maxKeyID {
		return Key{}, fmt.Errorf("%w: kid is %s, expected 1 to %d bytes", ErrUnknownKey, brief(kid), maxKeyID)
	}
	if err := t.feed.current().refuseKey(kid); err != nil {
		return Key{}, err
	}
	return t.lookup(ctx, kid)
}

// lookup asks the key set and sorts its errors into verdict and trouble.
func (t *trust) lookup(ctx context.Context, kid string) (Key, error) {
	key, err := t.keys.Key(ctx, kid)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, ErrUnknownKey), errors.Is(err, ErrKeysUnavailable):
		return Key{}, err
	default:
		return Key{}, fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
	}
}
