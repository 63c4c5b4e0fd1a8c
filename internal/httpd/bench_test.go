package httpd_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/authserver/internal/httpd"
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

// The key set as a verifier fetches it that the node knows, beside a handler
// that writes the same bytes and nothing else.
func BenchmarkKeySet(b *testing.B) {
	clock := newClock()
	h := build(b, clock, openSQLite(b, clock))
	h.rooms.Log = slog.New(slog.DiscardHandler)
	quiet, err := httpd.New(h.config, h.rooms)
	if err != nil {
		b.Fatal(err)
	}
	set, err := h.ring.JWKS()
	if err != nil {
		b.Fatal(err)
	}
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"application/jwk-set+json"}
		_, _ = w.Write(set.Body)
	})
	for name, handler := range map[string]http.Handler{"server": quiet.Public(), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			s := httptest.NewServer(handler)
			defer s.Close()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					resp, err := s.Client().Get(s.URL + "/.well-known/jwks.json")
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}
