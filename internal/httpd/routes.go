package httpd

import (
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"example.com/authserver/api"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/adminapi"
	"example.com/authserver/internal/httpd/authapi"
	"example.com/authserver/internal/httpd/wire"
)

// The paths that middleware knows.
const (
	jwksPath    = "/.well-known/jwks.json"
	feedPath    = "/v1/revocations"
	statusPath  = "/v1/status/"
	refreshPath = "/v1/refresh"
)

// forVerifiers reports paths that every verifier must always get: pages of any
// origin may read them, and no limit of a network stands before them.
func forVerifiers(path string) bool {
	return path == jwksPath || path == feedPath || strings.HasPrefix(path, statusPath)
}

// publicRoutes builds the public listener.
func (s *Server) publicRoutes(set *keySet) (http.Handler, error) {
	mux := chi.NewMux()
	mux.Use(s.forwarded(), s.observe, s.hostCheck, s.crossOriginReads, s.edgeLimit, middleware.GetHead)
	s.refuseElse(mux)

	mux.Method("GET", jwksPath, wire.Handler(set.handle))
	mux.Method("GET", feedPath, wire.Handler(s.feed))
	mux.Method("GET", statusPath+"{list}", wire.Handler(s.statusList))
	mux.Method("GET", "/openapi.yaml", wire.Handler(s.openapi))
	mux.Method("GET", "/", wire.Handler(s.front))
	if !s.config.FirstPartyAPI {
		return mux, nil
	}
	door, err := authapi.New(authapi.Config{
		Issuer: s.config.Issuer, Audience: s.config.Audience, AdminAudience: adminapi.Audience(s.config.Issuer),
		Client: s.config.Client, Scope: s.config.Scope, Refresh: s.config.Refresh,
	}, authapi.Rooms{
		Ring: s.rooms.Ring, Registry: s.rooms.Registry, Desk: s.rooms.Desk, Rotator: s.rooms.Rotator,
		Minter: s.rooms.Minter, Sessions: s.rooms.Sessions, Observer: s.rooms.Observer,
	})
	if err != nil {
		return nil, err
	}
	mux.Group(func(r chi.Router) {
		r.Use(s.crossOriginWrites)
		door.Routes(r)
	})
	return mux, nil
}

// refuseElse answers what no route matches.
func (s *Server) refuseElse(mux *chi.Mux) {
	notFound := wire.Handler(func(_ *wire.Scope, _ http.ResponseWriter, r *http.Request) error {
		// The path is not repeated: people put tokens there.
		f := fault.New(fault.NotFound, "There is nothing at this path; %s/openapi.yaml lists what there is.", s.config.Issuer)
		if !s.config.FirstPartyAPI && strings.HasPrefix(r.URL.Path, "/v1/") {
			f.Detail = "The first-party API is switched off on this server: AUTHSERVER_FIRST_PARTY_API is off."
		}
		return f
	})
	mux.NotFound(notFound.ServeHTTP)
	methods := []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	mux.MethodNotAllowed(wire.Handler(func(_ *wire.Scope, w http.ResponseWriter, r *http.Request) error {
		allow := slices.DeleteFunc(slices.Clone(methods), func(m string) bool {
			return !mux.Match(chi.NewRouteContext(), m, r.URL.Path)
		})
		if len(allow) == 0 { // a method that no path knows, on a path that is none
			notFound.ServeHTTP(w, r)
			return nil
		}
		if slices.Contains(allow, "GET") {
			allow = slices.Insert(allow, 1, "HEAD")
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return fault.New(fault.MethodNotAllowed, "This path takes %s.", strings.Join(allow, ", "))
	}).ServeHTTP)
}

// front is GET /: where a person with a browser lands.
func (s *Server) front(_ *wire.Scope, w http.ResponseWriter, _ *http.Request) error {
	return wire.WriteJSON(w, http.StatusOK, struct {
		Name    string `json:"name"`
		Issuer  string `json:"issuer"`
		JWKS    string `json:"jwks_uri"`
		OpenAPI string `json:"openapi"`
	}{"authserver", s.config.Issuer, s.config.Issuer + jwksPath, s.config.Issuer + "/openapi.yaml"})
}

var (
	yamlType   = []string{"application/yaml"} // RFC 9512
	shortCache = []string{"public, max-age=300"}
)

// openapi is GET /openapi.yaml.
func (s *Server) openapi(_ *wire.Scope, w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = yamlType, shortCache
	_, _ = w.Write(api.OpenAPI) // a client that went away is no news
	return nil
}
