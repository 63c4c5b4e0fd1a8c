// Package verify checks authserver's access tokens (RFC 9068, signed JWTs of
// type at+jwt) in the services that receive them, without asking the server.
//
// It owns the order of the checks, the strict reading of tokens and key sets,
// a key set that keeps itself fresh (RemoteKeys) and the net/http middleware
// with the challenges of RFC 6750. It does not own primitives: those come from
// the standard library, through golang-jwt where it has them. It makes no
// tokens, reads no sessions and decides nothing about users.
//
// A token is believed only after all of this, in this order: its size and
// alphabet, its header, its algorithm and type, its key, its signature, and
// then its claims. The payload of a token that is not properly signed is never
// parsed. No error comes with claims.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// MaxTokenSize is the longest token that is looked at, in bytes.
	MaxTokenSize = 16 << 10

	// NoLeeway, as Config.Leeway, compares instants exactly: for a verifier
	// that shares its clock with the issuer.
	NoLeeway = time.Duration(-1)

	defaultLeeway = time.Minute
	maxLeeway     = 5 * time.Minute
)

// Config says which tokens a Verifier accepts.
type Config struct {
	// Issuer is the expected `iss`, compared byte by byte: no trailing slash
	// is added or taken away. Required.
	Issuer string
	// Audience is the name of this service, which must be among the `aud` of
	// a token. Required: without it a token for another service would pass.
	Audience string
	// OtherAudiences are accepted too: for the time while a service is renamed.
	OtherAudiences []string
	// Keys has the issuer's keys: RemoteKeys, StaticKeys or your own. Required.
	Keys KeySet
	// Algorithms is the allow-list. Default: ES256, RS256, PS256, ES384, EdDSA
	// and those in Extra. Ed25519 (RFC 9864) may be listed as well. HS256 and
	// its kin, and none, are refused by New.
	Algorithms []string
	// Extra adds algorithms that this package does not bring. A key set needs
	// the same list to read their keys.
	Extra []Algorithm
	// Leeway is by how much the issuer's clock may differ: default 60 s, at
	// most 5 min. NoLeeway stands for none.
	Leeway time.Duration
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Verifier verifies access tokens. It is safe for concurrent use and never
// changes.
type Verifier struct {
	issuer    string
	audiences []string
	keys      KeySet
	methods   map[string]method
	leeway    time.Duration
	now       func() time.Time
	realm     string
}

// New returns a verifier. An error names everything that is missing or wrong.
func New(c Config) (*Verifier, error) {
	var wrong []error
	if c.Issuer == "" {
		wrong = append(wrong, errors.New("Issuer is missing: the exact `iss` of the tokens, such as https://auth.example.com"))
	}
	if c.Audience == "" {
		wrong = append(wrong, errors.New("Audience is missing: the name of this service, as tokens carry it in `aud`"))
	}
	if slices.Contains(c.OtherAudiences, "") {
		wrong = append(wrong, errors.New("OtherAudiences has an empty string"))
	}
	if c.Keys == nil {
		wrong = append(wrong, errors.New("Keys is missing: RemoteKeys or StaticKeys"))
	}
	switch {
	case c.Leeway == 0:
		c.Leeway = defaultLeeway
	case c.Leeway == NoLeeway:
		c.Leeway = 0
	case c.Leeway < 0 || c.Leeway > maxLeeway:
		wrong = append(wrong, fmt.Errorf("Leeway is %v, expected 0 to %v", c.Leeway, maxLeeway))
	}
	methods, err := allow(c.Algorithms, c.Extra)
	if err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("verify: unusable configuration: %w", errors.Join(wrong...))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verifier{
		issuer:    c.Issuer,
		audiences: append([]string{c.Audience}, c.OtherAudiences...),
		keys:      c.Keys,
		methods:   methods,
		leeway:    c.Leeway,
		now:       c.Now,
		realm:     quotable(c.Audience),
	}, nil
}

// Verify returns the claims of raw, a JWT in compact serialization without
// scheme or white space, if this service may rely on every one of them.
//
// Otherwise it returns nil and an error that is, by errors.Is, exactly one of
// the errors of this package. Of several faults the first in the order of the
// package comment is reported; ErrExpired is the last one, so it means that
// nothing else is wrong. ErrKeysUnavailable is trouble, not a verdict.
//
// ctx bounds the waiting for keys, which happens before the first key set has
// arrived and when a token names an unknown key.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	claims, err := v.genuine(ctx, raw)
	if err != nil {
		return nil, err
	}
	if now := v.now(); !now.Before(claims.ExpiresAt.Add(v.leeway)) {
		return nil, fmt.Errorf("%w: at %s, it is %s", ErrExpired, stamp(claims.ExpiresAt), stamp(now))
	}
	return claims, nil
}

