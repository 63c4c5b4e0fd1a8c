package httpd

import (
	"net/http"
	"strconv"
	"time"
)

// Observe lets a test put a handler of its own behind the middleware.
func (s *Server) Observe(h http.Handler) http.Handler { return s.observe(h) }

// Routes returns the public routes, without what stands before them.
func (s *Server) Routes() http.Handler { return s.public.(*keySet).next }

// EdgeHolds returns how many networks the edge limit remembers after requests
// from n of them, and how many of these had to wait.
func EdgeHolds(n int) (held, waiting int) {
	e := newEdge(0.01, 1)
	now := time.Now()
	for i := range n {
		if e.wait(strconv.Itoa(i), now) > 0 {
			waiting++
		}
	}
	return len(e.young) + len(e.old), waiting
}

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
