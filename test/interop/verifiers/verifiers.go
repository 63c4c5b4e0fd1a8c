// Package verifiers holds Go programs as their authors' manuals have them: each
// file is one library, set up to accept this server's access tokens. The lines
// between "snippet" and "end" are what docs/protect-your-api.md shows.
package verifiers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
)

// Settings are what a verifier has to be told.
type Settings struct {
	Issuer   string
	Audience string
	JWKS     string // URL of the key set
}

// Check returns nil if the verifier accepts the token.
type Check func(raw string) error

// Open sets a verifier up. What it does in the background ends with ctx.
type Open func(ctx context.Context, client *http.Client, s Settings) (Check, error)

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }

// through asks a protected handler, as a client would.
func through(protected http.Handler) Check {
	return func(raw string) error {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+raw)
		w := httptest.NewRecorder()
		protected.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			return fmt.Errorf("status %d: %s", w.Code, strings.TrimSpace(w.Body.String()))
		}
		if got := w.Body.String(); got != "hello\n" {
			return fmt.Errorf("the API behind the middleware said %q", got)
		}
		return nil
	}
}

// typIs reads the typ of a token's header (RFC 7515 section 4.1.9), for tools
// that do not offer it.
func typIs(raw, want string) bool {
	encoded, _, _ := strings.Cut(raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	var header struct {
		Typ string `json:"typ"`
	}
	return err == nil && json.Unmarshal(text, &header) == nil && header.Typ == want
}