// VerifyEvenIfExpired is Verify without the check of `exp`. It is for ending
// things, such as the session of a token that came too late to log out with;
// never grant anything on its word.
func (v *Verifier) VerifyEvenIfExpired(ctx context.Context, raw string) (*Claims, error) {
	return v.genuine(ctx, raw)
}

// genuine does every check but the one of expiry.
func (v *Verifier) genuine(ctx context.Context, raw string) (*Claims, error) {
	h, payload, err := v.open(ctx, raw, isAccessToken)
	if err != nil {
		return nil, err
	}
	claims, err := parseClaims(payload)
	if err != nil {
		return nil, err
	}
	claims.KeyID = h.kid
	if err := v.check(claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// open checks everything up to the signature, of a token whose type fits, and
// returns its header and its payload, which nobody has parsed yet.
func (v *Verifier) open(ctx context.Context, raw string, fits func(typ string) bool) (h header, payload []byte, err error) {
	t, err := split(raw)
	if err != nil {
		return h, nil, err
	}
	if h, err = parseHeader(t.header); err != nil {
		return h, nil, err
	}
	m, ok := v.methods[h.alg]
	if !ok {
		return h, nil, fmt.Errorf("%w: token says %s", ErrAlgorithm, brief(h.alg))
	}
	if !fits(h.typ) {
		return h, nil, fmt.Errorf("%w: typ is %s, expected at+jwt", ErrType, brief(h.typ))
	}
	key, err := v.key(ctx, h.kid)
	if err != nil {
		return h, nil, err
	}
	// One key, one algorithm (RFC 8725 section 3.1): the header only repeats
	// what the key set says, it never chooses.
	if key.Algorithm != h.alg {
		return h, nil, fmt.Errorf("%w: token says %s, its key is for %s", ErrAlgorithm, brief(h.alg), key.Algorithm)
	}
	if err := m.fits(key.Public); err != nil {
		return h, nil, fmt.Errorf("%w: key %s is no %s key: %w", ErrAlgorithm, brief(h.kid), h.alg, err)
	}
	signature, err := decode(t.signature)
	if err != nil {
		return h, nil, fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	if err := m.verify(key.Public, t.signed, signature); err != nil {
		return h, nil, fmt.Errorf("%w: %s with key %s", ErrSignature, h.alg, brief(h.kid))
	}
	if payload, err = decode(t.payload); err != nil {
		return h, nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	return h, payload, nil
}

// key asks the key set and sorts its errors into verdict and trouble.
func (v *Verifier) key(ctx context.Context, kid string) (Key, error) {
	if kid == "" || len(kid) > maxKeyID {
		return Key{}, fmt.Errorf("%w: kid is %s, expected 1 to %d bytes", ErrUnknownKey, brief(kid), maxKeyID)
	}
	key, err := v.keys.Key(ctx, kid)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, ErrUnknownKey), errors.Is(err, ErrKeysUnavailable):
		return Key{}, err
	default:
		return Key{}, fmt.Errorf("%w: %w", ErrKeysUnavailable, err)
	}
}

// check holds the claims against what this verifier expects, expiry excepted.
func (v *Verifier) check(c *Claims) error {
	if c.Issuer != v.issuer {
		return fmt.Errorf("%w: iss is %s, expected %q", ErrIssuer, brief(c.Issuer), v.issuer)
	}
	if !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(v.audiences, a) }) {
		return fmt.Errorf("%w: aud is %s, expected %q", ErrAudience, brief(strings.Join(c.Audience, " ")), v.audiences)
	}
	// RFC 9068 section 2.2 requires all of these.
	switch {
	case c.Subject == "":
		return fmt.Errorf("%w: sub is missing or empty", ErrClaims)
	case c.ID == "":
		return fmt.Errorf("%w: jti is missing or empty", ErrClaims)
	case c.ClientID == "":
		return fmt.Errorf("%w: client_id is missing or empty", ErrClaims)
	case c.ExpiresAt.IsZero():
		return fmt.Errorf("%w: exp is missing", ErrClaims)
	case c.IssuedAt.IsZero():
		return fmt.Errorf("%w: iat is missing", ErrClaims)
	}
	latest := v.now().Add(v.leeway)
	if c.IssuedAt.After(latest) {
		return fmt.Errorf("%w: iat is %s, it is %s", ErrNotYetValid, stamp(c.IssuedAt), stamp(v.now()))
	}
	if c.NotBefore.After(latest) {
		return fmt.Errorf("%w: nbf is %s, it is %s", ErrNotYetValid, stamp(c.NotBefore), stamp(v.now()))
	}
	return nil
}

// isAccessToken: `typ` without a slash means application/..., and media types
// know no case (RFC 7515 section 4.1.9, RFC 9068 section 4).
func isAccessToken(typ string) bool {
	return strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
