// Package store owns what the attic and the command line ask of a database
// engine: the rooms' stores under one roof, the schema, and the founding facts
// of an installation. The engines are its subpackages; they know this package
// and the rooms, and nothing of each other.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/session"
)

// Engine is one open database. It is safe for concurrent use.
type Engine interface {
	// Name is "postgres" or "sqlite".
	Name() string

	Families() refresh.Store
	Sessions() session.Store
	Accounts() account.Store
	Logins() login.Store
	Keys() keys.Store
	Revocations() revocation.Store
	Verifiers() keys.VerifierStore
	Audit() audit.Store
	Ledger() limit.Ledger
	Leases() Leases
	Founding() Founding

	// Ping asks the database one trivial question, and whether it takes writes if it can
	// tell.
	Ping(ctx context.Context) error
	// Schema compares the database with the migrations of this binary.
	Schema(ctx context.Context) (Schema, error)
	// Migrate brings the schema up to this binary's newest migration. Any
	// number of nodes may call it at once; each migration is one transaction,
	// so a run that dies half-way is completed by the next. Where none is pending
	// it makes up for what an older version that ran meanwhile left undone.
	Migrate(ctx context.Context) (applied []string, err error)
	// Pool says how the connections are used now.
	Pool() Pool
	// OnTrouble has f told of what goes wrong behind all requests and needs a person.
	// What happened before is told at once.
	OnTrouble(f func(err error))
	// SweepPace is how many families one sweep should delete at most, and how many
	// times as long as it took the database should be left alone after it, so that the
	// p99 of those who use it does not tell.
	SweepPace() (families, rest int)
	// SweepAudit deletes events from before an instant, at most limit of them.
	SweepAudit(ctx context.Context, before time.Time, limit int) (int, error)
	// Doctor looks at the settings of the database that this server depends on.
	Doctor(ctx context.Context) ([]Finding, error)
	// AuditSessions re-reads the whole database and reports every violation
	// of the invariants: families without session or user, sessions that
	// ended while a family of theirs lives, ends that the audit log holds and
	// the rows do not, impossible columns, keys that sign before verifiers can
	// know them.
	AuditSessions(ctx context.Context) ([]Violation, error)
	Close()
}

// SweepPiece is how many rows a sweep of the smaller tables deletes at least, if
// its limit allows it and there are as many.
const SweepPiece = 10

// Leases hand out the right to do housekeeping. They are accelerators: work
// that two nodes do at once is harmless. One that all nodes hold together says when any of
// them ran last.
type Leases interface {
	// Hold takes or renews the lease of that name for holder; false when
	// somebody else holds it.
	Hold(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// Release gives it up.
	Release(ctx context.Context, name, holder string) error
	// Until returns when it runs out or ran out, by the store's clock; zero when nobody
	// ever held it or it was given up.
	Until(ctx context.Context, name string) (time.Time, error)
}

// Facts are what an installation was founded with.
type Facts struct {
	Issuer   string
	MasterID [8]byte
}

// Founding keeps the facts.
type Founding interface {
	// Facts returns them; ok is false in an empty store.
	Facts(ctx context.Context) (f Facts, ok bool, err error)
	// Found writes them into an empty store, and returns those that hold:
	// of ten nodes that found at once, all get the facts of one.
	Found(ctx context.Context, f Facts) (Facts, error)
	// SetIssuer replaces the issuer, with an audit event.
	SetIssuer(ctx context.Context, issuer, actor string) error
}

// Schema says where the database's schema stands.
type Schema struct {
	// Applied is the newest migration in the database; 0 when it is empty.
	Applied int64
	// Newest is the newest migration of this binary.
	Newest int64
	// CompatibleFrom is the oldest binary, by its newest migration, that still
	// works on this schema; 0 when the database is empty.
	CompatibleFrom int64
	// Pending names the migrations that this binary would apply.
	Pending []string
}

// Check returns an error when this binary must not work on that schema. A
// schema that is newer but compatible is fine: during a rollout the old binary
// may restart.
func (s Schema) Check() error {
	if s.CompatibleFrom > s.Newest {
		return fmt.Errorf("%w: the database needs a binary with migration %04d or later, this one has %04d", ErrIncompatible, s.CompatibleFrom, s.Newest)
	}
	return nil
}

// ErrIncompatible says that the schema is too new for this binary.
var ErrIncompatible = errors.New("incompatible schema")

// Unfit says that what the settings name cannot serve, now or later: a URL that is
// none, a server that is too old, a database in another encoding. To try again does
// not help.
type Unfit struct{ Err error }

// Error implements error.
func (u *Unfit) Error() string { return u.Err.Error() }

// Unwrap returns what is wrong.
func (u *Unfit) Unwrap() error { return u.Err }

// ErrInUse says that another server holds the same SQLite file.
var ErrInUse = errors.New("database file is in use by another server")

// Pool says how connections are used.
type Pool struct {
	Max, Open, Busy int
	// ServerMax is the database's own limit of connections; 0 where it has none.
	ServerMax int
}

// Finding is one thing that doctor noticed.
type Finding struct {
	Setting  string
	Seen     string
	Expected string
	Hint     string
	// Grave findings cost data or sessions; the others cost speed.
	Grave bool
}

// Violation is one broken invariant.
type Violation struct {
	Invariant string // a short stable name
	Subject   string // which row
	Detail    string
}

// AuditKeys is the part of AuditSessions that is the same on every engine: no
// key signs before it is published. Refresh root keys are not meant: nobody but
// the nodes has to know them, and a node that meets a number it does not know
// reads the ring again.
func AuditKeys(ring keys.StoredRing) (found []Violation) {
	for _, k := range ring.Keys {
		if k.Purpose == keys.Sign && k.ActiveAt != nil && k.ActiveAt.Before(k.PublishedAt) {
			found = append(found, Violation{
				Invariant: "key_is_published_before_it_signs", Subject: "key " + k.KID,
				Detail: fmt.Sprintf("active at %s, published at %s", k.ActiveAt, k.PublishedAt),
			})
		}
	}
	return found
}
