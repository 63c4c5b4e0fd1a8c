package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
)

// Custodian does what an operator asks of the keys, straight in the store:
// every node sees it within one poll. Each act reads the ring, decides, and
// writes only if the ring is still the one that was read; otherwise it decides
// again. Each is written to the audit log twice: when it was asked for, and
// with the change itself.
type Custodian struct {
	store   Store
	masters MasterKeys
	policy  Policy
	clock   func() time.Time
	smith   smith
}

// NewCustodian returns a custodian. clock only measures how long things take:
// instants are the store's.
func NewCustodian(store Store, masters MasterKeys, policy Policy, clock func() time.Time) *Custodian {
	return &Custodian{store, masters, policy, clock, smith{masters, policy.RSABits}}
}

// tries bounds how often an act is decided anew because the ring changed.
const tries = 20

// Status returns the timetable as it stands in the store. It needs no master
// key.
func (c *Custodian) Status(ctx context.Context) (Status, error) {
	ring, err := c.store.ReadRing(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("read the key ring: %w", err)
	}
	return statusOf(ring, ring.StoreNow, c.policy), nil
}

// read returns the ring with its lives and the store's time.
func (c *Custodian) read(ctx context.Context) (StoredRing, []Life, time.Time, error) {
	ring, err := c.store.ReadRing(ctx)
	if err != nil {
		return ring, nil, time.Time{}, fmt.Errorf("read the key ring: %w", err)
	}
	if ring.Fresh() {
		return ring, nil, time.Time{}, fault.New(fault.Conflict, "The store holds no keys yet; the server makes them when it starts.")
	}
	return ring, Timeline(ring.Keys, c.policy), ring.StoreNow.Truncate(time.Millisecond), nil
}

// decision is what an act wants done with the ring that it was shown. An empty
// one does nothing.
type decision struct {
	steps  []Step // carried out by the smith
	update []StoredKey
	master *MasterID
	audit  []audit.Event
}

// act notes what is asked for, then decides and writes until the ring holds
// still. decide must have no effect but its answer; it may be called again.
func (c *Custodian) act(ctx context.Context, by By, asked audit.Event, decide func(StoredRing, []Life, time.Time) (decision, error)) error {
	step(asked, "asked")
	err := c.write(ctx, func(ring StoredRing, lives []Life, now time.Time) (Change, error) {
		// What will be refused is refused before it is noted.
		if _, err := decide(ring, lives, now); err != nil {
			return Change{}, err
		}
		return Change{Audit: []audit.Event{asked}}, nil
	})
	if err != nil {
		return err
	}
	return c.write(ctx, func(ring StoredRing, lives []Life, now time.Time) (Change, error) {
		d, err := decide(ring, lives, now)
		if err != nil {
			return Change{}, err
		}
		change, err := c.smith.carryOut(ring, d.steps, by, c.clock)
		change.Update = append(change.Update, d.update...)
		change.MasterID = d.master
		change.Audit = append(change.Audit, d.audit...)
		for _, e := range change.Audit {
			step(e, "done")
		}
		return change, err
	})
}

func (c *Custodian) write(ctx context.Context, decide func(StoredRing, []Life, time.Time) (Change, error)) error {
	for range tries {
		ring, lives, now, err := c.read(ctx)
		if err != nil {
			return err
		}
		change, err := decide(ring, lives, now)
		if err != nil {
			return err
		}
		change.IfRevision = ring.Revision
		_, err = c.store.ChangeRing(ctx, change)
		if !errors.Is(err, ErrRingChanged) {
			return err
		}
	}
	return fault.New(fault.Conflict, "The key ring was changed by somebody else %d times in a row. Look at keys status and try again.", tries).Because(ErrRingChanged)
}

// chosen returns the algorithms that an act is about: one that is configured,
// or all of them for "".
func (c *Custodian) chosen(a Algorithm) ([]Algorithm, error) {
	if a == "" {
		return c.policy.Algorithms, nil
	}
	for _, configured := range c.policy.Algorithms {
		if a == configured {
			return []Algorithm{a}, nil
		}
	}
	return nil, fault.New(fault.InvalidRequest, "Algorithm %.40q is not configured; configured are %s (AUTHSERVER_KEY_ALGORITHMS).", string(a), joinAlgorithms(c.policy.Algorithms))
}
