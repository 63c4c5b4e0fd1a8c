package verifiers

import (
	"context"
	"net/http"

	"example.com/authserver/verify"
)

// Verify is package verify of this repository in front of a handler.
func Verify(ctx context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience, jwksURL := s.Issuer, s.Audience, s.JWKS
	api := http.HandlerFunc(hello)
	// snippet: verify
	keys, err := verify.RemoteKeys(verify.RemoteConfig{URL: jwksURL, Client: client})
	if err != nil {
		return nil, err
	}
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: audience, Keys: keys, Algorithms: []string{"ES256"}})
	if err != nil {
		return nil, err
	}
	protected := v.Middleware(api)
	// end
	context.AfterFunc(ctx, func() { keys.Close() })
	return through(protected), nil
}
