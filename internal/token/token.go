// Package token owns the access token: its claims and how one is minted
// (RFC 9068, the JWT profile for OAuth 2.0 access tokens). It does not own the
// keys it is signed with (package keys), nor how it is verified: that is the
// public package verify, which this server uses for its own bearer endpoints.
package token

import (
	"crypto"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/spell"
)

// Type is the typ header of an access token (RFC 9068 section 2.1).
const Type = "at+jwt"

// Claims are the claims of an access token, RFC 9068 section 2.2, with the
// session id of OpenID Connect. There is no nbf: it only breaks verifiers
// whose clock is behind.
type Claims struct {
	Issuer    string
	Subject   string
	Audience  []string // one at least
	ExpiresAt int64    // seconds since 1970
	IssuedAt  int64    // seconds since 1970
	ID        string
	ClientID  string
	Scope     string
	SessionID string
	AuthTime  int64    // seconds since 1970
	AMR       []string // RFC 8176
	Roles     []string // none: no claim
	// Status says where a verifier finds out whether the token was revoked
	// (draft-ietf-oauth-status-list-20, section 6.2); nil: no claim.
	Status *revocation.Place
}

// Append appends the claims as JSON. One audience is a string and several are an array
// (RFC 7519 section 4.1.3): gateways often know only the string.
func (c *Claims) Append(b []byte) []byte {
	b = spell.String(append(b, `{"iss":`...), c.Issuer)
	b = spell.String(append(b, `,"sub":`...), c.Subject)
	b = append(b, `,"aud":`...)
	if len(c.Audience) == 1 {
		b = spell.String(b, c.Audience[0])
	} else {
		b = spell.Strings(b, c.Audience)
	}
	b = strconv.AppendInt(append(b, `,"exp":`...), c.ExpiresAt, 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.IssuedAt, 10)
	b = spell.String(append(b, `,"jti":`...), c.ID)
	b = spell.String(append(b, `,"client_id":`...), c.ClientID)
	b = spell.String(append(b, `,"scope":`...), c.Scope)
	b = spell.String(append(b, `,"sid":`...), c.SessionID)
	b = strconv.AppendInt(append(b, `,"auth_time":`...), c.AuthTime, 10)
	b = spell.Strings(append(b, `,"amr":`...), c.AMR)
	if len(c.Roles) > 0 {
		b = spell.Strings(append(b, `,"roles":`...), c.Roles)
	}
	if c.Status != nil {
		b = strconv.AppendInt(append(b, `,"status":{"status_list":{"idx":`...), c.Status.Index, 10)
		b = append(spell.String(append(b, `,"uri":`...), c.Status.URI), "}}"...)
	}
	return append(b, '}')
}

// roomForClaims holds the claims of most tokens.
const roomForClaims = 640

// Grant is what an access token says.
type Grant struct {
	User     id.User
	Session  id.Session
	Client   string
	Scope    string
	Audience []string
	AuthTime time.Time
	AMR      []string
	Roles    []string
	// Until caps the life of the token: the end of its session.
	Until time.Time
	// From is the whole second that it is dated at the earliest; zero: any. What
	// was issued before is in the revocation feed.
	From time.Time
	// StatusIndex is the session's place in the status lists; 0: none.
	StatusIndex int64
}

// Minted is a signed access token.
type Minted struct {
	Token     secret.Text
	ID        string // jti
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Signing is the part of the key ring that signs.
type Signing interface {
	// Signer returns the active key of an algorithm, or of the default one
	// when alg is empty or not active yet. An error is trouble: the ring is
	// too old to sign with.
	Signer(alg keys.Algorithm) (kid string, method jwt.SigningMethod, key crypto.Signer, err error)
}

// Policy is what access tokens are like.
type Policy struct {
	Issuer string
	TTL    time.Duration
	// MaxBytes caps a token's size: roles can grow, headers of proxies cannot.
	MaxBytes int
	// StatusLists says whether tokens name their place in the status lists.
	StatusLists bool
}

// Minter mints access tokens. It is safe for concurrent use.
type Minter struct {
	ring   Signing
	policy Policy
}

// NewMinter returns a minter.
func NewMinter(ring Signing, policy Policy) *Minter { return &Minter{ring: ring, policy: policy} }

// Mint signs an access token at now, the store's clock, which is floored to
// the second so that no verifier sees it from the future. Only in the second of
// a revocation it is dated the second after, see Grant.From. Errors are faults:
// trouble, or an internal error for a token over MaxBytes.
func (m *Minter) Mint(g Grant, now time.Time) (Minted, error) {
	return m.mint(g, now, m.policy.TTL)
}

// MintFor is Mint with a TTL of the caller's, for an operator on the host.
func (m *Minter) MintFor(g Grant, now time.Time, ttl time.Duration) (Minted, error) {
	return m.mint(g, now, ttl)
}

func (m *Minter) mint(g Grant, now time.Time, ttl time.Duration) (Minted, error) {
	kid, method, key, err := m.ring.Signer("")
	if err != nil {
		return Minted{}, err
	}
	issued := now.Truncate(time.Second)
	// A later From is of a clock that was set back since: a token from the
	// future would be refused by every verifier, and not by the feed alone.
	if g.From.After(issued) && g.From.Sub(now) <= time.Second {
		issued = g.From
	}
	expires := issued.Add(ttl)
	if !g.Until.IsZero() && expires.After(g.Until) {
		expires = g.Until.Truncate(time.Second)
	}
	claims := Claims{
		Issuer: m.policy.Issuer, Subject: g.User.String(), Audience: g.Audience,
		ExpiresAt: expires.Unix(), IssuedAt: issued.Unix(), ID: id.NewEvent().String(),
		ClientID: g.Client, Scope: g.Scope, SessionID: g.Session.String(),
		AuthTime: g.AuthTime.Unix(), AMR: g.AMR, Roles: g.Roles,
	}
	if m.policy.StatusLists && g.StatusIndex > 0 {
		place := revocation.PlaceOf(m.policy.Issuer, g.StatusIndex)
		claims.Status = &place
	}
	signed, err := keys.Compact(Type, kid, method, key, claims.Append(make([]byte, 0, roomForClaims)))
	if err != nil {
		return Minted{}, fault.Trouble(err)
	}
	if m.policy.MaxBytes > 0 && len(signed) > m.policy.MaxBytes {
		return Minted{}, fault.New(fault.Internal, "The access token would have %d bytes; at most %d are allowed.", len(signed), m.policy.MaxBytes).
			Because(fmt.Errorf("user %s has %d roles", g.User, len(g.Roles)))
	}
	return Minted{Token: secret.NewText(string(signed)), ID: claims.ID, IssuedAt: issued, ExpiresAt: expires}, nil
}
