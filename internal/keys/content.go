package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// readTimeout bounds one read of the ring.
const readTimeout = 5 * time.Second

// content is a stored ring, opened. It never changes; only its rendering of
// the key set is replaced when a key comes or goes by the clock.
type content struct {
	stored   StoredRing
	lives    []Life
	signing  []*held // that have material, in the order of Timeline
	roots    []*held // that have material and are not revoked, youngest first
	byKID    map[string]*held
	rendered atomic.Pointer[rendering]
}

// read reads the ring and swaps it in. On an error the last snapshot stays: the
// key set is served all the same, and signing ends when it is too old.
func (r *Ring) read(ctx context.Context) (StoredRing, error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	began, before := r.clock(), asleep()
	stored, err := r.store.ReadRing(ctx)
	ended, slept := r.clock(), asleep()
	took := max(0, ended.Sub(began))
	if nap := slept - before; nap > time.Second { // less is between two looks at two clocks
		took += nap
	}
	s := &snapshot{}
	if err != nil {
		err = fmt.Errorf("read the key ring: %w", err)
	} else {
		last := r.current.Load()
		s.sight = sight{began: began, ended: ended, took: took, store: stored.StoreNow.Round(0), slept: slept}
		s.offset, s.off = s.sight.offset(last)
		if last != nil {
			s.leaps = last.leaps.after(s.sight, last.sight)
		}
		s.content, err = r.unlock(stored)
	}
	if err == nil {
		r.failure.Store(nil)
		s.set(ended.Add(s.offset)) // so that no request has to render it
		r.current.Store(s)
	} else {
		r.failure.Store(&err)
	}
	r.observer.RingRead(took, s.offset, err) // who asks Now in there gets this answer's
	return stored, err
}

// unlock opens what is new since the last read.
func (r *Ring) unlock(stored StoredRing) (*content, error) {
	var last *content
	if s := r.current.Load(); s != nil {
		last = s.content
		// The rows are compared, not the revision alone: after a failover that
		// lost a change, another one may carry the same number.
		if sameRing(last.stored, stored) {
			return last, nil
		}
	}
	if err := r.masters.Check(stored); err != nil {
		return nil, err
	}
	c := &content{stored: stored, lives: Timeline(stored.Keys, r.policy), byKID: map[string]*held{}}
	for _, l := range c.lives {
		if len(l.Key.Sealed) == 0 || l.Key.RevokedAt != nil {
			continue
		}
		h := last.again(l)
		if h == nil {
			var err error
			if h, err = r.masters.unlock(l); err != nil {
				return nil, err
			}
		}
		if l.Key.Purpose == Refresh {
			c.roots = append(c.roots, h)
			continue
		}
		c.signing = append(c.signing, h)
		c.byKID[l.Key.KID] = h
	}
	slices.Reverse(c.roots)
	return c, nil
}

// again returns a key that was opened before from the same bytes, with its
// life as it is now: opening all keys anew would cost milliseconds each time
// one of them moves.
func (c *content) again(l Life) *held {
	if c == nil {
		return nil
	}
	for _, list := range [][]*held{c.signing, c.roots} {
		for _, h := range list {
			if h.Key.Name() == l.Key.Name() && h.Key.KID == l.Key.KID && bytes.Equal(h.Key.Sealed, l.Key.Sealed) {
				moved := *h
				moved.Life = l
				return &moved
			}
		}
	}
	return nil
}

func sameRing(a, b StoredRing) bool {
	return a.Revision == b.Revision && a.MasterID == b.MasterID && slices.EqualFunc(a.Keys, b.Keys, sameKey)
}

func sameKey(a, b StoredKey) bool {
	return a.Name() == b.Name() && a.KID == b.KID && a.MasterID == b.MasterID && bytes.Equal(a.Sealed, b.Sealed) &&
		a.PublishedAt.Equal(b.PublishedAt) && sameInstant(a.ActiveAt, b.ActiveAt) &&
		sameInstant(a.RevokedAt, b.RevokedAt) && a.SignsFor == b.SignsFor
}

func sameInstant(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// signer returns the active key of alg, else of the first algorithm of the
// policy that has one, else any: keys of an algorithm that is no longer
// configured sign until its successor may.
func (c *content) signer(alg Algorithm, configured []Algorithm, now time.Time) *held {
	var best *held
	bestRank := -1
	for _, h := range c.signing {
		if h.State(now) != Active {
			continue
		}
		if h.Key.Algorithm == alg {
			return h
		}
		rank := slices.Index(configured, h.Key.Algorithm)
		if rank < 0 {
			rank = len(configured)
		}
		if best == nil || rank < bestRank {
			best, bestRank = h, rank
		}
	}
	return best
}

// JWKS is the published key set, byte for byte the same on every node.
type JWKS struct {
	Body []byte // application/jwk-set+json; must not be changed
	ETag string // strong, with its quotes
	// ChangedAt is when a signing key was last published or revoked: of two
	// sets the one that knows more has the later instant.
	ChangedAt time.Time
	At        time.Time // the store's clock when it was asked for
}

// rendering is the key set between two changes by the clock.
type rendering struct {
	set         JWKS
	from, until time.Time // until is zero where no change is known
}

// JWKS returns the key set, from memory and however old the last read is. An
// error is trouble (503): there is no key to show, and an empty set is never
// shown, because verifiers would cache it.
func (r *Ring) JWKS() (JWKS, error) {
	s := r.current.Load()
	if s == nil {
		return JWKS{}, r.trouble(errNotRead)
	}
	now := r.clock().Add(s.offset)
	set := s.set(now)
	if set.Body == nil {
		return JWKS{}, r.trouble(errors.New("no key stands in the key set"))
	}
	set.At = now
	return set, nil
}

// CacheControl returns the Cache-Control header that goes with JWKS.
func (r *Ring) CacheControl() string { return r.cache }

// set renders the key set if the clock has passed a change since the last
// time. Two requests may both render it: they write the same bytes.
func (c *content) set(now time.Time) JWKS {
	if last := c.rendered.Load(); last != nil && !now.Before(last.from) && (last.until.IsZero() || now.Before(last.until)) {
		return last.set
	}
	fresh := &rendering{from: now, until: nextChange(c.lives, now)}
	var keys []JWK
	for _, h := range c.signing {
		if h.Stands(now) {
			keys = append(keys, h.jwk)
		}
	}
	if len(keys) > 0 {
		body := writeSet(keys)
		sum := sha256.Sum256(body)
		fresh.set = JWKS{Body: body, ETag: `"` + b64.EncodeToString(sum[:16]) + `"`, ChangedAt: changedAt(c.stored)}
	}
	c.rendered.Store(fresh)
	return fresh.set
}
