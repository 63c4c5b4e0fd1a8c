package httpd_test

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/httpd/contracttest"
)

// The route table and api/openapi.yaml are the same list.
func TestRoutes_matchTheDocument(t *testing.T) {
	h := onOne(t)
	contract, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	var routes []string
	walk := func(handler http.Handler) {
		err := chi.Walk(handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
			if !strings.HasPrefix(route, "/debug/pprof/") { // Go's own, not ours to describe
				routes = append(routes, method+" "+route)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	walk(h.server.Routes())
	walk(h.server.Operations(&net.TCPAddr{IP: net.IPv4zero}))
	described := contract.Operations()
	slices.Sort(routes)
	slices.Sort(described)
	if diff := cmp.Diff(described, routes); diff != "" {
		t.Errorf("(-openapi.yaml +routes)\n%s", diff)
	}
}
