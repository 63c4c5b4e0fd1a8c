// Package session owns what a person sees of a login: the list of devices,
// whether a session still stands, and the acts that end sessions. It does not
// own how a session begins (package login) nor the tokens in it (packages
// refresh and token).
package session

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// Kind says what a session belongs to.
type Kind string

const (
	// Browser sessions end with a logout in that browser.
	Browser Kind = "browser"
	// Offline sessions (OpenID Connect offline_access) outlive it.
	Offline Kind = "offline"
)

// MaxLiving is about how many living sessions an account may have; logins
// beyond it end the oldest. Without a bound, whatever ends them all could be made to
// take too long by whoever knows one password.
const MaxLiving = 1000

// FloorSettles is how long after its instant a floor may still find families that
// were born below it: longer than any birth takes.
const FloorSettles = 2 * time.Minute

// Session is one login on one device, as its owner sees it. Instants are of
// the store's clock.
type Session struct {
	ID              id.Session
	User            id.User
	Kind            Kind
	Client          string
	DeviceName      string // as the device called itself; empty when it did not
	UserAgent       string // of the last refresh
	IP              string // of the last refresh
	CreatedAt       time.Time
	LastRefreshedAt time.Time
	IdleExpiresAt   time.Time
	ExpiresAt       time.Time
	EndedAt         time.Time // zero while it lives
	EndReason       refresh.EndReason
}

// Standing is what a bearer endpoint must know before it believes a token.
type Standing struct {
	// Alive reports that session and user exist, that neither ended nor is
	// disabled, and that no end of time has passed.
	Alive bool
	// Why says why not: ended, idle, absolute, user_disabled, below_floor or
	// no_family. Empty while alive.
	Why   refresh.Reason
	Email string
	// UserCreatedAt is when the account was made.
	UserCreatedAt time.Time
	Roles         []string
	// Now is the store's clock at the read.
	Now time.Time
}

// End asks for sessions of one user to be ended.
type End struct {
	User      id.User
	Session   id.Session // this one alone; zero: all of the user's
	Except    id.Session // with Session zero: all but this one
	Reason    refresh.EndReason
	Actor     string // as in audit.Event
	RequestID string
}

// ErrUnsettled says that a floor was raised, and that the revocation feed was not told of
// the access tokens that were answered meanwhile: raising it to the same instant again does.
var ErrUnsettled = errors.New("the revocation feed was not told of what was answered meanwhile")

// Store keeps sessions. Errors are trouble. Every act that ends something goes
// through one function of the store that locks the user's row first and then
// the family rows in the order of their ids, writes each row itself, and adds
// an audit event per session, in one transaction.
type Store interface {
	// Standing reads a session for a bearer endpoint.
	Standing(ctx context.Context, s id.Session, u id.User, p refresh.Policy) (Standing, error)
	// Sessions returns the living sessions of a user, newest first, at most
	// 1,000; with ended it returns those that ended and are still kept, too.
	Sessions(ctx context.Context, u id.User, p refresh.Policy, ended bool) ([]Session, error)
	// Session returns one session of any state; nil when there is none.
	Session(ctx context.Context, s id.Session, p refresh.Policy) (*Session, error)
	// Families returns the families of a session, of any state, oldest first.
	Families(ctx context.Context, s id.Session) ([]refresh.Family, error)
	// ByRequest returns the families whose end or first refusal was noted
	// under a request id, at most 100. It scans the table: it is for explain.
	ByRequest(ctx context.Context, requestID string) ([]refresh.Family, error)
	// EndSessions ends what e asks for and returns how many sessions it ended;
	// those that had ended before keep their reason and are not counted.
	EndSessions(ctx context.Context, e End) (int, error)
	// EndOldest ends the oldest living sessions of a user beyond the keep
	// newest, at most 500 in one call, and returns how many.
	EndOldest(ctx context.Context, u id.User, keep int, requestID string) (int, error)
	// RaiseFloor revokes everything born before the given instant, which must
	// not lie in the future, or nobody can log in until then. At once:
	// the floor is one row that every verdict reads. The rows are ended
	// afterwards by EndBelowFloor. A floor never sinks: an instant below it
	// changes nothing and is no event. It returns the floor that holds now;
	// with ErrUnsettled, too.
	RaiseFloor(ctx context.Context, before time.Time, actor, requestID string) (time.Time, error)
	// EndBelowFloor writes the end into at most limit family rows below the
	// floor and returns how many it wrote; 0 when none is left. What it found to
	// be so FloorSettles after the floor it remembers in the store, and reads the
	// families no more before the floor rises again.
	EndBelowFloor(ctx context.Context, limit int) (int, error)
	// EndUnderRoot ends every family whose head was made under the refresh
	// root key of that number, at most limit of them in one call, and returns
	// how many it ended.
	EndUnderRoot(ctx context.Context, number uint8, limit int, actor string) (int, error)
	// CountUnderRoot returns how many living families EndUnderRoot would end.
	CountUnderRoot(ctx context.Context, number uint8) (int, error)
	// CountLiving returns how many sessions live now.
	CountLiving(ctx context.Context, p refresh.Policy) (int, error)
}
