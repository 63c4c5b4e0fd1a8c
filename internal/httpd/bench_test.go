package httpd_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What the middleware and the door cost a refresh, without signing and without
// a database: a forged token is refused before either.
func BenchmarkRefresh_forged(b *testing.B) {
	clock := newClock()
	h := build(b, clock, openSQLite(b, clock))
	handler := h.server.Public()
	body := `{"refresh_token":"asrt_` + strings.Repeat("A", 72) + `"}`
	b.ReportAllocs()
	for b.Loop() {
		serveOnce(handler, body)
	}
}

// A whole refresh over SQLite, one at a time: the same token again and again
// reads its family and signs.
func BenchmarkRefresh_replayed(b *testing.B) {
	clock := newClock()
	h := build(b, clock, openSQLite(b, clock))
	h.register("ada@example.com")
	body := `{"refresh_token":"` + h.login("ada@example.com").Refresh + `"}`
	handler := h.server.Public()
	b.ReportAllocs()
	for b.Loop() {
		if code := serveOnce(handler, body); code != 200 {
			b.Fatal(code)
		}
	}
}

func serveOnce(handler http.Handler, body string) int {
	r := httptest.NewRequest("POST", issuer+"/v1/refresh", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code
}
