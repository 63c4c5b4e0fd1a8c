package keys

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// OwnAgent is the user agent of requests for the key set that are not a verifier's: those
// of this program itself.
const OwnAgent = "authserver-doctor"

// Verifier is one reader of the key set. Who shares a network and a user agent
// with another counts as one with it, and so does everybody behind a shared
// cache.
type Verifier struct {
	// Network is its limit.District. "" stands for all that were one too many
	// to be told apart.
	Network   string
	UserAgent string    // cleaned, at most 256 bytes
	ETag      string    // of the set that it got last
	SetAt     time.Time // JWKS.ChangedAt of that set
	FirstAt   time.Time // when it was seen first
	FetchedAt time.Time // when it got that set, or was told that it holds it
}

// The bounds of what is kept about verifiers.
const (
	KeepVerifiers = 30 * day // after the last fetch
	MostVerifiers = 10_000   // beyond that the longest unseen go
)

// VerifierStore keeps what all nodes know of verifiers. It is evidence for
// people: nothing else depends on it. Errors are trouble.
type VerifierStore interface {
	// RecordVerifiers writes what was seen, in one transaction. Of two nodes
	// that saw the same one the later fetch counts, and the earlier FirstAt.
	// No (Network, UserAgent) is twice in list.
	RecordVerifiers(ctx context.Context, list []Verifier) error
	// Verifiers returns those that fetched last, latest first, at most limit.
	Verifiers(ctx context.Context, limit int) ([]Verifier, error)
	// SweepVerifiers forgets those that did not fetch for keep and those
	// beyond the most that fetched last, at most limit of them in one call, and
	// returns how many.
	SweepVerifiers(ctx context.Context, keep time.Duration, most, limit int) (int, error)
}

// Holding says what a verifier holds.
type Holding string

// What a verifier may hold.
const (
	HoldsNewest  Holding = "newest"  // a set with every key that was published and none that was revoked
	HoldsOlder   Holding = "older"   // a set from before the last of these changes
	HoldsUnknown Holding = "unknown" // one of those that are not told apart
)

// Evidence tells which verifiers hold the newest key set: whether it is safe to
// let its newest key sign, and who may still believe a revoked one.
type Evidence struct {
	ChangedAt              time.Time // when the set gained or lost a key by an act
	Newest, Older, Unknown int
	Held                   map[string]int // by kid of the set: how many of Newest and Older hold it
	Holders                []Holder       // those that lag first, the longest unseen first
}

// Holder is a verifier with what its set makes of it.
type Holder struct {
	Verifier
	Holds  Holding
	Lacks  []string // kids that were published since
	Trusts []string // kids that were revoked since and stood in its set
	// Due is until when the header of the key set let it keep what it got. An
	// older set after that is one of a verifier that caches longer, cannot
	// reach this server, or does not run any more.
	Due time.Time
}

// Weigh holds what was seen of verifiers against the timetable. It is pure.
func Weigh(s Status, list []Verifier, p Policy) Evidence {
	e := Evidence{ChangedAt: s.ChangedAt, Held: map[string]int{}}
	for _, v := range list {
		h := Holder{Verifier: v, Holds: HoldsNewest, Due: v.FetchedAt.Add(p.cachedFor())}
		h.compare(s)
		switch {
		case v.Network == "":
			h.Holds = HoldsUnknown
			e.Unknown++
		case v.SetAt.Before(e.ChangedAt):
			h.Holds = HoldsOlder
			e.Older++
		default:
			e.Newest++
		}
		if h.Holds != HoldsUnknown {
			for _, k := range s.Keys {
				if k.InJWKS && !slices.Contains(h.Lacks, k.KID) {
					e.Held[k.KID]++
				}
			}
		}
		e.Holders = append(e.Holders, h)
	}
	first := func(h Holder) int { return slices.Index([]Holding{HoldsOlder, HoldsUnknown, HoldsNewest}, h.Holds) }
	slices.SortStableFunc(e.Holders, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(first(a), first(b)), a.FetchedAt.Compare(b.FetchedAt))
	})
	return e
}

// compare finds what has changed since the verifier's set was made.
func (h *Holder) compare(s Status) {
	for _, k := range s.Keys {
		had := !k.PublishedAt.After(h.SetAt)
		switch {
		case k.InJWKS && !had:
			h.Lacks = append(h.Lacks, k.KID)
		case k.Purpose == Sign && k.State == Revoked && had && k.Since.After(h.SetAt):
			h.Trusts = append(h.Trusts, k.KID)
		}
	}
}

// changedAt orders key sets: it is when a signing key was last published or
// revoked. A key that retires by the clock takes nothing from a verifier.
func changedAt(ring StoredRing) time.Time {
	var at time.Time
	for _, k := range ring.Keys {
		if k.Purpose != Sign {
			continue
		}
		at = laterOf(at, k.PublishedAt)
		if k.RevokedAt != nil {
			at = laterOf(at, *k.RevokedAt)
		}
	}
	return at
}
