package httpd

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5/middleware"
)

// forwarded is chi's reading of X-Forwarded-For: from the right, past the
// trusted proxies and no further, and only if the peer is one of them. Anything
// else in the header is a claim of a stranger.
func (s *Server) forwarded() func(http.Handler) http.Handler {
	if len(s.config.TrustedProxies) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	prefixes := make([]string, len(s.config.TrustedProxies))
	for i, p := range s.config.TrustedProxies {
		prefixes[i] = p.String()
	}
	return middleware.ClientIPFromXFF(prefixes...)
}

// peerOf returns the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// trusts reports whether the peer is a configured proxy.
func (s *Server) trusts(peer netip.Addr) bool {
	for _, p := range s.config.TrustedProxies {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// clientOf returns whom a request comes from: what forwarded found, or the peer
// where it found nothing (a proxy's own health check, an unreadable header).
func (s *Server) clientOf(r *http.Request, peer netip.Addr, trusted bool) netip.Addr {
	if trusted {
		if found := middleware.GetClientIPAddr(r.Context()); found.IsValid() {
			return found.WithZone("")
		}
		if r.Header["X-Forwarded-For"] != nil && s.hints.first("unreadable "+peer.String()) {
			s.rooms.Log.Warn("a trusted proxy sent an X-Forwarded-For that holds no client address, and counts as the client itself",
				"event", "unreadable_forwarded_for", "peer", peer.String(), "hint", "the header wants addresses without ports")
		}
		return peer
	}
	if r.Header["X-Forwarded-For"] != nil && s.hints.first("forwarded "+peer.String()) {
		s.rooms.Log.Warn("X-Forwarded-For came from a peer that is no trusted proxy and was ignored",
			"event", "untrusted_forwarded_for", "peer", peer.String(),
			"hint", "if that is your proxy, every user counts as one network until you set AUTHSERVER_TRUSTED_PROXIES="+peer.String()+"/"+bits(peer))
	}
	return peer
}

func bits(a netip.Addr) string {
	if a.Is4() {
		return "32"
	}
	return "128"
}

// readerOf is clientOf for the key set, where no middleware has been: it finds
// the same client as forwarded does and takes no memory for it.
func (s *Server) readerOf(r *http.Request) netip.Addr {
	peer := peerOf(r)
	if !s.trusts(peer) {
		return peer
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; {
			var hop string
			line, hop, more = cutLast(line)
			if hop == "" {
				continue
			}
			found, err := netip.ParseAddr(hop)
			if err != nil {
				return peer
			}
			if found = found.Unmap().WithZone(""); !s.trusts(found) {
				return found
			}
		}
	}
	return peer
}

// cutLast takes the last entry off a list with commas; more says whether there
// are others before it.
func cutLast(list string) (rest, last string, more bool) {
	at := strings.LastIndexByte(list, ',')
	if at < 0 {
		return "", strings.TrimSpace(list), false
	}
	return list[:at], strings.TrimSpace(list[at+1:]), true
}
