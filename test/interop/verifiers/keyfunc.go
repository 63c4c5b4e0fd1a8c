package verifiers

import (
	"context"
	"errors"
	"net/http"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// Keyfunc is golang-jwt with MicahParks/keyfunc for the keys.
func Keyfunc(ctx context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience, jwksURL := s.Issuer, s.Audience, s.JWKS
	// snippet: keyfunc
	keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{jwksURL}, keyfunc.Override{Client: client})
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
	check := func(raw string) (*jwt.Token, error) {
		token, err := parser.Parse(raw, keys.Keyfunc)
		if err == nil && token.Header["typ"] != "at+jwt" {
			return nil, errors.New("not an access token") // golang-jwt does not look at typ
		}
		return token, err
	}
	// end
	return func(raw string) error { _, err := check(raw); return err }, err
}
