package httpd

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
)

// Operations returns the handler of the operations listener at addr. Off
// loopback it serves health and metrics only, unless the configuration exposes
// more.
func (s *Server) Operations(addr net.Addr) http.Handler {
	mux := chi.NewMux()
	mux.Use(s.forwarded(), s.observe, middleware.GetHead)
	s.refuseElse(mux)
	mux.Method("GET", "/livez", wire.Handler(s.health.live))
	mux.Method("GET", "/readyz", wire.Handler(s.health.ready))
	mux.Method("GET", "/metrics", s.rooms.Metrics)

	mux.Group(func(r chi.Router) {
		r.Use(s.guard(addr, "admin"))
		s.admin.Routes(r)
	})
	profiles := s.guard(addr, "pprof")
	guard := func(h http.HandlerFunc) http.Handler { return profiles(h) }
	mux.Method("GET", "/debug/pprof/", guard(pprof.Index))
	mux.Method("GET", "/debug/pprof/cmdline", guard(pprof.Cmdline))
	mux.Method("GET", "/debug/pprof/profile", guard(pprof.Profile))
	mux.Method("GET", "/debug/pprof/symbol", guard(pprof.Symbol))
	mux.Method("GET", "/debug/pprof/trace", guard(pprof.Trace))
	mux.Method("GET", "/debug/pprof/{profile}", guard(pprof.Index))
	return mux
}

// guard serves what stands behind it on loopback, and elsewhere only where the
// configuration exposes it by that name; in either case only under a host name
// that is known, and not from another site's page.
func (s *Server) guard(addr net.Addr, name string) func(http.Handler) http.Handler {
	exposed := addr != nil && onLoopback(addr.String()) || slices.Contains(s.config.AdminExpose, name)
	return func(next http.Handler) http.Handler {
		return wire.Handler(func(_ *wire.Scope, w http.ResponseWriter, r *http.Request) error {
			if !exposed {
				return fault.New(fault.NotFound, "Off loopback this listener serves health and metrics only, unless AUTHSERVER_ADMIN_EXPOSE names %s.", name)
			}
			if !s.knowsHost(r.Host) {
				return fault.New(fault.Forbidden, "The request came under the host %.128q; want an IP address, localhost or one of AUTHSERVER_ADMIN_HOSTS.", r.Host).WithReason("host")
			}
			// A page can send requests whose answers it may not read; of a profile that is harm enough.
			if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
				return fault.New(fault.Forbidden, "The request comes from another site's page: Sec-Fetch-Site is %.40q.", site).WithReason("cross_site")
			}
			next.ServeHTTP(w, r)
			return nil
		})
	}
}

// onLoopback reports whether address, an IP address with a port, is this machine's own.
func onLoopback(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// knowsHost keeps out pages whose own name was made to point here (DNS
// rebinding): a browser sends that name.
func (s *Server) knowsHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || slices.ContainsFunc(s.config.AdminHosts, func(h string) bool { return strings.EqualFold(h, host) }) {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}
