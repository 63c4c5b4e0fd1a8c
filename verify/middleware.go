package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

type contextKey struct{}

// NewContext returns ctx with claims in it, as Middleware does: for tests of
// handlers, and for doors that verify in their own way.
func NewContext(ctx context.Context, claims *Claims) context.Context {
	return context.WithValue(ctx, contextKey{}, claims)
}

// FromContext returns the claims of the request's token, nil outside Middleware.
func FromContext(ctx context.Context) *Claims {
	claims, _ := ctx.Value(contextKey{}).(*Claims)
	return claims
}

// Bearer returns the token of the Authorization header (RFC 6750 section 2.1),
// the only place it is looked for: tokens in queries end up in logs, and those
// in forms come from other sites.
//
// It returns ErrNoToken when there is no such header or it is of another
// scheme, and ErrRequest when there are several headers or no single token.
func Bearer(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	switch len(headers) {
	case 0:
		return "", fmt.Errorf("%w: no Authorization header", ErrNoToken)
	case 1:
	default:
		return "", fmt.Errorf("%w: %d Authorization headers, expected one", ErrRequest, len(headers))
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", fmt.Errorf("%w: Authorization is of another scheme", ErrNoToken)
	}
	token = strings.TrimLeft(token, " ")
	if token == "" || strings.ContainsAny(token, " \t,") {
		return "", fmt.Errorf("%w: expected `Bearer` and one token", ErrRequest)
	}
	return token, nil
}

// Middleware lets requests with a good token through to next, which finds the
// claims by FromContext. All others are answered with a challenge: 401 (400
// for a malformed header), or 503 with Retry-After when the keys are
// unavailable or the revocation feed is lost and that is reason to refuse.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := Bearer(r)
		var claims *Claims
		if err == nil {
			claims, err = v.Verify(r.Context(), raw)
		}
		if err != nil {
			status, challenge := v.Challenge(err)
			refuse(w, status, challenge, codeOf(status, err), describe(err))
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), claims)))
	})
}

// Challenge returns the HTTP status for an error of Verify or Bearer and the
// value of WWW-Authenticate (RFC 6750 section 3), empty for 503: for doors
// with bodies of their own.
func (v *Verifier) Challenge(err error) (status int, wwwAuthenticate string) {
	realm := fmt.Sprintf(`Bearer realm="%s"`, v.realm)
	switch {
	case errors.Is(err, ErrNoToken):
		// No error code: it asks for a token and blames nobody.
		return http.StatusUnauthorized, realm
	case errors.Is(err, ErrRequest):
		status = http.StatusBadRequest
	case trouble(err):
		return http.StatusServiceUnavailable, ""
	default:
		status = http.StatusUnauthorized
	}
	return status, fmt.Sprintf(`%s, error="%s", error_description="%s"`, realm, codeOf(status, err), describe(err))
}

// trouble: everything that is no verdict.
func trouble(err error) bool {
	_, ok := verdict(err)
	return !ok
}

func codeOf(status int, err error) string {
	switch {
	case errors.Is(err, ErrNoToken):
		return ""
	case status == http.StatusBadRequest:
		return "invalid_request"
	case status == http.StatusServiceUnavailable:
		return "temporarily_unavailable"
	default:
		return "invalid_token"
	}
}

// What callers are told. The details of the error stay here: they would name
// our expectations to whoever probes.
var descriptions = []struct {
	err  error
	text string
}{
	{ErrNoToken, "a bearer token is required"},
	{ErrRequest, "exactly one Authorization header with one bearer token is expected"},
	{ErrMalformed, "the token is malformed"},
	{ErrAlgorithm, "the token's algorithm is not accepted"},
	{ErrType, "the token is not an access token"},
	{ErrUnknownKey, "the token is signed by an unknown key"},
	{ErrSignature, "the token's signature is not valid"},
	{ErrIssuer, "the token is from another issuer"},
	{ErrAudience, "the token is meant for another service"},
	{ErrClaims, "the token lacks claims or has unacceptable ones"},
	{ErrNotYetValid, "the token is not valid yet"},
	{ErrRevoked, "the token has been revoked"},
	{ErrExpired, "the token has expired"},
}

func verdict(err error) (text string, ok bool) {
	// A key set of somebody's own may join anything to its trouble.
	if errors.Is(err, ErrKeysUnavailable) || errors.Is(err, ErrFeedLost) {
		return "", false
	}
	for _, d := range descriptions {
		if errors.Is(err, d.err) {
			return d.text, true
		}
	}
	return "", false
}

func describe(err error) string {
	if text, ok := verdict(err); ok {
		return text
	}
	return "tokens cannot be verified at the moment"
}

// RequireScope lets requests through whose token grants all of scopes, and
// answers 403 insufficient_scope to the others. It stands inside Middleware.
// It panics when there are no scopes or one is not spelled as RFC 6749 section
// 3.3 has it: that would be an open door.
func RequireScope(scopes ...string) func(http.Handler) http.Handler {
	if len(scopes) == 0 {
		panic("verify: RequireScope needs a scope")
	}
	for _, s := range scopes {
		if s == "" || quotable(s) != s || strings.Contains(s, " ") {
			panic(fmt.Sprintf("verify: %q is no scope", s))
		}
	}
	all := strings.Join(scopes, " ")
	challenge := fmt.Sprintf(`Bearer error="insufficient_scope", error_description="the token lacks a scope", scope="%s"`, all)
	return require(challenge, "the token lacks a scope", func(c *Claims) bool {
		for _, s := range scopes {
			if !c.HasScope(s) {
				return false
			}
		}
		return true
	})
}

// RequireRole lets requests through whose subject has role, and answers 403 to
// the others. It stands inside Middleware. It panics when role is empty.
func RequireRole(role string) func(http.Handler) http.Handler {
	if role == "" {
		panic("verify: RequireRole needs a role")
	}
	const description = "the subject lacks a role"
	challenge := fmt.Sprintf(`Bearer error="insufficient_scope", error_description="%s"`, description)
	return require(challenge, description, func(c *Claims) bool { return c.HasRole(role) })
}

func require(challenge, description string, allowed func(*Claims) bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			claims := FromContext(r.Context())
			switch {
			case claims == nil:
				// A fault of the routes, not of the caller; and closed.
				refuse(w, http.StatusInternalServerError, "", "server_error", "the route requires a scope or role outside verify's Middleware")
			case !allowed(claims):
				refuse(w, http.StatusForbidden, challenge, "insufficient_scope", description)
			default:
				next.ServeHTTP(w, r)
			}
		})
	}
}

func refuse(w http.ResponseWriter, status int, challenge, code, description string) {
	h := w.Header()
	if challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body := map[string]string{"error_description": description}
	if code != "" {
		body["error"] = code
	}
	_ = json.NewEncoder(w).Encode(body) // the caller went away; nobody is left to tell
}
