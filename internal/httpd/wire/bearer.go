package wire

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"time"

	"filippo.io/mldsa"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/verify"
)

// Bearer checks access tokens as every other service does, with package verify,
// over the ring that this node holds. It is safe for concurrent use.
type Bearer struct {
	verifier *verify.Verifier
	ring     *keys.Ring
	scope    string
}

// NewBearer returns the check for tokens of one of these audiences that have the
// scope; "" asks for none.
func NewBearer(ring *keys.Ring, issuer string, audience []string, scope string) (*Bearer, error) {
	v, err := NewVerifier(ring, issuer, audience)
	if err != nil {
		return nil, err
	}
	return &Bearer{v, ring, scope}, nil
}

// NewVerifier returns a verifier of this installation's access tokens over the
// ring, on the store's clock. Its leeway covers what this node does not know of
// that clock: a token made a moment ago on another node must not look as if it
// came from the future.
func NewVerifier(ring *keys.Ring, issuer string, audience []string) (*verify.Verifier, error) {
	if len(audience) == 0 {
		return nil, errors.New("no audience is set")
	}
	return verify.New(verify.Config{
		Issuer: issuer, Audience: audience[0], OtherAudiences: audience[1:],
		Keys: ringKeys{ring}, Extra: postQuantum(), Now: ring.Now, Leeway: clockDoubt,
	})
}

// clockDoubt is how far the clock of a node that is ready may be off.
const clockDoubt = 5 * time.Second

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

// Identity is whom a genuine token speaks of.
type Identity struct {
	User    id.User
	Session id.Session
	Client  string
	Expired bool
}

// Read checks the bearer token of a request, but not its expiry, which it
// reports: a logout takes an expired one, nobody else does. There is no leeway
// for exp, because the clock that decides is the store's. A request without a
// token gets the fault reason NoCredentials.
func (b *Bearer) Read(s *Scope, r *http.Request) (Identity, error) {
	raw, err := verify.Bearer(r)
	if errors.Is(err, verify.ErrNoToken) {
		return Identity{}, fault.New(fault.TokenInvalid, "This endpoint wants the header \"Authorization: Bearer\" with an access token.").WithReason(NoCredentials).Because(err)
	}
	if err != nil {
		return Identity{}, invalidToken("malformed_authorization", err)
	}
	claims, err := b.verifier.VerifyEvenIfExpired(r.Context(), raw)
	if errors.Is(err, verify.ErrKeysUnavailable) {
		return Identity{}, fault.Trouble(err)
	}
	if err != nil {
		return Identity{}, invalidToken(reasonOf(err), err)
	}
	if b.scope != "" && !claims.HasScope(b.scope) {
		return Identity{}, invalidToken("scope", fmt.Errorf("scope is %q; want %q in it", claims.Scope, b.scope))
	}
	who := Identity{Client: claims.ClientID, Expired: !b.ring.Now().Before(claims.ExpiresAt)}
	if err := errors.Join(who.User.UnmarshalText([]byte(claims.Subject)), who.Session.UnmarshalText([]byte(claims.SessionID))); err != nil {
		return Identity{}, invalidToken("claims", err)
	}
	s.ClientID, s.Subject, s.Session = claims.ClientID, claims.Subject, claims.SessionID
	return who, nil
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
