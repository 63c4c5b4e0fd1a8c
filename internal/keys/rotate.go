package keys

import (
	"context"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
)

// Rotation tells when a key takes over.
type Rotation struct {
	Algorithm Algorithm
	Number    int
	KID       string    // "" for a key that this act published; see Status
	From      time.Time // it signs from then on
	Published bool      // this act published it: there was no standby
}

// Rotate makes the standby of an algorithm ("" is all of them) sign as soon as
// its lead allows, but not before at, which may be zero. Where there is no
// standby one is published, and signs after its lead. A standby that is dated
// earlier already keeps its date unless at is given.
func (c *Custodian) Rotate(ctx context.Context, by By, a Algorithm, at time.Time) ([]Rotation, error) {
	algorithms, err := c.chosen(a)
	if err != nil {
		return nil, err
	}
	var out []Rotation
	asked := by.tell(audit.KeyActivated, map[string]string{"algorithm": string(a)})
	if !at.IsZero() {
		asked.Details["not_before"] = instant(at)
	}
	err = c.act(ctx, by, asked, func(_ StoredRing, lives []Life, now time.Time) (decision, error) {
		out = nil
		var d decision
		for _, a := range algorithms {
			mine := of(lives, Sign, a)
			standby, ok := standbyOf(mine, now)
			if !ok {
				k := c.policy.newKey(a, mine, now, laterOf(now.Add(c.policy.Lead), ceil(at)))
				d.steps = append(d.steps, Step{Do: Publish, Key: k, Why: "keys rotate"})
				out = append(out, Rotation{Algorithm: a, Number: k.Number, From: *k.ActiveAt, Published: true})
				continue
			}
			from := laterOf(laterOf(now, standby.Key.PublishedAt.Add(c.policy.Lead)), ceil(at))
			if dated := standby.ActiveFrom; at.IsZero() && !dated.IsZero() && dated.Before(from) {
				from = dated
			}
			k := standby.Key
			k.ActiveAt = &from
			d.steps = append(d.steps, Step{Do: Date, Key: k, Why: "keys rotate"})
			out = append(out, Rotation{Algorithm: a, Number: k.Number, KID: k.KID, From: from})
		}
		return d, nil
	})
	return out, err
}

// onTime is how far a standby's date may be behind its timetable without
// anybody having asked for it: making a key takes its time.
const onTime = time.Minute

// CancelRotation puts standbys that an operator brought forward or put off back
// on their timetable: their predecessor's date plus RotateEvery, or, where that
// has passed, RotateEvery from now. It is a conflict when no standby was.
func (c *Custodian) CancelRotation(ctx context.Context, by By, a Algorithm) ([]Rotation, error) {
	algorithms, err := c.chosen(a)
	if err != nil {
		return nil, err
	}
	var out []Rotation
	asked := by.tell(audit.KeyCanceled, map[string]string{"algorithm": string(a)})
	err = c.act(ctx, by, asked, func(_ StoredRing, lives []Life, now time.Time) (decision, error) {
		out = nil
		var d decision
		for _, a := range algorithms {
			mine := of(lives, Sign, a)
			active, signs := activeOf(mine, now)
			standby, waits := standbyOf(mine, now)
			if !signs || !waits || standby.ActiveFrom.IsZero() {
				continue
			}
			from := laterOf(standby.Key.PublishedAt.Add(c.policy.Lead), active.ActiveFrom.Add(c.policy.RotateEvery))
			if !from.After(now) {
				from = now.Add(c.policy.RotateEvery)
			}
			if late := standby.ActiveFrom.Sub(from); late >= 0 && late <= onTime {
				continue
			}
			k := standby.Key
			k.ActiveAt = &from
			d.update = append(d.update, k)
			d.audit = append(d.audit, by.event(audit.KeyCanceled, k, "keys rotate --cancel"))
			out = append(out, Rotation{Algorithm: a, Number: k.Number, KID: k.KID, From: from})
		}
		if len(out) == 0 {
			return d, fault.New(fault.Conflict, "No rotation that was asked for is ahead: every standby follows its timetable. A key that signs already is undone with: keys rotate --back")
		}
		return d, nil
	})
	return out, err
}

