// Package verify checks authserver's access tokens (RFC 9068, signed JWTs of
// type at+jwt) in the services that receive them, without asking the server.
//
// It owns the order of the checks, the strict reading of tokens and key sets,
// a key set that keeps itself fresh (RemoteKeys), the following of the
// revocation feed (FollowRevocations) and the net/http middleware with the
// challenges of RFC 6750. It does not own primitives: those come from
// the standard library, through golang-jwt where it has them. It makes no
// tokens, reads no sessions and decides nothing about users.
//
// A token is believed only after all of this, in this order: its size and
// alphabet, its header, its algorithm and type, its key, its signature, its
// claims, and that it was not revoked, where the feed is followed. The payload
// of a token that is not properly signed is never parsed. No error comes with
// claims. A token that passed is remembered, and its second sight holds it
// against the keys, the revocations and the clock of that moment.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Version is that of this package, as its requests name it.
const Version = "0.2.0"

const (
	// MaxTokenSize is the longest token that is looked at, in bytes.
	MaxTokenSize = 16 << 10

	// NoLeeway, as Config.Leeway, compares instants exactly: for a verifier
	// that shares its clock with the issuer.
	NoLeeway = time.Duration(-1)

	defaultLeeway = time.Minute
	maxLeeway     = 5 * time.Minute
	maxFeedLeeway = 2 * time.Minute
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
	// Revocations is the feed of what ended early: FollowRevocations. Without
	// it a token is believed until it expires. With it Leeway is at most two
	// minutes, because the server forgets a revocation that long after the
	// last token it could concern.
	Revocations *Feed
	// CacheSize is how many good tokens are remembered, so that the second
	// sight of one costs next to nothing: default 4096, of about 2 KiB each.
	// NoCache stands for none.
	CacheSize int
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Verifier verifies access tokens. It is safe for concurrent use.
type Verifier struct {
	issuer    string
	audiences []string
	trust     trust
	seen      *cache // nil for none
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
	if f := c.Revocations; f != nil {
		if f.c.Issuer != c.Issuer {
			wrong = append(wrong, fmt.Errorf("Revocations are those of %q, expected those of Issuer", f.c.Issuer))
		}
		if c.Leeway > maxFeedLeeway {
			wrong = append(wrong, fmt.Errorf("Leeway is %v, expected at most %v with Revocations", c.Leeway, maxFeedLeeway))
		}
	}
	switch {
	case c.CacheSize == 0:
		c.CacheSize = defaultCache
	case c.CacheSize < NoCache || c.CacheSize > maxCache:
		wrong = append(wrong, fmt.Errorf("CacheSize is %d, expected 0 to %d, or NoCache", c.CacheSize, maxCache))
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
		trust:     trust{keys: c.Keys, methods: methods, feed: c.Revocations},
		seen:      newCache(c.CacheSize),
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
// nothing else is wrong. ErrKeysUnavailable and ErrFeedLost are trouble, not
// verdicts; ErrFeedLost is said of tokens alone that are good but for that.
//
// ctx bounds the waiting for keys, which happens before the first key set has
// arrived and when a token names an unknown key, and that for the first
// snapshot of a feed whose loss is reason to refuse.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	claims, now, err := v.genuine(ctx, raw)
	if err != nil {
		return nil, err
	}
	if !now.Before(claims.ExpiresAt.Add(v.leeway)) {
		return nil, fmt.Errorf("%w: at %s, it is %s", ErrExpired, stamp(claims.ExpiresAt), stamp(now))
	}
	waited, err := v.trust.feed.permit(ctx)
	if waited && err == nil {
		err = v.trust.feed.current().refuse(claims)
	}
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// VerifyEvenIfExpired is Verify without the check of `exp`, and it does not
// mind a lost feed. It is for ending things, such as the session of a token
// that came too late to log out with; never grant anything on its word.
func (v *Verifier) VerifyEvenIfExpired(ctx context.Context, raw string) (*Claims, error) {
	claims, _, err := v.genuine(ctx, raw)
	return claims, err
}

// genuine does every check but those of expiry and of the feed's being there.
// It also returns the time it went by.
func (v *Verifier) genuine(ctx context.Context, raw string) (*Claims, time.Time, error) {
	if k := v.seen.find(raw); k != nil {
		now := v.now()
		good, err := v.again(ctx, k, now)
		switch {
		case err != nil:
			return nil, now, err
		case good:
			return k.claims, now, nil
		}
	}
	o, err := v.trust.open(ctx, raw, accessToken)
	now := v.now() // opening may have waited for keys
	if err != nil {
		return nil, now, err
	}
	claims, err := parseClaims(o.payload)
	if err != nil {
		return nil, now, err
	}
	claims.KeyID = o.kid
	if err := v.check(claims, now); err != nil {
		return nil, now, err
	}
	revoked := v.trust.feed.current()
	if err := revoked.refuse(claims); err != nil {
		return nil, now, err
	}
	if until := claims.ExpiresAt.Add(v.leeway); now.Before(until) {
		v.seen.add(raw, claims, o.key, until, revoked.generation(), now)
	}
	return claims, now, nil
}

// again holds a token that was good before against what may have changed
// since. It returns false when the token has to be verified anew.
func (v *Verifier) again(ctx context.Context, k *known, now time.Time) (bool, error) {
	revoked := v.trust.feed.current()
	if generation := revoked.generation(); k.asOf.Load() != generation {
		if err := revoked.refuse(k.claims); err != nil {
			v.seen.forget(k)
			return false, err
		}
		k.asOf.Store(generation)
	}
	key, err := v.trust.lookup(ctx, k.claims.KeyID)
	if err != nil {
		if !trouble(err) {
			v.seen.forget(k)
		}
		return false, err
	}
	good := sameKey(key, k.key) && now.Before(k.until) && v.checkTimes(k.claims, now) == nil
	if !good {
		v.seen.forget(k)
	}
	return good, nil
}

// check holds the claims against what this verifier expects, expiry excepted.
func (v *Verifier) check(c *Claims, now time.Time) error {
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
	return v.checkTimes(c, now)
}

func (v *Verifier) checkTimes(c *Claims, now time.Time) error {
	latest := now.Add(v.leeway)
	if c.IssuedAt.After(latest) {
		return fmt.Errorf("%w: iat is %s, it is %s", ErrNotYetValid, stamp(c.IssuedAt), stamp(now))
	}
	if c.NotBefore.After(latest) {
		return fmt.Errorf("%w: nbf is %s, it is %s", ErrNotYetValid, stamp(c.NotBefore), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
