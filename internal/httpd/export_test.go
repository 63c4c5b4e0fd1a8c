package httpd

import (
	"net/http"
	"net/netip"
	"strconv"
)

// Observe lets a test put a handler of its own behind the middleware.
func (s *Server) Observe(h http.Handler) http.Handler { return s.observe(h) }

// Routes returns the public routes, without what stands before them.
func (s *Server) Routes() http.Handler { return s.public.(*keySet).next }

// HintsTold returns how many of n different hints are told.
func HintsTold(n int) (told int) {
	var h hints
	for i := range n {
		if h.first(strconv.Itoa(i)) {
			told++
		}
	}
	return told
}

// ReaderOf is whom the key set takes a request to be from.
func (s *Server) ReaderOf(r *http.Request) netip.Addr { return s.readerOf(r) }
