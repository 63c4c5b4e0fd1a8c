package httpd

import "net/http"

// The headers that every answer has. The slices are shared: nothing may change
// them in place.
var (
	nosniff      = []string{"nosniff"}
	noStore      = []string{"no-store"}
	noReferrer   = []string{"no-referrer"}
	noContent    = []string{"default-src 'none'; frame-ancestors 'none'"}
	sameOrigin   = []string{"same-origin"}
	crossOrigin  = []string{"cross-origin"}
	oneYear      = []string{"max-age=31536000"}
	closeHeader  = []string{"close"}
	anyOrigin    = []string{"*"}
	keySetHeader = []string{"application/jwk-set+json"} // RFC 7517 section 8.5.2
)

// harden sets them. Endpoints that may be cached or read by anybody replace
// some of them. There is no Clear-Site-Data: see authapi's cookie.
func (s *Server) harden(h http.Header, requestID string) {
	h["X-Request-Id"] = []string{requestID}
	h["X-Content-Type-Options"] = nosniff
	h["Cache-Control"] = noStore
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = noContent
	h["Cross-Origin-Resource-Policy"] = sameOrigin
	if s.hsts {
		h["Strict-Transport-Security"] = oneYear
	}
	if s.draining.Load() {
		h["Connection"] = closeHeader
	}
}
