package refresh

import (
	"crypto/sha256"
	"strings"
	"time"

	"example.com/authserver/internal/id"
)

// Transport is how a family's tokens travel. It is fixed at login.
type Transport string

// The transports.
const (
	InBody   Transport = "body"
	InCookie Transport = "cookie"
)

// Binding names what a holder must prove at every refresh. The zero value is
// an unbound family, whose token alone is enough. Its text is what stores
// keep: "", "client", "dpop:<jkt>" or "mtls:<x5t#S256>".
type Binding string

// Unbound families ask for the token alone; ToClient families ask for an
// authenticated confidential client.
const (
	Unbound  Binding = ""
	ToClient Binding = "client"
)

// ToDPoP binds to the key with the RFC 7638 thumbprint jkt (RFC 9449).
func ToDPoP(jkt string) Binding { return Binding("dpop:" + jkt) }

// ToCertificate binds to a client certificate's SHA-256 thumbprint (RFC 8705).
func ToCertificate(x5t string) Binding { return Binding("mtls:" + x5t) }

// Proof is what a request proved besides holding the token.
type Proof struct {
	Secret      bool   // the client authenticated with a shared secret
	ClientKey   bool   // the client authenticated with private_key_jwt
	DPoP        string // thumbprint of the key of a valid DPoP proof
	Certificate string // thumbprint of the client certificate of the connection
}

// proves reports whether p satisfies b.
func (p Proof) proves(b Binding) bool {
	switch {
	case b == Unbound:
		return true
	case b == ToClient:
		return p.Secret || p.ClientKey
	case strings.HasPrefix(string(b), "dpop:"):
		return p.DPoP != "" && b == ToDPoP(p.DPoP)
	case strings.HasPrefix(string(b), "mtls:"):
		return p.Certificate != "" && b == ToCertificate(p.Certificate)
	default:
		return false
	}
}

// byKey reports whether the binding b was proven with a key that cannot be
// copied along with the token, rather than with a shared secret.
func (p Proof) byKey(b Binding) bool {
	return b != Unbound && p.proves(b) && (b != ToClient || p.ClientKey)
}

// Sender is the fingerprint of who sent a request: 16 bytes of SHA-256 over
// the install id or, failing that, the user agent. Never the address: phones
// change networks.
type Sender [16]byte

// SenderOf computes the fingerprint. installID is the Authserver-Install-Id
// header; it counts when it has 16 to 64 characters.
func SenderOf(installID, userAgent string) Sender {
	text := "agent:" + userAgent
	if len(installID) >= 16 && len(installID) <= 64 {
		text = "install:" + installID
	}
	sum := sha256.Sum256([]byte(text))
	return Sender(sum[:16])
}

// RetryKey is what a family keeps of an Idempotency-Key: 16 bytes of
// SHA-256(family id, key). The zero value means that none was sent.
type RetryKey [16]byte

// RetryKeyOf reads the Idempotency-Key header: 16 to 128 visible ASCII
// characters, with the quotes of a structured field stripped (RFC 9651
// section 3.3.3). Anything else counts as absent.
func RetryKeyOf(f id.Family, header string) RetryKey {
	if n := len(header); n >= 2 && header[0] == '"' && header[n-1] == '"' {
		header = header[1 : n-1]
	}
	if len(header) < 16 || len(header) > 128 {
		return RetryKey{}
	}
	for i := range len(header) {
		if header[i] <= ' ' || header[i] > '~' {
			return RetryKey{}
		}
	}
	h := sha256.New()
	h.Write(f[:])
	h.Write([]byte(header))
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return RetryKey(sum[:16])
}

// EndReason says why a session or family ended. The list is closed.
type EndReason string

// The reasons.
const (
	EndedByLogout   EndReason = "logout"
	EndedByUser     EndReason = "user"     // ended from another session: remote logout
	EndedByPassword EndReason = "password" // the password was changed
	EndedByBan      EndReason = "ban"      // the account was disabled
	EndedByReuse    EndReason = "reuse"    // an old refresh token came back
	EndedByOperator EndReason = "operator"
	EndedByRelogin  EndReason = "relogin" // a login arrived with this session's cookie
	EndedByFloor    EndReason = "floor"   // mass revocation of everything older
	EndedByRootKey  EndReason = "root_key"
	EndedByLimit    EndReason = "limit" // the account had too many sessions
)

