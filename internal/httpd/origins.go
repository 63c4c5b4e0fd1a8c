package httpd

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rs/cors"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
)

// trustOrigins builds what is known of browsers' origins: who may read answers
// (CORS) and whose requests may act (cross-origin protection). Both know the
// same list: the allowed origins and the issuer's own.
func (s *Server) trustOrigins(own string) error {
	s.origins = map[string]bool{own: true}
	s.protection = http.NewCrossOriginProtection()
	for _, origin := range append([]string{own}, s.config.AllowedOrigins...) {
		if err := s.protection.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("httpd: AUTHSERVER_ALLOWED_ORIGINS: %w", err)
		}
		s.origins[origin] = true
	}
	s.cors = cors.New(cors.Options{
		AllowOriginVaryRequestFunc: s.mayRead,
		AllowedMethods:             []string{"GET", "POST", "DELETE"},
		AllowedHeaders:             []string{"Authorization", "Content-Type", "DPoP", "Idempotency-Key", "Authserver-Install-Id"},
		ExposedHeaders:             []string{"Retry-After", "DPoP-Nonce", "WWW-Authenticate", "X-Request-Id"},
		AllowCredentials:           true,
		MaxAge:                     600,
	})
	s.openCORS = cors.New(cors.Options{
		AllowedOrigins: []string{"*"}, AllowedMethods: []string{"GET", "HEAD"}, AllowedHeaders: []string{"*"}, MaxAge: 600,
	})
	return nil
}

// mayRead compares origins letter by letter, and tells of those it rejects with
// the line to add.
func (s *Server) mayRead(r *http.Request, origin string) (bool, []string) {
	if s.origins[origin] {
		return true, nil
	}
	if origin != "" && !ownOrigin(r, origin) && s.hints.first("origin "+cut(origin)) {
		s.rooms.Log.Warn("a browser's origin was rejected",
			"event", "origin_rejected", "origin", cut(origin), "hint", originHint(origin))
	}
	return false, nil
}

// ownOrigin reports whether a page of this very server asks, under whatever
// name it was reached.
func ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

func originHint(origin string) string {
	if origin == "null" {
		return "pages from files and sandboxed frames have the origin null, which cannot be allowed; serve the app over HTTP"
	}
	return "if this app is yours, add it: AUTHSERVER_ALLOWED_ORIGINS=" + cut(origin)
}

// crossOriginReads answers preflights and lets allowed origins read answers.
// What is for verifiers is for everybody, and it must not vary by origin, or no
// shared cache could hold it.
func (s *Server) crossOriginReads(next http.Handler) http.Handler {
	credentialed, open := s.cors.Handler(next), s.openCORS.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked := r.Header["Access-Control-Request-Headers"]; r.Method == http.MethodOptions && len(asked) > 0 {
			r.Header.Set("Access-Control-Request-Headers", fieldNames(asked))
		}
		switch {
		case !forVerifiers(r.URL.Path):
			credentialed.ServeHTTP(w, r)
		case r.Method == http.MethodOptions:
			open.ServeHTTP(w, r)
		default:
			w.Header()["Access-Control-Allow-Origin"] = anyOrigin
			next.ServeHTTP(w, r)
		}
	})
}

// fieldNames spells a list of field names as browsers do and the library wants it:
// lower case, in order, each once (Fetch standard, CORS-unsafe request-header
// names). People who try a preflight by hand do not, and names know no case
// (RFC 9110 section 5.1).
func fieldNames(lists []string) string {
	names := strings.Split(strings.ToLower(strings.Join(lists, ",")), ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	slices.Sort(names)
	return strings.TrimPrefix(strings.Join(slices.Compact(names), ","), ",")
}

// crossOriginWrites refuses what another site's page sends (CSRF). It stands
// before the whole API: a bearer endpoint loses nothing by it, because a
// browser would not have let that page send the header.
func (s *Server) crossOriginWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.protection.Check(r); err != nil {
			wire.Of(r).Fail(w, refusedOrigin(r).Because(err))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refusedOrigin(r *http.Request) *fault.Fault {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return fault.New(fault.CrossOrigin, "The request has no Origin, and Sec-Fetch-Site is %.40q: it comes from another site's page.", r.Header.Get("Sec-Fetch-Site")).WithReason("cross_site")
	}
	return fault.New(fault.CrossOrigin, "The origin %.128q is not among those that may call this server. If it is your app, add it to AUTHSERVER_ALLOWED_ORIGINS.", origin).WithReason("cross_site")
}