// Back makes the key before the active one sign again, at once, while it is
// still in the key set. The key that signed until now stays published and its
// tokens stay good; it is dated one RotateEvery ahead, and later standbys one
// more each, so the timetable goes on. With "", every algorithm goes back that
// can; it is a conflict when none can.
func (c *Custodian) Back(ctx context.Context, by By, a Algorithm) ([]Rotation, error) {
	algorithms, err := c.chosen(a)
	if err != nil {
		return nil, err
	}
	var out []Rotation
	asked := by.tell(audit.KeyActivated, map[string]string{"algorithm": string(a), "why": "keys rotate --back"})
	err = c.act(ctx, by, asked, func(_ StoredRing, lives []Life, now time.Time) (decision, error) {
		out = nil
		var d decision
		for _, a := range algorithms {
			mine := of(lives, Sign, a)
			active, ok := activeOf(mine, now)
			if !ok {
				continue
			}
			previous, found := before(mine, active, now)
			if !found {
				continue
			}
			next := now
			for _, l := range append([]Life{active}, standbys(mine, now)...) {
				next = next.Add(c.policy.RotateEvery)
				k, from := l.Key, next
				k.ActiveAt = &from
				d.update = append(d.update, k)
			}
			event := by.event(audit.KeyActivated, previous.Key, "keys rotate --back")
			event.Details["back_from"] = active.Key.KID
			d.audit = append(d.audit, event)
			out = append(out, Rotation{Algorithm: a, Number: previous.Key.Number, KID: previous.Key.KID, From: now})
		}
		if len(out) == 0 {
			return d, fault.New(fault.Conflict, "There is no key to go back to: none that signed before is still in the key set. To take back a rotation that has not happened yet use: keys rotate --cancel")
		}
		return d, nil
	})
	return out, err
}

// before returns the key that signed before the active one, if it is still in
// the key set. An older one will not do: with this one erased, no key of the
// algorithm would be active.
func before(lives []Life, active Life, now time.Time) (Life, bool) {
	var last Life
	found := false
	for _, l := range lives {
		signed := l.Key.RevokedAt == nil && l.Key.ActiveAt != nil && relieves(active.Key, l.Key)
		if signed && (!found || relieves(l.Key, last.Key)) {
			last, found = l, true
		}
	}
	return last, found && last.State(now) == Retiring
}

// standbys returns the published keys in the order in which they will sign.
func standbys(lives []Life, now time.Time) []Life {
	var out []Life
	for {
		next, ok := standbyOf(lives, now)
		if !ok {
			return out
		}
		out = append(out, next)
		var rest []Life
		for _, l := range lives {
			if l.Key.Number != next.Key.Number {
				rest = append(rest, l)
			}
		}
		lives = rest
	}
}

// RotateRefresh publishes a new refresh root key. New tokens are made under it
// a minute later, when every node that answers knows it; old tokens stay good.
// While one is on its way already, that one is returned.
func (c *Custodian) RotateRefresh(ctx context.Context, by By) (Rotation, error) {
	var out Rotation
	asked := by.tell(audit.KeyActivated, map[string]string{"purpose": string(Refresh)})
	err := c.act(ctx, by, asked, func(_ StoredRing, lives []Life, now time.Time) (decision, error) {
		roots := of(lives, Refresh, RootMAC)
		if next, ok := standbyOf(roots, now); ok {
			out = Rotation{RootMAC, next.Key.Number, next.Key.KID, next.ActiveFrom, false}
			return decision{audit: []audit.Event{by.event(audit.KeyActivated, next.Key, "it was on its way already")}}, nil
		}
		if nextNumber(roots) > maxRoot {
			return decision{}, rootsSpent()
		}
		k := newRoot(roots, now, now.Add(rootLead))
		out = Rotation{RootMAC, k.Number, "", *k.ActiveAt, true}
		return decision{steps: []Step{{Do: Publish, Key: k, Why: "keys rotate --refresh"}}}, nil
	})
	return out, err
}

func rootsSpent() error {
	return fault.New(fault.Conflict, "All %d refresh root key numbers have been used: the token has one byte for them, and none is ever given twice.", maxRoot)
}

// ceil rounds up to what a store keeps.
func ceil(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(time.Millisecond - 1).Truncate(time.Millisecond)
}
