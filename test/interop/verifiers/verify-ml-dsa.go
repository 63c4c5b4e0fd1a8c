package verifiers

import (
	"context"
	"crypto"
	"net/http"

	"filippo.io/mldsa"

	"example.com/authserver/verify"
)

// VerifyMLDSA is package verify with an algorithm that it does not bring.
func VerifyMLDSA(ctx context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience, jwksURL := s.Issuer, s.Audience, s.JWKS
	// snippet: verify-ml-dsa
	mldsa44 := verify.Algorithm{
		Name:     "ML-DSA-44",
		ParseKey: func(pub []byte) (crypto.PublicKey, error) { return mldsa.NewPublicKey(mldsa.MLDSA44(), pub) },
		Verify: func(pub crypto.PublicKey, signed, sig []byte) error {
			return mldsa.Verify(pub.(*mldsa.PublicKey), signed, sig, nil)
		},
	}
	extra := []verify.Algorithm{mldsa44} // for the keys and for the tokens
	keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: jwksURL, Client: client, Extra: extra})
	// end
	if err != nil {
		return nil, err
	}
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: audience, Keys: keys, Extra: extra, Algorithms: []string{"ML-DSA-44"}})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { keys.Close() })
	return through(v.Middleware(http.HandlerFunc(hello))), nil
}
