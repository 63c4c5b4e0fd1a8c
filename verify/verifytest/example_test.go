package verifytest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/authserver/verify"
	"example.com/authserver/verify/verifytest"
)

// api is the service under test: it greets who may read orders.
func api(v *verify.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Middleware(verify.RequireScope("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("orders of " + verify.FromContext(r.Context()).Subject))
	}))))
	return mux
}

const audience = "https://orders.example.com"

// ask returns the status that token gets from h.
func ask(t *testing.T, h http.Handler, token string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// What the test of a service may look like.
func TestOrders(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	h := api(auth.Verifier(audience))

	reader := verifytest.Token{Audience: audience, Scope: "orders:read", Subject: "ada", IssuedAt: time.Now().Add(-time.Minute)}
	token := auth.Mint(reader)
	if got := ask(t, h, token); got != http.StatusOK {
		t.Errorf("a reader gets %d", got)
	}
	reader.Expired = true
	if got := ask(t, h, auth.Mint(reader)); got != http.StatusUnauthorized {
		t.Errorf("an old token gets %d", got)
	}
	auth.RevokeUser("ada")
	if got := ask(t, h, token); got != http.StatusUnauthorized {
		t.Errorf("a banned user gets %d", got)
	}
}
