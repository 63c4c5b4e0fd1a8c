package app

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"filippo.io/mldsa"

	"example.com/authserver/internal/keys"
	"example.com/authserver/verify"
)

// ringKeys shows the key ring to package verify, so that this server checks
// its own tokens with the code it gives to others.
type ringKeys struct{ ring *keys.Ring }

// Key implements verify.KeySet.
func (r ringKeys) Key(_ context.Context, kid string) (verify.Key, error) {
	alg, public, ok := r.ring.Public(kid)
	if !ok {
		return verify.Key{}, fmt.Errorf("%w: %.100q", verify.ErrUnknownKey, kid)
	}
	return verify.Key{ID: kid, Algorithm: string(alg), Public: public}, nil
}

// NewVerifier returns a verifier of this installation's access tokens for one
// audience, on the ring's clock.
func NewVerifier(ring *keys.Ring, issuer string, audience []string, now func() time.Time) (*verify.Verifier, error) {
	return verify.New(verify.Config{
		Issuer: issuer, Audience: audience[0], OtherAudiences: audience[1:], Keys: ringKeys{ring},
		Extra: postQuantum(), Leeway: verify.NoLeeway, Now: now,
	})
}

// postQuantum is ML-DSA (RFC 9964) for package verify, which brings no
// dependency for it.
func postQuantum() []verify.Algorithm {
	list := make([]verify.Algorithm, 0, 2)
	for _, p := range []struct {
		name   keys.Algorithm
		params mldsa.Parameters
	}{{keys.MLDSA44, mldsa.MLDSA44()}, {keys.MLDSA65, mldsa.MLDSA65()}} {
		list = append(list, verify.Algorithm{
			Name: string(p.name),
			ParseKey: func(pub []byte) (crypto.PublicKey, error) {
				return mldsa.NewPublicKey(p.params, pub)
			},
			Verify: func(pub crypto.PublicKey, signed, sig []byte) error {
				key, ok := pub.(*mldsa.PublicKey)
				if !ok || key.Parameters() != p.params {
					return fmt.Errorf("a %T is no %s key", pub, p.name)
				}
				return mldsa.Verify(key, signed, sig, nil)
			},
		})
	}
	return list
}
