package verifiers

import (
	"context"
	"errors"
	"net/http"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// GoOIDC is coreos/go-oidc without discovery.
func GoOIDC(ctx context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience, jwksURL := s.Issuer, s.Audience, s.JWKS
	// snippet: go-oidc
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(ctx, client), jwksURL)
	verifier := oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: []string{oidc.ES256}})
	check := func(ctx context.Context, raw string) (*oidc.IDToken, error) {
		jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil || jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType] != "at+jwt" {
			return nil, errors.New("not an access token") // go-oidc does not look at typ
		}
		return verifier.Verify(ctx, raw)
	}
	// end
	return func(raw string) error { _, err := check(ctx, raw); return err }, nil
}
