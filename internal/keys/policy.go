package keys

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy is what configuration says about keys.
type Policy struct {
	// Algorithms of the keys that are held, the default for access tokens
	// first.
	Algorithms []Algorithm
	// RotateEvery is how long a key signs.
	RotateEvery time.Duration
	// Lead is how long a key stands in the key set before it signs.
	Lead time.Duration
	// MaxAge is how long verifiers may cache the key set.
	MaxAge time.Duration
	// TokenLife is the longest life of anything that is signed.
	TokenLife time.Duration
	// RSABits is the size of new RSA keys: 2048 or 3072.
	RSABits int
}

// Fixed spans of the design.
const (
	// FreshFor is how long a node signs with a ring after it began to read it.
	FreshFor = 30 * time.Second
	// rootLead is how long a refresh root key is published before it is used:
	// twice FreshFor, so that every node that answers knows it by then.
	rootLead = 2 * FreshFor
	// skew is added to how long a retired key stays, for verifiers' clocks.
	skew = 60 * time.Second
	// day and retireFloor: where keys live a day or more, a retired key stays
	// two hours at least, because some gateways cache that long unasked.
	day         = 24 * time.Hour
	retireFloor = 2 * time.Hour
	// maxRoot is the greatest number that fits the token's one byte.
	maxRoot = 255
)

// DefaultPolicy returns the documented defaults; TokenLife is the default
// access token life.
func DefaultPolicy() Policy {
	return Policy{
		Algorithms:  []Algorithm{ES256, RS256},
		RotateEvery: 2160 * time.Hour,
		Lead:        24 * time.Hour,
		MaxAge:      10 * time.Minute,
		TokenLife:   10 * time.Minute,
		RSABits:     2048,
	}
}

// Validate returns all that is wrong with p, each line with the value seen,
// what was expected and the setting to change.
func (p Policy) Validate() error {
	var wrong []error
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if len(p.Algorithms) == 0 {
		add("AUTHSERVER_KEY_ALGORITHMS is empty; want at least one of %s", joinAlgorithms(Algorithms()))
	}
	for i, a := range p.Algorithms {
		if !a.Signs() {
			add("AUTHSERVER_KEY_ALGORITHMS names %.40q; want some of %s", string(a), joinAlgorithms(Algorithms()))
		}
		if slices.Contains(p.Algorithms[:i], a) {
			add("AUTHSERVER_KEY_ALGORITHMS names %s twice; name it once", a)
		}
	}
	if p.MaxAge < time.Second {
		add("AUTHSERVER_JWKS_MAX_AGE is %s; want 1s or more", p.MaxAge)
	}
	if p.Lead < 2*p.MaxAge {
		add("AUTHSERVER_KEY_LEAD is %s; want at least twice AUTHSERVER_JWKS_MAX_AGE (2 x %s = %s), else a key signs before every cache holds it",
			p.Lead, p.MaxAge, 2*p.MaxAge)
	}
	if p.RotateEvery < p.Lead {
		add("AUTHSERVER_KEY_ROTATE_EVERY is %s; want at least AUTHSERVER_KEY_LEAD (%s), because a successor is published that long before it signs",
			p.RotateEvery, p.Lead)
	}
	if p.TokenLife <= 0 {
		add("the longest token life is %s; want more than 0 (AUTHSERVER_ACCESS_TTL)", p.TokenLife)
	}
	if p.RSABits != 2048 && p.RSABits != 3072 {
		add("AUTHSERVER_KEY_RSA_BITS is %d; want 2048 or 3072", p.RSABits)
	}
	return errors.Join(wrong...)
}

// signsFor is the SignsFor of a new key: TokenLife in whole milliseconds,
// rounded up.
func (p Policy) signsFor() time.Duration {
	return (p.TokenLife + time.Millisecond - 1).Truncate(time.Millisecond)
}

// stays is how long a retired key stays in the key set: until the last token
// it signed has expired, whatever the caches between do.
func (p Policy) stays(signsFor time.Duration) time.Duration {
	d := signsFor + 2*p.MaxAge + skew
	if p.RotateEvery >= day {
		d = max(d, retireFloor)
	}
	return d
}

// standbyAfter is how long after a key became active its successor is
// published: one lead, or what RotateEvery leaves of it.
func (p Policy) standbyAfter() time.Duration { return min(p.Lead, p.RotateEvery-p.Lead) }

// poll is how often a node reads the ring.
func (p Policy) poll() time.Duration { return min(time.Second, p.MaxAge/4) }

// staleWhileRevalidate never makes a cached set older than a new key's lead,
// even where a shared cache and then a verifier hold it for max-age each.
func (p Policy) staleWhileRevalidate() time.Duration { return min(p.MaxAge, p.Lead-2*p.MaxAge) }

// cachedFor is how long a cache that obeys the header may answer on its own.
func (p Policy) cachedFor() time.Duration { return p.MaxAge + p.staleWhileRevalidate() }

// staleIfError is for how long a cache may answer while the server cannot.
func (p Policy) staleIfError() time.Duration { return min(day, p.Lead) }

// cacheControl is the Cache-Control header of the key set (RFC 9111, RFC 5861).
func (p Policy) cacheControl() string {
	seconds := func(d time.Duration) int64 { return int64(d / time.Second) }
	return fmt.Sprintf("public, max-age=%d, stale-while-revalidate=%d, stale-if-error=%d",
		seconds(p.MaxAge), seconds(p.staleWhileRevalidate()), seconds(p.staleIfError()))
}
