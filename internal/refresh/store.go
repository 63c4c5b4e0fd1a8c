package refresh

import (
	"context"
	"errors"
	"math"
	"time"

	"example.com/authserver/internal/id"
)

// ErrRefused says that the database refused a whole batch and committed
// nothing of it: one of its rows is locked or poisoned. Its members are judged
// alone, so that one bad row never stops a node.
var ErrRefused = errors.New("batch refused")

// ErrLocked says that somebody holds this one family's row locked for longer
// than the store was willing to wait. It is trouble of that family alone, not
// an outage of the store.
var ErrLocked = errors.New("family row is locked")

// Held is the outcome, in a batch, of a member whose row somebody else holds: nothing was
// done with it, and it is judged alone, as one that may have to wait.
var Held = new(Outcome)

// ErrStaleKeys says that the keys in the store have changed since the caller's
// node read them. Nothing was written; the caller reads them again and looks
// whether the token still counts.
var ErrStaleKeys = errors.New("the keys were read before they last changed")

// Call is an attempt with the policy it is judged by.
type Call struct {
	Attempt Attempt
	Policy  Policy
	// Keys is the revision of the keys that the token was checked under. A store
	// in which a root key was revoked since leaves the call undecided in a batch,
	// and answers ErrStaleKeys alone. 0: whatever was revoked.
	Keys int64
	// Spare has Redeem write nothing of a refusal, unless its verdict is But. Unknown
	// leaves no trace anyway.
	Spare bool
	But   Verdict
}

// Stale reports whether the keys have changed since the token was checked; revision is
// that of the keys in the store.
func (c Call) Stale(revision int64) bool { return c.Keys > 0 && revision > c.Keys }

// BatchLimits says how a store likes its batches.
type BatchLimits struct {
	Size     int // members of one batch, at most; 1 switches batching off
	InFlight int // batches under way at once, at most
}

// Store keeps families.
//
// Every method decides by the store's clock. Every write commits before the
// method returns nil; an error means that nothing was committed or that nobody
// knows. COMMIT is never cancelled: implementations run it on a context that
// the caller's cannot cancel, because a cancelled COMMIT under synchronous
// replication succeeds locally and says so only in a warning.
type Store interface {
	// BatchLimits is constant over the life of the store.
	BatchLimits() BatchLimits

	// RotateBatch rotates, in one statement or transaction and one commit,
	// those members that are certainly Rotated by row 6 of the table. No two
	// members are of one family. The result has one element per member; nil
	// means "not certain, judge it alone", and Held that its row is locked, which
	// stops no other member. The condition it rotates by is a
	// subset of what Judge calls Rotated, and the effect is the same.
	//
	// An error that is ErrRefused means that nothing was committed and members
	// may be judged alone. Any other error: nobody knows.
	RotateBatch(ctx context.Context, batch []Call) ([]*Outcome, error)

	// Redeem judges one attempt alone by calling Judge: it reads without a
	// lock, and takes the row lock, and judges again, only if the outcome
	// writes. A Reused verdict ends the family in the same transaction, user
	// row first. Nothing is written of a refusal that is to be spared. ErrLocked when the row cannot be had within wait. ErrStaleKeys
	// when the keys have changed since c.Keys: a replay under a root key that was
	// revoked meanwhile would leave no trace that could put its access token into
	// the revocation feed.
	Redeem(ctx context.Context, c Call, wait time.Duration) (Outcome, error)

	// Family reads one family with what is read along; nil when there is none.
	// now is the store's clock at the read.
	Family(ctx context.Context, f id.Family) (family *Family, now time.Time, err error)

	// Sweep looks at some hundred families from a place on, in the order in which
	// they lie in the table, and deletes those that ended before an instant, and of
	// those that nothing ended the ones that expired or fell idle before it,
	// with the sessions they leave empty: up to limit of them, or a single one
	// where there is a single writer. It returns the place to go
	// on from, Edge at the end of the table, and how many it deleted. Where the
	// deletion fails that is behind it: a row that somebody holds, or that is
	// damaged, does not keep all others.
	//
	// Rows that lie side by side were born one after the other and die so. In
	// the order of their random ids each would be a page of its own to write.
	//
	// The instant is the caller's, who has looked whether the clock has leapt: the
	// store's may leap at any moment, and what is deleted is gone.
	Sweep(ctx context.Context, from Place, limit int, p Policy, before time.Time) (next Place, deleted int, err error)
}

// Place is a place in the table of families, as the store counts them.
type Place uint64

// Edge is before the first family, and after the last. Anywhere is some place
// that the store chooses at random.
const (
	Edge     Place = 0
	Anywhere Place = math.MaxUint64
)
