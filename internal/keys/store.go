package keys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/authserver/internal/audit"
)

// Purpose says what a key is for.
type Purpose string

// The purposes. They are stored.
const (
	Sign    Purpose = "sign"    // signs tokens; its public half is in the JWKS
	Refresh Purpose = "refresh" // a refresh root key, 32 random bytes; never in the JWKS
)

// MasterID names a master key without telling anything about it: the first 8
// bytes of a labelled SHA-256. Zero means none.
type MasterID [8]byte

// IsZero reports whether no master key is named.
func (m MasterID) IsZero() bool { return m == MasterID{} }

// String returns 16 hexadecimal characters.
func (m MasterID) String() string { return hex.EncodeToString(m[:]) }

// StoredKey is one row of the ring. (Purpose, Algorithm, Number) names it and
// never changes, nor do KID and PublishedAt; the other fields move.
type StoredKey struct {
	Purpose   Purpose
	Algorithm Algorithm
	Number    int    // from 1 within purpose and algorithm; 1 to 255 for refresh root keys
	KID       string // RFC 7638 thumbprint; "refresh-<number>" for root keys; unique in the ring
	// Sealed is the key under the master key named by MasterID. Empty once the
	// material was destroyed: the row then only keeps the number and the times.
	Sealed      []byte
	MasterID    MasterID // zero where Sealed is empty
	PublishedAt time.Time
	ActiveAt    *time.Time    // nil: published without a date
	RevokedAt   *time.Time    // nil: not revoked
	SignsFor    time.Duration // the longest life of anything signed with it; whole milliseconds; 0 for root keys
}

// Name returns what names the row.
func (k StoredKey) Name() KeyName { return KeyName{k.Purpose, k.Algorithm, k.Number} }

// KeyName names one row of the ring.
type KeyName struct {
	Purpose   Purpose
	Algorithm Algorithm
	Number    int
}

// String returns for example "sign ES256 3".
func (n KeyName) String() string { return fmt.Sprintf("%s %s %d", n.Purpose, n.Algorithm, n.Number) }

// StoredRing is the ring as it stands in the store.
type StoredRing struct {
	// Revision counts the changes; 0 says that the store never held a key.
	Revision int64
	// MasterID names the master key under which new keys are sealed, so that a
	// wrong one is found on an empty ring too; zero in a fresh store.
	MasterID MasterID
	// Keys are all rows, in any order.
	Keys []StoredKey
	// StoreNow is the store's clock at the time of the read.
	StoreNow time.Time
}

// Fresh reports whether the store never held a key. Only a fresh store gets
// keys that are active at once.
func (r StoredRing) Fresh() bool { return r.Revision == 0 }

// Change is one step of the ring, all of it or nothing.
type Change struct {
	// IfRevision is the revision that the change was decided on.
	IfRevision int64
	// Insert holds new rows.
	Insert []StoredKey
	// Update holds rows that stand already, as they are to be: the store finds
	// them by Name and writes Sealed, MasterID, ActiveAt, RevokedAt, SignsFor, and
	// PublishedAt where it is earlier.
	Update []StoredKey
	// Forget names rows to delete.
	Forget []KeyName
	// MasterID, when not nil, is the new StoredRing.MasterID.
	MasterID *MasterID
	// Audit holds the events that tell of the step.
	Audit []audit.Event
}

// RevokesRoot reports whether a refresh root key is revoked by the change, or
// stands revoked after it.
func (c Change) RevokesRoot() bool {
	return slices.ContainsFunc(c.Update, func(k StoredKey) bool { return k.Purpose == Refresh && k.RevokedAt != nil })
}

// ErrRingChanged says that a change was decided on a ring that is no longer
// the one in the store. Nothing was written; read, decide and try again.
var ErrRingChanged = errors.New("the key ring was changed by somebody else")

// Store keeps the ring for this room alone: who else changed it would make a
// fresh store look used. Every method reads what was committed last (never a
// replica), and any error but ErrRingChanged means: nothing was done, or nobody
// knows. Instants are kept to the millisecond at least, and come back equal in
// UTC.
type Store interface {
	// ReadRing returns revision, master id and rows as of one instant (one
	// statement or one snapshot), with the store's clock read then. An empty
	// store gives revision 0 and no rows, not an error.
	ReadRing(ctx context.Context) (StoredRing, error)

	// ChangeRing applies c in one transaction if the revision is still
	// c.IfRevision, moves the revision by one and returns the new one;
	// otherwise it returns ErrRingChanged. The revision row is locked first, so
	// that two changes never interleave. A duplicate (Purpose, Algorithm,
	// Number) or KID among inserts, and an update or a forget that meets no row,
	// is ErrRingChanged too: the decision was taken on another ring. A change
	// without rows is valid: it writes its audit events and moves the revision.
	// A change that RevokesRoot is noted with its revision: see refresh.Call.
	// Once it returned nil the change is durable and every later ReadRing on
	// any node sees it.
	ChangeRing(ctx context.Context, c Change) (revision int64, err error)

	// LiveRoots returns the distinct root key numbers that family rows name as
	// their head's key, ended families that still stand included. It may scan
	// the whole table: it is asked at most once a day, by one node, and only
	// while a superseded root key stands.
	LiveRoots(ctx context.Context) ([]int, error)

	// HoldLease takes or renews the lease of that name for holder until ttl
	// from now by the store's clock. It returns false while another holder's
	// lease has not run out. The lease only saves work: correctness rests on
	// ChangeRing alone.
	HoldLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
}
