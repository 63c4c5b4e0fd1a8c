package keys

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
)

// Rewrap seals every key under the current master key, in one change, and
// makes the store name it. It returns how many rows it sealed anew; 0 where
// all were under it already. Every node must hold the new key first, as
// current or former: one that does not can no longer read the ring, says so,
// and stops signing FreshFor later.
func (c *Custodian) Rewrap(ctx context.Context, by By) (int, error) {
	n := 0
	to := IDOf(c.masters.Current)
	asked := by.tell(audit.KeysRewrapped, map[string]string{"to": to.String()})
	err := c.act(ctx, by, asked, func(ring StoredRing, _ []Life, _ time.Time) (decision, error) {
		n = 0
		if err := c.masters.Check(ring); err != nil {
			return decision{}, err
		}
		d := decision{master: &to}
		for _, k := range ring.Keys {
			if len(k.Sealed) == 0 || k.MasterID == to {
				continue
			}
			anew, err := c.masters.rewrap(k, c.masters.Current)
			if err != nil {
				return decision{}, err
			}
			d.update = append(d.update, anew)
			n++
		}
		d.audit = []audit.Event{by.tell(audit.KeysRewrapped, map[string]string{
			"from": ring.MasterID.String(), "to": to.String(), "keys": strconv.Itoa(n),
		})}
		return d, nil
	})
	return n, err
}

// Reset is what ResetMasterKeyLost gave up.
type Reset struct {
	Revoked []string // kids of all keys that stood
	// EndFamilies holds every root key number that was given up: no token under
	// it can be checked any more, so every session ends. Whoever called does
	// that; Settled is as in Blast.
	EndFamilies []int
	Settled     time.Time
}

// ResetMasterKeyLost abandons everything that is sealed and makes new keys that
// sign at once, under the current master key. Users and clients stay, sessions
// do not. It is a conflict while this node can still open every key: then
// nothing is lost, and Revoke is what is meant.
func (c *Custodian) ResetMasterKeyLost(ctx context.Context, by By) (Reset, error) {
	var out Reset
	current := IDOf(c.masters.Current)
	asked := by.tell(audit.KeysReset, map[string]string{"to": current.String()})
	if err := c.masters.Check(StoredRing{}); err != nil {
		return out, err
	}
	lost := func(ring StoredRing) error {
		if c.lost(ring) {
			return nil
		}
		return fault.New(fault.Conflict, "Nothing is lost: every key opens under the master keys given. To give up one key use: keys revoke KID")
	}
	err := c.write(ctx, func(ring StoredRing, _ []Life, _ time.Time) (Change, error) {
		return Change{Audit: []audit.Event{step(asked, "asked")}}, lost(ring)
	})
	if err != nil {
		return out, err
	}
	err = c.write(ctx, func(ring StoredRing, lives []Life, now time.Time) (Change, error) {
		if err := lost(ring); err != nil {
			return Change{}, err
		}
		out = Reset{Settled: now.Add(rootLead)}
		var given []StoredKey
		for _, l := range lives {
			if len(l.Key.Sealed) == 0 {
				continue
			}
			k := destroyed(l.Key)
			if k.RevokedAt == nil {
				k.RevokedAt = &now
			}
			given = append(given, k)
			if l.Stands(now) {
				out.Revoked = append(out.Revoked, k.KID)
			}
			if k.Purpose == Refresh {
				out.EndFamilies = append(out.EndFamilies, k.Number)
			}
		}
		roots := of(lives, Refresh, RootMAC)
		if nextNumber(roots) > maxRoot {
			return Change{}, rootsSpent()
		}
		steps := []Step{{Do: Publish, Key: newRoot(roots, now, now), Why: "the master key was lost"}}
		for _, a := range c.policy.Algorithms {
			steps = append(steps, Step{Do: Publish, Key: c.policy.newKey(a, of(lives, Sign, a), now, now), Why: "the master key was lost"})
		}
		blank := ring
		blank.MasterID = MasterID{} // new keys go under the current master key, which the store then names
		change, err := c.smith.carryOut(blank, steps, by, c.clock)
		change.Update = given
		done := by.tell(audit.KeysReset, map[string]string{
			"from": ring.MasterID.String(), "to": current.String(), "revoked": strings.Join(out.Revoked, " "),
		})
		change.Audit = append(change.Audit, step(done, "done"))
		return change, err
	})
	return out, err
}

func (c *Custodian) lost(ring StoredRing) bool {
	if c.masters.Check(ring) != nil {
		return true
	}
	for _, k := range ring.Keys {
		if len(k.Sealed) == 0 {
			continue
		}
		if _, err := c.masters.open(k); err != nil {
			return true
		}
	}
	return false
}

func step(e audit.Event, name string) audit.Event {
	e.Details["step"] = name
	return e
}

// open returns the keys of the ring that have material, opened.
func (c *Custodian) open(lives []Life) ([]*held, error) {
	var out []*held
	for _, l := range lives {
		if len(l.Key.Sealed) == 0 {
			continue
		}
		h, err := c.masters.unlock(l)
		if err != nil {
			return nil, fmt.Errorf("open the key ring: %w", err)
		}
		out = append(out, h)
	}
	return out, nil
}
