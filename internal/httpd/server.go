package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/rs/cors"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/httpd/adminapi"
	"example.com/authserver/internal/httpd/authapi"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/token"
)

// Config is what the listeners know of the configuration.
type Config struct {
	Issuer   string   // public URL, no trailing slash
	Audience []string // accepted in bearer tokens, one at least
	Client   string   // the reserved client of /v1 sessions
	Scope    string   // what a bearer token needs under /v1; "" for nothing

	AllowedOrigins []string       // exact origins of browser apps
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	FirstPartyAPI  bool           // whether /v1 is served

	// Refresh gives the policy that a client's families are judged by.
	Refresh func(client string) refresh.Policy

	// RetryJitter is over how much time those who met trouble are spread
	// beyond the first second; 0 means 4 s, a negative value none.
	RetryJitter time.Duration
	// DrainDelay is how long a stopping server goes on answering while
	// /readyz says 503.
	DrainDelay time.Duration
	// DrainBound is how long requests under way may take after that; 0 means
	// 30 s.
	DrainBound time.Duration

	AdminExpose []string // what is served off loopback besides health and metrics: "admin", "pprof"
	AdminHosts  []string // host names that may ask for it, besides localhost and IP addresses

	// EdgeRate and EdgeBurst bound the requests of one network, refreshes and
	// key set excepted; 0 means 5,000 a second and 10,000 at once: a
	// proxy that was not named looks like one network.
	EdgeRate  float64
	EdgeBurst int
}

// Rooms are what the listeners call.
type Rooms struct {
	Ring     *keys.Ring
	Registry *account.Registry
	Desk     *login.Desk
	Rotator  *refresh.Rotator
	Minter   *token.Minter
	Sessions session.Store
	Feed     *revocation.Feed
	Roll     *keys.Roll // notes who fetches the key set; nil: nobody does

	// What the admin API calls besides.
	Accounts account.Store
	Audit    audit.Store
	Vault    admin.Vault

	Ping     func(context.Context) error // asks the database one trivial question
	Metrics  http.Handler                // answers /metrics
	Observer Observer
	Log      *slog.Logger
}

// Observer is told what the listeners do, for metrics. Its methods must not
// block.
type Observer interface {
	authapi.Observer
	// Served reports one answered request. route is a pattern of the route
	// table or "unmatched".
	Served(route, method string, status int, took time.Duration)
}

// Server is both listeners. It is safe for concurrent use.
type Server struct {
	config Config
	rooms  Rooms
	site   *wire.Site

	issuerHost string
	hsts       bool
	origins    map[string]bool // trusted with credentials
	protection *http.CrossOriginProtection
	cors       *cors.Cors
	openCORS   *cors.Cors // for what everybody may read
	hints      hints
	edge       *limit.Pace[string] // bounds the requests of one network
	health     health
	draining   atomic.Bool
	ending     chan struct{} // closed when streams have to end

	public http.Handler
	admin  *adminapi.Door
}

// New returns a server. An error names what is missing or wrong.
func New(c Config, r Rooms) (*Server, error) {
	if r.Ping == nil || r.Metrics == nil || r.Observer == nil || r.Log == nil || r.Ring == nil || r.Feed == nil {
		return nil, errors.New("httpd: a room is missing")
	}
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" {
		return nil, fmt.Errorf("httpd: issuer is %q, want a URL like https://auth.example.com", c.Issuer)
	}
	s := &Server{
		config: c, rooms: r, issuerHost: issuer.Host, hsts: issuer.Scheme == "https",
		site:   &wire.Site{Issuer: c.Issuer, Log: r.Log, RetrySpread: max(0, defaulted(c.RetryJitter, 4*time.Second))},
		edge:   limit.NewPace[string](defaulted(c.EdgeRate, 5000), defaulted(c.EdgeBurst, 10000)),
		ending: make(chan struct{}),
	}
	s.health = health{ring: r.Ring, ping: r.Ping, draining: &s.draining}
	if err := s.trustOrigins(issuer.Scheme + "://" + issuer.Host); err != nil {
		return nil, err
	}
	if s.admin, err = adminapi.New(adminapi.Config{Issuer: c.Issuer, Refresh: c.Refresh}, adminapi.Rooms{
		Ring: r.Ring, Accounts: r.Accounts, Sessions: r.Sessions, Audit: r.Audit, Vault: r.Vault,
	}); err != nil {
		return nil, err
	}
	set := newKeySet(s)
	if set.next, err = s.publicRoutes(set); err != nil {
		return nil, err
	}
	s.public = set
	return s, nil
}

func defaulted[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Public returns the handler of the public listener.
func (s *Server) Public() http.Handler { return s.public }

// The limits of a connection. A slow client may hold its own connection, and
// nothing else, for that long.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second // of a whole request; its context ends then, too
	writeTimeout  = 60 * time.Second // more than a batch and a locked row may take
	pprofTimeout  = 5 * time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	drainBound    = 30 * time.Second
)

func (s *Server) listen(h http.Handler, read, write time.Duration) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: read,
		WriteTimeout: write, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.rooms.Log.Handler(), slog.LevelDebug), // noise of clients
	}
}

// Serve answers on both listeners until ctx ends, and then stops without
// cutting a request off: /readyz says 503 at once, answers ask clients to close
// their connections, new requests are answered for DrainDelay more, streams end
// then, and requests under way get DrainBound to finish. operations may be nil.
// A request's own context does not end with ctx. It is called once.
func (s *Server) Serve(ctx context.Context, public, operations net.Listener) error {
	servers := []*http.Server{s.listen(s.public, readTimeout, writeTimeout)}
	listeners := []net.Listener{public}
	if operations != nil {
		servers = append(servers, s.listen(s.Operations(operations.Addr()), pprofTimeout, pprofTimeout))
		listeners = append(listeners, operations)
	}
	failed := make(chan error, len(servers))
	for i := range servers {
		go func() { failed <- servers[i].Serve(listeners[i]) }()
	}

	var cause error
	select {
	case <-ctx.Done():
		s.draining.Store(true)
		s.rooms.Log.Info("draining", "event", "drain_began", "delay", s.config.DrainDelay.String())
		select {
		case <-time.After(s.config.DrainDelay):
		case cause = <-failed:
		}
	case cause = <-failed:
		s.draining.Store(true)
	}
	close(s.ending)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaulted(s.config.DrainBound, drainBound))
	defer cancel()
	for _, server := range servers { // the public one first, so that health is told to the end
		if err := server.Shutdown(bound); err != nil {
			_ = server.Close()
			cause = errors.Join(cause, fmt.Errorf("requests were still under way at the end of the drain: %w", err))
		}
	}
	if errors.Is(cause, http.ErrServerClosed) {
		return nil
	}
	return cause
}
