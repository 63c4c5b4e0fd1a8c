// Package login owns the act of logging in with a password: the budget of
// wrong guesses, the verification that takes the same time whoever is asked
// for, and the opening of a session. It does not own hashing (package
// password) nor what happens to the session afterwards (packages session and
// refresh).
package login

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Credential is what a store knows about an address that somebody wants to
// log in with.
type Credential struct {
	User account.User // zero when there is no such account
	Hash string       // empty when there is no such account or it has no password
	// KnownNetwork reports that this account logged in from the network asked
	// about within 90 days.
	KnownNetwork bool
}

// KnownFor is how long a network stays known after a login from it.
const KnownFor = 90 * 24 * time.Hour

// Opening is a session about to be born. CredentialVersion is the one that was
// verified; the store opens nothing if it has changed or if the user is
// disabled, and says ErrRefused, or if it could not live, and says ErrBelowFloor.
type Opening struct {
	Session           id.Session
	Kind              session.Kind
	DeviceName        string
	AbsoluteTTL       time.Duration // AbsoluteEnd = now + AbsoluteTTL
	Family            refresh.Family
	CredentialVersion int32
	// Rehash replaces the hash that was verified (OldHash) by one of today's
	// parameters, if it is still there. It does not raise the version.
	OldHash, NewHash, NewScheme string
	// Replaces is the session of a live cookie that came with the login; it
	// ends. Zero when there is none. It may be another user's.
	Replaces  id.Session
	Network   string         // becomes known; empty on the command line
	Forget    []limit.Budget // budgets whose failures are forgotten
	Actor     string
	RequestID string
	// Also holds what the log is told besides session.opened; the store fills
	// in when, who, and the session.
	Also []audit.Event
}

// ErrRefused says that between verification and birth the account was
// disabled or its credential changed.
var ErrRefused = errors.New("the account was disabled or its credential changed meanwhile")

// ErrBelowFloor says that a session would be dead at its birth: everything from before a
// floor is revoked that is ahead of the store's clock, which was set back since it was raised.
// Nothing is written.
var ErrBelowFloor = errors.New("everything from before an instant that the database's clock has not reached is revoked: that clock was set back, or another one's was ahead")

// Store keeps what a login reads and writes.
type Store interface {
	// Credential reads by e-mail key; an unknown address is no error.
	Credential(ctx context.Context, emailKey, network string) (Credential, error)
	// Open opens the session and its family in one transaction that holds the
	// user's row FOR SHARE. It returns the family as it was written, with the
	// instants of the store's clock and the user's roles.
	Open(ctx context.Context, o Opening) (refresh.Family, error)
	// SweepNetworks deletes at most limit networks that are no longer known
	// and returns how many.
	SweepNetworks(ctx context.Context, limit int) (int, error)
}
