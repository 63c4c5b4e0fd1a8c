package httpd

import (
	"net/http"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
)

// edgeLimit stands before every endpoint but a few: refreshes are limited by
// family and never by address, because a school is one address, and what
// verifiers must always get is a copy in memory.
//
// The limit of a family is package refresh's, which knows the family.
func (s *Server) edgeLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.Path; path != refreshPath && !forVerifiers(path) {
			scope := wire.Of(r)
			if wait := s.edge.Wait(scope.Network(), scope.Begun); wait > 0 {
				scope.Fail(w, fault.New(fault.TooManyRequests, "This network sends too many requests.").After(wait).WithReason("edge"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