// Family is one family's row and what is read along with it. Instants are of
// the store's clock; a zero instant means never.
type Family struct {
	// Fixed at birth.
	ID         id.Family
	Session    id.Session
	User       id.User
	Client     string
	SecretHash [sha256.Size]byte
	Scope      string
	Audience   []string
	AuthTime   time.Time
	AMR        []string
	Binding    Binding
	Transport  Transport
	Rotates    bool
	// Remembered: the login asked for it, so a cookie outlives the browser's run.
	Remembered  bool
	IdleTTL     time.Duration
	BornAt      time.Time
	AbsoluteEnd time.Time
	// StatusIndex is the place of the session's tokens in the status lists, see
	// package revocation; 0: they have none.
	StatusIndex int64

	// Moving with every rotation.
	UserAgent     string
	IP            string
	Sender        Sender // of the rotation that made the head
	Generation    int32  // of the head
	HeadKey       uint8  // root key number of the head
	HeadBorn      time.Time
	UsedAt        time.Time
	RetryKey      RetryKey // of the rotation that made the head
	KeyFresh      bool     // RetryKey differs from the one before
	ForeignSeen   bool     // this generation saw a foreign replay that no key and no secret proved
	ForeignStreak int16    // how many generations in a row did before this one
	LateAt        time.Time

	// Written once, at the end.
	EndedAt    time.Time
	EndReason  EndReason
	EndRequest string

	// The first refusal after an end, written once, so that explain can say
	// what was refused.
	RefusedAt      time.Time
	RefusedAs      Reason
	RefusedRequest string

	// Read along, not part of the row.
	Disabled bool      // the user, or once there are clients the client, is disabled
	Roles    []string  // of the user
	Floor    time.Time // families born before this instant are revoked
	// TokensFrom is a whole second before which no access token may be dated:
	// the revocation feed refuses older ones of this user, or of everybody.
	TokensFrom time.Time
}

// MaxGeneration is the last generation; a family would need a rotation every
// second for 68 years to reach it.
const MaxGeneration = 1<<31 - 1

// IdleEnd returns when the family ends if it is not used again: its last use
// plus the shorter of its own idle TTL and today's policy, never beyond the
// absolute end. It is computed, never stored, so a shortened policy counts at
// once.
func (f *Family) IdleEnd(p Policy) time.Time {
	end := f.UsedAt.Add(min(f.IdleTTL, p.IdleTTL))
	if end.After(f.AbsoluteEnd) {
		return f.AbsoluteEnd
	}
	return end
}

// Policy is what a client's families are judged by. Zero values are not
// defaults; configuration fills every field.
type Policy struct {
	IdleTTL     time.Duration // at most this long between two refreshes
	RetryWindow time.Duration // how long the predecessor of the head is a retry
	LateRetry   LateRetry
	LockStep    LockStep
	// Outages this node has seen; time in which no answer could be given does
	// not count against a retry.
	Outages Outages
}

// LateRetry says whether an unproven predecessor may come back after the
// retry window.
type LateRetry uint8

const (
	// RefuseLate ends the family: for clients that can send a retry key.
	RefuseLate LateRetry = iota
	// LateOnceADay answers once in 24 hours to the same sender: for clients
	// that can prove nothing.
	LateOnceADay
)

// LockStep says what happens when two senders follow each other generation
// after generation.
type LockStep uint8

const (
	// EnforceLockStep ends the family.
	EnforceLockStep LockStep = iota
	// ReportLockStep only audits: for server-side rendering beside a browser.
	ReportLockStep
)

// Attempt is one token presented once, with what came along. Its token has
// passed the MAC check; a forged one never becomes an Attempt.
type Attempt struct {
	Family     id.Family
	Generation int32
	Key        uint8 // root key number the token names
	SecretHash [sha256.Size]byte
	Client     string
	Transport  Transport
	Proof      Proof
	RetryKey   RetryKey
	Sender     Sender
	UserAgent  string
	IP         string
	RequestID  string
	// NewKey is the root key number a successor would be made under.
	NewKey uint8
}
