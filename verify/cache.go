package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"hash/maphash"
	"math/bits"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
)

// cache remembers tokens that were found good, so that the second sight of one
// costs no cryptography. A hit is not yet a verdict: Verifier.again holds the
// entry against the keys, the feed and the clock of the moment.
//
// It is a table of fixed size. A token belongs into one short row of it, by a
// hash with a secret seed, and an entry is found only by comparing the whole
// token. (How long that takes says nothing: without the seed nobody can aim a
// guess at the row of somebody else's token.) Readers take no lock and write nothing but a mark of use. Writers put
// their entry in place by compare-and-swap; who loses that race forgets its
// entry, and the token is verified once more.
type cache struct {
	seed maphash.Seed
	rows uint64
	row  uint64 // places in a row
	at   []atomic.Pointer[known]
}

// known is a token that was good.
type known struct {
	raw    string
	claims *Claims
	key    Key           // that signed it
	until  time.Time     // exp and leeway
	asOf   atomic.Uint64 // generation of the revocations that it was held against
	used   atomic.Bool   // since somebody last looked for a place
}

const (
	// NoCache, as Config.CacheSize, verifies each token anew.
	NoCache = -1

	defaultCache = 4096
	maxCache     = 1 << 24
	cacheRow     = 8
)

// newCache returns a cache of at most size tokens, nil for none.
func newCache(size int) *cache {
	if size <= 0 {
		return nil
	}
	row := min(size, cacheRow)
	rows := size / row
	return &cache{
		seed: maphash.MakeSeed(), rows: uint64(rows), row: uint64(row),
		at: make([]atomic.Pointer[known], rows*row),
	}
}

// places returns the row of raw.
func (c *cache) places(raw string) []atomic.Pointer[known] {
	n, _ := bits.Mul64(maphash.String(c.seed, raw), c.rows)
	return c.at[n*c.row:][:c.row]
}

func (c *cache) find(raw string) *known {
	if c == nil || len(raw) > MaxTokenSize { // to hash a megabyte takes its time
		return nil
	}
	places := c.places(raw)
	for i := range places {
		if k := places[i].Load(); k != nil && k.raw == raw {
			if !k.used.Load() { // many readers of one token share the line in peace
				k.used.Store(true)
			}
			return k
		}
	}
	return nil
}

func (c *cache) forget(k *known) {
	places := c.places(k.raw)
	for i := range places {
		places[i].CompareAndSwap(k, nil)
	}
}

// add remembers raw. In a full row it takes the place of an entry that has
// expired or was not used since the row was last searched for one.
func (c *cache) add(raw string, claims *Claims, key Key, until time.Time, asOf uint64, now time.Time) {
	if c == nil {
		return
	}
	k := &known{raw: strings.Clone(raw), claims: claims, key: key, until: until} // raw may be part of a large buffer
	k.asOf.Store(asOf)
	places := c.places(raw)
	victim, rank := 0, 3
	var old *known
	for i := range places {
		present := places[i].Load()
		r := 2
		switch {
		case present == nil || present.raw == raw:
			r = 0
		case !now.Before(present.until) || !present.used.Swap(false):
			r = 1
		}
		if r < rank {
			victim, rank, old = i, r, present
		}
	}
	places[victim].CompareAndSwap(old, k)
}

// sameKey says whether a and b are one key. Pointers are equal as long as a
// Remote holds the key; others are compared by value.
func sameKey(a, b Key) bool {
	if a.Algorithm != b.Algorithm {
		return false
	}
	switch p := a.Public.(type) {
	case *ecdsa.PublicKey:
		q, ok := b.Public.(*ecdsa.PublicKey)
		return ok && (p == q || p.Equal(q))
	case *rsa.PublicKey:
		q, ok := b.Public.(*rsa.PublicKey)
		return ok && (p == q || p.Equal(q))
	case ed25519.PublicKey:
		q, ok := b.Public.(ed25519.PublicKey)
		return ok && string(p) == string(q)
	case interface {
		Equal(other crypto.PublicKey) bool
	}:
		return p.Equal(b.Public)
	default:
		// == on a type that cannot be compared would panic.
		t := reflect.TypeOf(p)
		return t != nil && t == reflect.TypeOf(b.Public) && t.Comparable() && a.Public == b.Public
	}
}
