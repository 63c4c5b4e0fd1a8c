package keys

import (
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
)

// Blast is what the revocation of a key breaks, and for how long its forgeries
// may still be taken. It is computed before anything is done.
type Blast struct {
	Purpose   Purpose
	Algorithm Algorithm
	Number    int
	KID       string
	State     State // before the revocation

	// TokensUntil is when the last token that the key signed expires; zero for
	// a key that never signed. Until then its tokens fail with verifiers that
	// have the new key set; their clients refresh and carry on.
	TokensUntil time.Time
	// CachesFor is how long a cache that obeys the header of the key set may
	// still take tokens of this key, forged ones too: max-age and
	// stale-while-revalidate. 0 where it never was in the key set.
	CachesFor time.Duration
	// CachesForAtWorst is the same for caches that cannot reach this server
	// (stale-if-error).
	CachesForAtWorst time.Duration

	// Successor is the kid that signs instead; "" where the active key stays,
	// or where a new one is made at that moment.
	Successor string
	// SuccessorSince is since when verifiers could have fetched it.
	SuccessorSince time.Time
	// SuccessorHeld says that it has been published for its whole lead, so
	// verifiers that obey the header hold it.
	SuccessorHeld bool
	// Discards lists the kids that are revoked too, because the store was
	// compromised, or because with this key its algorithm ends.
	Discards []string

	// EndFamilies holds the root key numbers that are revoked. Keys ends no
	// family: whoever called ends those whose head is under these numbers, at
	// once, and once more at Settled, because until then a node may still write
	// what it began with a ring from before.
	EndFamilies []int
	Settled     time.Time

	Warnings []string // for a human, whole sentences
}

// Blast tells what Revoke would do. It changes nothing.
func (c *Custodian) Blast(ctx context.Context, kid string, compromisedStore bool) (Blast, error) {
	_, lives, now, err := c.read(ctx)
	if err != nil {
		return Blast{}, err
	}
	blast, _, err := c.emergency(By{}, lives, now, kid, compromisedStore)
	return blast, err
}

// Revoke takes a key out of the key set at once, erases it, and lets the
// standby sign from now on; without a standby it makes a key that signs at
// once. With compromisedStore the standbys of the algorithm are not trusted
// either and go with it. For a root key ("refresh-<number>") see
// Blast.EndFamilies.
func (c *Custodian) Revoke(ctx context.Context, by By, kid string, compromisedStore bool) (Blast, error) {
	var blast Blast
	asked := by.tell(audit.KeyRevoked, map[string]string{"kid": kid})
	if compromisedStore {
		asked.Details["why"] = "compromised store"
	}
	err := c.act(ctx, by, asked, func(_ StoredRing, lives []Life, now time.Time) (decision, error) {
		var d decision
		var err error
		blast, d, err = c.emergency(by, lives, now, kid, compromisedStore)
		return d, err
	})
	return blast, err
}

// emergency is the rule of a revocation.
func (c *Custodian) emergency(by By, lives []Life, now time.Time, kid string, compromised bool) (Blast, decision, error) {
	target, ok := byKID(lives, kid)
	if !ok {
		return Blast{}, decision{}, noKey(kid)
	}
	state := target.State(now)
	if !target.Stands(now) {
		return Blast{}, decision{}, fault.New(fault.Conflict, "Key %s is %s already.", kid, state)
	}
	blast := c.blast(target, state, now)
	var d decision
	revoke := func(l Life, why string) {
		k := destroyed(l.Key)
		k.RevokedAt = &now
		d.update = append(d.update, k)
		d.audit = append(d.audit, by.event(audit.KeyRevoked, l.Key, why))
	}
	revoke(target, "")

	mine := of(lives, target.Key.Purpose, target.Key.Algorithm)
	// The last key of an algorithm that is not configured any more takes along those
	// that would take its place: no plan looks after them, so that the one before it
	// would stand in the key set for ever, and the standby sign when its date comes.
	ends := state == Active && target.Key.Purpose == Sign &&
		!slices.Contains(c.policy.Algorithms, target.Key.Algorithm) && signsElse(lives, target, now)
	// Who retired when the revoked key took over now retires when its successor
	// does. What was gone by then must not come back into the key set, where
	// no cache holds it: it is erased here, in case no node was awake to do so.
	for _, l := range mine {
		switch {
		case l.State(now) == Gone && len(l.Key.Sealed) > 0:
			d.steps = append(d.steps, Step{Do: Destroy, Key: destroyed(l.Key), Why: "the key is gone"})
		case l.State(now) == Retiring && ends:
			d.steps = append(d.steps, Step{Do: Destroy, Key: destroyed(l.Key), Why: "its algorithm ends"})
			if until := l.RetiredFrom.Add(l.Key.SignsFor); until.After(now) {
				blast.warn("Tokens of key %s, good until %s, are refused by who fetches the key set.", l.Key.KID, until.UTC().Format(time.RFC3339))
			}
		}
	}
	waiting := without(standbys(mine, now), kid)
	if compromised || ends {
		why := "compromised store"
		if !compromised {
			why = "its algorithm ends"
		}
		for _, l := range waiting {
			revoke(l, why)
			blast.Discards = append(blast.Discards, l.Key.KID)
			if l.Key.Purpose == Refresh {
				blast.EndFamilies = append(blast.EndFamilies, l.Key.Number)
			}
		}
		waiting = nil
	}
	if compromised {
		blast.warnOfOthers(lives, now)
	}
	if state != Active {
		return blast, d, nil
	}
	if ends {
		blast.warn("%s is not configured any more: nothing takes the place of this key.", target.Key.Algorithm)
		return blast, d, nil
	}
	if len(waiting) > 0 {
		k := waiting[0].Key
		k.ActiveAt = &now
		d.steps = append(d.steps, Step{Do: Date, Key: k, Why: "its predecessor was revoked"})
		blast.succeededBy(k, now, c.policy)
		return blast, d, nil
	}
	k := c.policy.newKey(target.Key.Algorithm, mine, now, now)
	if target.Key.Purpose == Refresh {
		if nextNumber(mine) > maxRoot {
			return blast, d, rootsSpent()
		}
		k = newRoot(mine, now, now)
	} else {
		blast.warn("No standby is published: a new %s key is made and signs at once. Verifiers that do not fetch the key set when they meet an unknown kid refuse its tokens until their cache ends (%s by the header; some hold it for hours or until they are restarted).",
			target.Key.Algorithm, c.policy.MaxAge)
	}
	d.steps = append(d.steps, Step{Do: Publish, Key: k, Why: "its predecessor was revoked"})
	return blast, d, nil
}

