package keys

import (
	"slices"
	"time"
)

// Do names what a step does.
type Do string

// The steps that a plan may hold.
const (
	Publish Do = "publish" // insert Step.Key with fresh material
	Extend  Do = "extend"  // SignsFor grows with the policy
	Date    Do = "date"    // a key without a date, or a root key that is wanted at once, gets its ActiveAt
	Destroy Do = "destroy" // the sealed material of a key that ended is erased; the row stays for its number
	Forget  Do = "forget"  // the row of a key that ended long ago is deleted
)

// Step is one row that the ring lacks or holds otherwise. Key is the row as it
// is to be; a published one has no KID and no material yet.
type Step struct {
	Do  Do
	Key StoredKey
	Why string
	// Urgent steps are taken by whichever node sees them, without the lease:
	// it cannot sign before.
	Urgent bool
}

// keptRows is how many rows of ended keys stay for each algorithm. It bounds
// what every node reads every second where somebody rotates every few seconds.
const keptRows = 16

// Plan returns what the ring lacks at now, the store's clock. It is pure:
// whichever node asks, whenever, takes the same steps, and carrying out a plan
// twice is impossible because both ask for the same number.
//
// Only a store that never held a key gets keys that sign at once. Later a key
// is always published one lead before it signs, but for what a wrong clock made:
// see planSilence.
func Plan(ring StoredRing, now time.Time, p Policy) []Step {
	now = now.Truncate(time.Millisecond)
	lives := Timeline(ring.Keys, p)
	var steps []Step
	for _, a := range p.Algorithms {
		steps = append(steps, planAlgorithm(ring, of(lives, Sign, a), a, now, p)...)
	}
	steps = append(steps, planSilence(ring, lives, now, p)...)
	steps = append(steps, planRoot(of(lives, Refresh, RootMAC), now)...)
	for _, l := range lives {
		if l.Key.Purpose != Sign {
			continue
		}
		if k := l.Key; l.Stands(now) && k.SignsFor < p.signsFor() {
			// A retiring key too: a node may have signed with it a moment ago.
			k.SignsFor = p.signsFor()
			steps = append(steps, Step{Do: Extend, Key: k, Why: "tokens live longer than before", Urgent: true})
		} else if !l.Stands(now) && len(k.Sealed) > 0 {
			steps = append(steps, Step{Do: Destroy, Key: destroyed(k), Why: "the key is " + string(l.State(now))})
		}
	}
	for _, a := range Algorithms() {
		steps = append(steps, planForget(of(lives, Sign, a), now)...)
	}
	return steps
}

func planAlgorithm(ring StoredRing, lives []Life, a Algorithm, now time.Time, p Policy) []Step {
	publish := func(activeAt time.Time, why string, urgent bool) []Step {
		return []Step{{Do: Publish, Why: why, Urgent: urgent, Key: p.newKey(a, lives, now, activeAt)}}
	}
	if ring.Fresh() {
		return publish(now, "the store never held a key", true)
	}
	active, signs := activeOf(lives, now)
	standby, waits := standbyOf(lives, now)
	switch {
	case !signs && !waits:
		return publish(now.Add(p.Lead), "no key of this algorithm stands", false)
	case !waits && !now.Before(active.ActiveFrom.Add(p.standbyAfter())):
		return publish(p.timetable(active, now), "the active key has no standby", false)
	case waits && standby.ActiveFrom.IsZero():
		k, at := standby.Key, laterOf(now, standby.Key.PublishedAt.Add(p.Lead))
		if signs {
			at = laterOf(at, active.ActiveFrom.Add(p.RotateEvery))
		}
		k.ActiveAt = &at
		return []Step{{Do: Date, Key: k, Why: "the standby has no date"}}
	}
	return nil
}

