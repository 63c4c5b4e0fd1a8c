package httpd

import (
	"net/http"
	"strconv"
	"strings"

	"example.com/authserver/internal/httpd/wire"
)

// jwks is GET /.well-known/jwks.json: from memory, whatever the database does.
// An error is 503: an empty set would be cached, and every token refused.
func (s *Server) jwks(_ *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	set, err := s.rooms.Ring.JWKS()
	if err != nil {
		return err
	}
	h := w.Header()
	h["Etag"] = []string{set.ETag}
	h["Cache-Control"] = []string{s.rooms.Ring.CacheControl()}
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	if matches(r.Header["If-None-Match"], set.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"] = keySetHeader
	h["Content-Length"] = []string{strconv.Itoa(len(set.Body))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(set.Body) // a client that went away is no news
	}
	return nil
}

// matches is the weak comparison of RFC 9110 section 13.1.2. No ETag of ours
// holds a comma.
func matches(headers []string, etag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}
