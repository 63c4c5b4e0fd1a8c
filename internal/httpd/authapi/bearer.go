package authapi

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"

	"filippo.io/mldsa"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/session"
	"example.com/authserver/verify"
)

// bearer checks access tokens as every other service does, with package verify,
// over the ring that this node holds.
type bearer struct {
	verifier *verify.Verifier
	ring     *keys.Ring
}

func newBearer(c Config, ring *keys.Ring) (*bearer, error) {
	if len(c.Audience) == 0 {
		return nil, errors.New("no audience is set")
	}
	v, err := verify.New(verify.Config{
		Issuer: c.Issuer, Audience: c.Audience[0], OtherAudiences: c.Audience[1:],
		Keys: ringKeys{ring}, Extra: postQuantum(), Now: ring.Now,
	})
	if err != nil {
		return nil, err
	}
	return &bearer{v, ring}, nil
}

// postQuantum are the algorithms that package verify leaves to its callers.
func postQuantum() []verify.Algorithm {
	extra := func(a keys.Algorithm, p mldsa.Parameters) verify.Algorithm {
		return verify.Algorithm{
			Name:     string(a),
			ParseKey: func(pub []byte) (crypto.PublicKey, error) { return mldsa.NewPublicKey(p, pub) },
			Verify: func(pub crypto.PublicKey, signed, sig []byte) error {
				return keys.MethodOf(a).Verify(string(signed), sig, pub)
			},
		}
	}
	return []verify.Algorithm{extra(keys.MLDSA44, mldsa.MLDSA44()), extra(keys.MLDSA65, mldsa.MLDSA65())}
}

// ringKeys is the ring as a verify.KeySet.
type ringKeys struct{ ring *keys.Ring }

// Key implements verify.KeySet. A key that this node does not know may have
// been made a moment ago on another one: the ring is read again, at most once a
// second for all requests together, before a genuine token is refused.
func (k ringKeys) Key(ctx context.Context, kid string) (verify.Key, error) {
	alg, public, ok := k.ring.Public(kid)
	if !ok && len(kid) == thumbprintLength {
		if err := k.ring.Reread(ctx); err != nil {
			return verify.Key{}, fmt.Errorf("%w: %w", verify.ErrKeysUnavailable, err)
		}
		alg, public, ok = k.ring.Public(kid)
	}
	if !ok {
		return verify.Key{}, verify.ErrUnknownKey
	}
	return verify.Key{ID: kid, Algorithm: string(alg), Public: public}, nil
}

// thumbprintLength is the length of every kid of ours: RFC 7638 with SHA-256.
const thumbprintLength = 43

// identity is whom a genuine token speaks of.
type identity struct {
	user    id.User
	session id.Session
	client  string
	expired bool
}

// read checks the bearer token of a request, but not its expiry: the clock that
// decides is the store's, so there is no leeway for exp. A request without a
// token gets the fault reason wire.NoCredentials.
func (b *bearer) read(s *wire.Scope, r *http.Request) (identity, error) {
	raw, err := verify.Bearer(r)
	if errors.Is(err, verify.ErrNoToken) {
		return identity{}, fault.New(fault.TokenInvalid, "This endpoint wants the header \"Authorization: Bearer\" with an access token.").WithReason(wire.NoCredentials).Because(err)
	}
	if err != nil {
		return identity{}, invalidToken("malformed_authorization", err)
	}
	claims, err := b.verifier.VerifyEvenIfExpired(r.Context(), raw)
	if errors.Is(err, verify.ErrKeysUnavailable) {
		return identity{}, fault.Trouble(err)
	}
	if err != nil {
		return identity{}, invalidToken(reasonOf(err), err)
	}
	who := identity{client: claims.ClientID, expired: !b.ring.Now().Before(claims.ExpiresAt)}
	if err := errors.Join(who.user.UnmarshalText([]byte(claims.Subject)), who.session.UnmarshalText([]byte(claims.SessionID))); err != nil {
		return identity{}, invalidToken("claims", err)
	}
	s.ClientID, s.Subject, s.Session = claims.ClientID, claims.Subject, claims.SessionID
	return who, nil
}

// caller is a person who may use a bearer endpoint.
type caller struct {
	identity
	session.Standing
}

// caller returns who asks, if the token and its session stand. Verification is
// local; that the session was not ended is read in the store every time.
func (d *Door) caller(s *wire.Scope, r *http.Request) (caller, error) {
	who, err := d.bearer.read(s, r)
	if err != nil {
		return caller{}, err
	}
	if who.expired {
		return caller{}, fault.New(fault.TokenExpired, "The access token has expired; refresh it.").WithReason("expired")
	}
	standing, err := d.Sessions.Standing(r.Context(), who.session, who.user, d.Refresh(who.client))
	if err != nil {
		return caller{}, fault.Trouble(err)
	}
	if !standing.Alive {
		return caller{}, fault.New(fault.SessionEnded, "The session of this access token has ended; log in again.").WithReason(string(standing.Why))
	}
	return caller{who, standing}, nil
}

func invalidToken(reason string, cause error) error {
	return fault.New(fault.TokenInvalid, "The access token is not valid here.").WithReason(reason).Because(cause)
}

// reasons name, for the log, why a token was not believed.
var reasons = []struct {
	err  error
	name string
}{
	{verify.ErrMalformed, "malformed"},
	{verify.ErrAlgorithm, "algorithm"},
	{verify.ErrType, "type"},
	{verify.ErrUnknownKey, "unknown_key"},
	{verify.ErrSignature, "signature"},
	{verify.ErrIssuer, "issuer"},
	{verify.ErrAudience, "audience"},
	{verify.ErrClaims, "claims"},
	{verify.ErrNotYetValid, "not_yet_valid"},
}

func reasonOf(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "malformed"
}
