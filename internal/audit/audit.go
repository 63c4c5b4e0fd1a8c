// Package audit owns the record of what happened to accounts, sessions and
// keys: the closed list of event kinds and the shape of an event. It does not
// own the writing: a store writes an event in the transaction of the act it
// tells of, so that neither exists without the other.
package audit

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/authserver/internal/id"
)

// Kind names what happened. The list is closed; a kind never changes meaning.
type Kind string

// The kinds of events.
const (
	UserCreated      Kind = "user.created"
	UserImported     Kind = "user.imported"
	UserDisabled     Kind = "user.disabled"
	UserEnabled      Kind = "user.enabled"
	UserRoleGranted  Kind = "user.role_granted"
	UserRoleRevoked  Kind = "user.role_revoked"
	PasswordChanged  Kind = "password.changed"
	PasswordSet      Kind = "password.set" // by an operator
	PasswordRehashed Kind = "password.rehashed"

	SessionOpened  Kind = "session.opened"
	SessionEnded   Kind = "session.ended"
	SessionsFloor  Kind = "session.floor_raised" // everything older is revoked
	FamilyReused   Kind = "refresh.reused"
	FamilyAhead    Kind = "refresh.ahead_of_store" // an acknowledged rotation was lost by the store
	FamilyLate     Kind = "refresh.late_retry"
	FamilyForeign  Kind = "refresh.foreign_replay"
	FamilyProven   Kind = "refresh.foreign_proven_replay"
	FamilyLockStep Kind = "refresh.lock_step" // seen, and only reported by policy

	KeyPublished  Kind = "key.published"
	KeyActivated  Kind = "key.activated"
	KeyCanceled   Kind = "key.rotation_canceled"
	KeyRevoked    Kind = "key.revoked"
	KeyDestroyed  Kind = "key.destroyed"
	KeysRewrapped Kind = "key.rewrapped"
	KeysReset     Kind = "key.reset"

	TokenMinted   Kind = "token.minted" // by an operator on the host
	IssuerChanged Kind = "server.issuer_changed"
)

// Kinds returns every kind, in the order of their declaration.
func Kinds() []Kind {
	return []Kind{
		UserCreated, UserImported, UserDisabled, UserEnabled, UserRoleGranted, UserRoleRevoked, PasswordChanged, PasswordSet, PasswordRehashed,
		SessionOpened, SessionEnded, SessionsFloor, FamilyReused, FamilyAhead, FamilyLate, FamilyForeign, FamilyProven, FamilyLockStep,
		KeyPublished, KeyActivated, KeyCanceled, KeyRevoked, KeyDestroyed, KeysRewrapped, KeysReset,
		TokenMinted, IssuerChanged,
	}
}

// Known reports whether k is one of Kinds.
func (k Kind) Known() bool { return slices.Contains(Kinds(), k) }

// Event is one row of the audit log. It never holds a token, a password or a
// hash of either.
type Event struct {
	ID   id.Event
	At   time.Time // the store's clock; the store sets it when zero
	Kind Kind
	// Actor is who acted: "user", "system", "operator:<name>" on the host or
	// "admin:<user id>" through the admin API.
	Actor     string
	User      id.User    // zero where no user is concerned
	Session   id.Session // zero where no session is concerned
	Family    id.Family  // zero where no family is concerned
	RequestID string
	Details   map[string]string
}

// Who acted.
const (
	ByUser   = "user"
	BySystem = "system"
)

// ByAdmin names an administrator who acted through the admin API.
func ByAdmin(u id.User) string { return "admin:" + u.String() }

// Filter selects events; zero fields select everything.
type Filter struct {
	User      id.User
	Session   id.Session
	Family    id.Family
	RequestID string
	Kind      Kind
	Before    time.Time // only events strictly older
	After     id.Event  // only events that a list names after this one, which page by page leaves none out
	Limit     int       // at most this many; the store caps it at 1,000
}

// ErrNoEvent says that Filter.After names no event, or one that is deleted by now.
var ErrNoEvent = errors.New("no such audit event")

// Store reads the log.
type Store interface {
	// Events returns the newest events that match, newest first; events of the same
	// instant have an order of their own. ErrNoEvent.
	Events(ctx context.Context, f Filter) ([]Event, error)
}