// planSilence lets a standby sign at once where no key of any algorithm signs: keys
// that were made or dated by a clock that was ahead wait for the day that it showed. One
// that was published lately waits its lead all the same.
func planSilence(ring StoredRing, lives []Life, now time.Time, p Policy) []Step {
	if ring.Fresh() || slices.ContainsFunc(lives, func(l Life) bool { return l.Key.Purpose == Sign && l.State(now) == Active }) {
		return nil
	}
	for _, a := range p.Algorithms {
		next, ok := standbyOf(of(lives, Sign, a), now)
		k := next.Key
		if ahead := k.PublishedAt.After(now); ok && (ahead || now.Sub(k.PublishedAt) >= p.Lead) {
			if k.ActiveAt = &now; ahead {
				k.PublishedAt = now
			}
			return []Step{{Do: Date, Key: k, Why: "no signing key is active", Urgent: true}}
		}
	}
	return nil
}

// timetable is when a successor published at now takes over from active.
func (p Policy) timetable(active Life, now time.Time) time.Time {
	return laterOf(now.Add(p.Lead), active.ActiveFrom.Add(p.RotateEvery))
}

// planRoot sees to it that there is always an active root key. It never
// replaces one: that is asked for by an operator.
func planRoot(roots []Life, now time.Time) []Step {
	if _, ok := activeOf(roots, now); ok {
		return nil
	}
	if next, ok := standbyOf(roots, now); ok {
		// Nodes that do not know it yet read the ring again before they say
		// Unknown; waiting would log people out no less.
		k := next.Key
		k.ActiveAt = &now
		return []Step{{Do: Date, Key: k, Why: "no refresh root key is active", Urgent: true}}
	}
	if nextNumber(roots) > maxRoot {
		return nil
	}
	return []Step{{Do: Publish, Why: "no refresh root key stands", Urgent: true, Key: newRoot(roots, now, now)}}
}

// newKey returns a row without material; lives are those of its algorithm.
func (p Policy) newKey(a Algorithm, lives []Life, publishedAt, activeAt time.Time) StoredKey {
	return StoredKey{
		Purpose: Sign, Algorithm: a, Number: nextNumber(lives),
		PublishedAt: publishedAt, ActiveAt: &activeAt, SignsFor: p.signsFor(),
	}
}

func newRoot(roots []Life, publishedAt, activeAt time.Time) StoredKey {
	return StoredKey{Purpose: Refresh, Algorithm: RootMAC, Number: nextNumber(roots), PublishedAt: publishedAt, ActiveAt: &activeAt}
}

// planForget deletes ended rows from the lowest number on, so that the
// greatest number always stands and a later key never outlives the memory of
// an earlier one.
func planForget(lives []Life, now time.Time) []Step {
	ended := 0
	for ended < len(lives) && !lives[ended].Stands(now) && len(lives[ended].Key.Sealed) == 0 {
		ended++
	}
	var steps []Step
	for _, l := range lives[:max(0, ended-keptRows)] {
		steps = append(steps, Step{Do: Forget, Key: l.Key, Why: "more than enough ended keys are remembered"})
	}
	return steps
}

// rootRest is how long a superseded root key stays before anybody asks who
// still uses it. Families whose heads have moved on may have lost the answer:
// their honest retries, and a thief's old tokens, still name it.
const rootRest = 30 * day

// restingRoots reports whether a superseded root key might be dropped.
func restingRoots(ring StoredRing, now time.Time, p Policy) bool {
	return len(PlanRoots(ring, now, p, nil)) > 0
}

// PlanRoots returns the steps that destroy superseded root keys which no
// family row names any more; live is what Store.LiveRoots answered after the
// ring was read. The row stays, so that the number is never given again.
func PlanRoots(ring StoredRing, now time.Time, p Policy, live []int) []Step {
	var steps []Step
	for _, l := range of(Timeline(ring.Keys, p), Refresh, RootMAC) {
		state, since, _ := l.At(now)
		if state == Retiring && now.Sub(since) >= rootRest && !slices.Contains(live, l.Key.Number) {
			steps = append(steps, Step{Do: Destroy, Key: destroyed(l.Key), Why: "no family names this root key"})
		}
	}
	return steps
}

func destroyed(k StoredKey) StoredKey {
	k.Sealed, k.MasterID = nil, MasterID{}
	return k
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
