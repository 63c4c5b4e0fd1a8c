package httpd

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// hints remembers what the log was told lately, so that a wrong setting is told
// of at once and does not fill the disk. The zero value is ready.
type hints struct {
	mu   sync.Mutex
	said map[string]struct{}
	from time.Time
}

const (
	hintsEvery = time.Hour
	hintsMost  = 64 // in one hour; whoever invents origins gets no more
)

// first reports whether key is news.
func (h *hints) first(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.said == nil || now.Sub(h.from) >= hintsEvery {
		h.said, h.from = map[string]struct{}{}, now
	}
	if _, known := h.said[key]; known || len(h.said) >= hintsMost {
		return false
	}
	h.said[key] = struct{}{}
	return true
}

// hostCheck looks at the name that a request of the public listener came under.
func (s *Server) hostCheck(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.checkHost(r)
		next.ServeHTTP(w, r)
	})
}

// checkHost tells when requests come under another name than the issuer's. They
// are answered all the same: a container or a health check may have to use
// another name, and the API does not depend on it.
func (s *Server) checkHost(r *http.Request) {
	if r.Host == s.issuerHost {
		return
	}
	host := cut(r.Host)
	if name, _, err := net.SplitHostPort(host); err == nil && net.ParseIP(name) != nil || net.ParseIP(host) != nil {
		return // no name at all: probes and curl do that
	}
	if s.hints.first("host " + host) {
		s.rooms.Log.Warn("a request came under another host than the issuer's",
			"event", "other_host", "seen", host, "expected", s.issuerHost,
			"hint", "clients compare the issuer letter by letter: set AUTHSERVER_ISSUER to the URL that they use, or make the proxy pass the Host header on")
	}
}

// cut bounds what strangers can write into a log line.
func cut(s string) string {
	if len(s) > 128 {
		return s[:128]
	}
	return s
}
