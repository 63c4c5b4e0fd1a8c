package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/jobs"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/obs"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/token"
)

// Server is a whole server over one installation.
type Server struct {
	in     *Installation
	ring   *keys.Ring
	feed   *revocation.Feed
	roll   *keys.Roll
	http   *httpd.Server
	chores *obs.Chores

	rotator    *refresh.Rotator
	attendance attendance
}

// New puts the rooms together. Nothing listens and nothing runs yet, but the
// keys have been read, and made in an empty store.
func New(ctx context.Context, in *Installation, log *slog.Logger) (*Server, error) {
	c := in.Config
	build := Build()
	metrics := obs.New(obs.Build{Version: build.Version, Revision: build.Revision, Go: build.Go}, log)
	in.Engine.OnTrouble(func(err error) {
		log.Error("the database is in trouble", "event", "store_trouble", "error", err.Error())
	})
	hearing := &hearing{Observer: metrics}
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, c.Keys(), time.Now, hearing)
	hearing.ring = ring
	if err := ring.Start(ctx); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	hasher, err := password.New(c.Passwords(), metrics)
	if err != nil {
		return nil, err
	}
	rules := password.DefaultRules()
	rules.Words = c.PasswordWords()

	rotator := refresh.NewRotator(in.Engine.Families(), ring, c.Refresh, ring, metrics)
	hearing.rotator.Store(rotator)
	logins := c.Login()
	if c.StatusLists() {
		logins.StatusIndex = revocation.NewIndexes(in.Engine.Revocations()).Take
	}
	desk := login.NewDesk(in.Engine.Logins(), in.Engine.Accounts(), in.Engine.Sessions(), in.Engine.Ledger(), hasher, rules, ring, logins, metrics)
	registry := account.NewRegistry(in.Engine.Accounts(), in.Engine.Ledger(), hasher, rules, c.Accounts())
	minter := token.NewMinter(ring, c.Tokens())
	feed := revocation.NewFeed(in.Engine.Revocations(), ring, c.Revocations(), ring.Now, metrics)
	if err := feed.Read(ctx); err != nil {
		return nil, err
	}

	attendance, err := attend(ctx, in.Engine.Leases(), ring.Now(), c.RetryWindow, rotator, log)
	if err != nil {
		return nil, err
	}

	metrics.WatchPool(in.Engine.Pool)
	metrics.WatchHashing(hasher.Inside, hasher.Waiting)
	metrics.WatchKeys(ring.Status)
	metrics.WatchFeed(feed.Status)
	roll := keys.NewRoll(ring, in.Engine.Verifiers())
	metrics.WatchVerifiers(roll.Evidence, roll.Missed)
	server, err := httpd.New(httpd.Config{
		Issuer: c.Issuer, Audience: c.Audiences(), Client: config.FirstParty, Scope: logins.Scope,
		AllowedOrigins: c.AllowedOrigins, TrustedProxies: c.Proxies(), FirstPartyAPI: c.FirstPartyAPI == "on",
		Refresh:    c.Refresh,
		DrainDelay: c.DrainDelay, AdminExpose: c.AdminExpose, AdminHosts: c.AdminHosts,
	}, httpd.Rooms{
		Ring: ring, Feed: feed, Registry: registry, Desk: desk, Rotator: rotator, Minter: minter, Sessions: in.Engine.Sessions(), Roll: roll,
		Accounts: in.Engine.Accounts(), Audit: in.Engine.Audit(), Vault: in.Vault(),
		Ping: in.Engine.Ping, Metrics: metrics.Handler(), Observer: metrics, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return &Server{in: in, ring: ring, feed: feed, rotator: rotator, attendance: attendance, roll: roll, http: server, chores: obs.NewChores(metrics)}, nil
}

// hearing passes on to the rotator whether the store answers: the ring asks it
// every second. While the answers give a date that nobody signs by, no refresh is
// answered, which is an outage like any other.
type hearing struct {
	keys.Observer
	ring    *keys.Ring
	rotator atomic.Pointer[refresh.Rotator]
}

// RingRead implements keys.Observer.
func (h *hearing) RingRead(took, offset time.Duration, err error) {
	h.Observer.RingRead(took, offset, err)
	if r := h.rotator.Load(); r != nil && !errors.Is(err, keys.ErrMasterKey) { // which the store answered
		r.StoreHeard(h.outage(err))
	}
}

// outage returns why no refresh can be answered just now, after a read of the ring.
func (h *hearing) outage(err error) error {
	if err != nil {
		return err
	}
	return h.ring.Misdated()
}

// Run serves on both listeners until ctx ends and every request has been
// answered. operations may be nil.
func (s *Server) Run(ctx context.Context, public, operations net.Listener) error {
	// Housekeeping goes on while requests drain: a node whose ring grows old
	// could not sign for them.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var housekeeping sync.WaitGroup
	housekeeping.Go(func() { jobs.Run(background, s.in.Engine.Leases(), id.NewRequest(), s.housework(), s.chores) })
	housekeeping.Go(func() { s.feed.Run(background) })
	housekeeping.Go(func() { s.rotator.KeepPulse(background) })
	housekeeping.Go(func() { s.attendance.keep(background) })
	housekeeping.Go(func() { s.roll.Run(background) })
	ring := make(chan error, 1)
	go func() { ring <- s.ring.Run(background) }()

	err := s.http.Serve(ctx, public, operations)
	stop()
	housekeeping.Wait()
	return errors.Join(err, <-ring)
}
