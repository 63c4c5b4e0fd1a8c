package verifiers

import (
	"context"
	"net/http"
	"net/url"
	"time"

	jwtmiddleware "github.com/auth0/go-jwt-middleware/v2"
	"github.com/auth0/go-jwt-middleware/v2/jwks"
	"github.com/auth0/go-jwt-middleware/v2/validator"
)

// Auth0 is auth0/go-jwt-middleware in front of a handler.
func Auth0(_ context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience := s.Issuer, s.Audience
	issuerURL, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	jwksURL, err := url.Parse(s.JWKS)
	if err != nil {
		return nil, err
	}
	api := http.HandlerFunc(hello)
	// snippet: go-jwt-middleware
	keys := jwks.NewCachingProvider(issuerURL, 10*time.Minute, jwks.WithSynchronousRefresh(true),
		jwks.WithCustomJWKSURI(jwksURL), jwks.WithCustomClient(client))
	tokens, err := validator.New(keys.KeyFunc, validator.ES256, issuer, []string{audience})
	protected := jwtmiddleware.New(func(ctx context.Context, raw string) (any, error) {
		if !typIs(raw, "at+jwt") { // the middleware does not look at typ
			return nil, jwtmiddleware.ErrJWTInvalid
		}
		return tokens.ValidateToken(ctx, raw)
	}).CheckJWT(api)
	// end
	return through(protected), err
}
