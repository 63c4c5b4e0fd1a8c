package httpd

import "net/http"

// Observe lets a test put a handler of its own behind the middleware.
func (s *Server) Observe(h http.Handler) http.Handler { return s.observe(h) }
