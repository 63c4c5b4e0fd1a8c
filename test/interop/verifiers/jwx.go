package verifiers

import (
	"context"
	"net/http"

	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// JWX is lestrrat-go/jwx with its own cache of key sets.
func JWX(ctx context.Context, client *http.Client, s Settings) (Check, error) {
	issuer, audience, jwksURL := s.Issuer, s.Audience, s.JWKS
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return nil, err
	}
	if err := cache.Register(ctx, jwksURL, jwk.WithHTTPClient(client)); err != nil {
		return nil, err
	}
	// snippet: jwx
	keys, err := cache.CachedSet(jwksURL) // after jwk.NewCache and cache.Register(ctx, jwksURL)
	es256 := jws.KeyProviderFunc(func(_ context.Context, sink jws.KeySink, sig *jws.Signature, _ *jws.Message) error {
		typ, _ := sig.ProtectedHeaders().Type() // jwx checks neither typ nor an allow-list of algorithms
		kid, _ := sig.ProtectedHeaders().KeyID()
		if key, ok := keys.LookupKeyID(kid); ok && typ == "at+jwt" {
			sink.Key(jwa.ES256(), key)
		}
		return nil
	})
	options := []jwt.ParseOption{jwt.WithKeyProvider(es256), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithRequiredClaim("exp")}
	// end
	return func(raw string) error { _, err := jwt.Parse([]byte(raw), options...); return err }, err
}