func (c *Custodian) blast(target Life, state State, now time.Time) Blast {
	k := target.Key
	b := Blast{Purpose: k.Purpose, Algorithm: k.Algorithm, Number: k.Number, KID: k.KID, State: state}
	if k.Purpose == Refresh {
		b.EndFamilies, b.Settled = []int{k.Number}, now.Add(rootLead)
		return b
	}
	b.CachesFor = c.policy.cachedFor()
	b.CachesForAtWorst = c.policy.MaxAge + c.policy.staleIfError()
	b.warn("Caches that obey the header take tokens of this key, forged ones too, for %s more; verifiers that follow the revocation feed stop within seconds; those that never fetch the key set again must be restarted.", b.CachesFor)
	switch state {
	case Active:
		b.TokensUntil = now.Add(k.SignsFor)
	case Retiring:
		b.TokensUntil = target.RetiredFrom.Add(k.SignsFor)
	}
	return b
}

func (b *Blast) succeededBy(k StoredKey, now time.Time, p Policy) {
	b.Successor, b.SuccessorSince = k.KID, k.PublishedAt
	if k.Purpose == Refresh {
		b.SuccessorHeld = now.Sub(k.PublishedAt) >= FreshFor
		return
	}
	if b.SuccessorHeld = now.Sub(k.PublishedAt) >= p.Lead; !b.SuccessorHeld {
		b.warn("The standby %s has been published for %s only, of a lead of %s: verifiers that cache longer than that and do not refetch refuse its tokens at first.",
			k.KID, now.Sub(k.PublishedAt).Round(time.Second), p.Lead)
	}
}

// warnOfOthers names what else was in the store and is left as it is.
func (b *Blast) warnOfOthers(lives []Life, now time.Time) {
	for _, l := range lives {
		if l.Stands(now) && (l.Key.Purpose != b.Purpose || l.Key.Algorithm != b.Algorithm || l.State(now) != Published) && l.Key.KID != b.KID {
			b.warn("Key %s (%s, %s) was in the same store and is not revoked by this.", l.Key.KID, l.Key.Algorithm, l.State(now))
		}
	}
}

func (b *Blast) warn(format string, args ...any) {
	b.Warnings = append(b.Warnings, fmt.Sprintf(format, args...))
}

// signsElse reports whether a key of another algorithm signs.
func signsElse(lives []Life, target Life, now time.Time) bool {
	return slices.ContainsFunc(lives, func(l Life) bool {
		return l.Key.Purpose == Sign && l.Key.Algorithm != target.Key.Algorithm && l.State(now) == Active
	})
}

func byKID(lives []Life, kid string) (Life, bool) {
	for _, l := range lives {
		if l.Key.KID == kid {
			return l, true
		}
	}
	return Life{}, false
}

func noKey(kid string) error {
	return fault.New(fault.KeyNotFound, "There is no key %.100q. See: keys status", kid)
}

func without(lives []Life, kid string) []Life {
	var out []Life
	for _, l := range lives {
		if l.Key.KID != kid {
			out = append(out, l)
		}
	}
	return out
}
