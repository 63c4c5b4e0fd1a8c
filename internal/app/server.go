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
	"example.com/authserver/internal/audit"
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
	"example.com/authserver/internal/store"
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
}

// New puts the rooms together. Nothing listens and nothing runs yet, but the
// keys have been read, and made in an empty store.
func New(ctx context.Context, in *Installation, log *slog.Logger) (*Server, error) {
	c := in.Config
	build := Build()
	metrics := obs.New(obs.Build{Version: build.Version, Revision: build.Revision, Go: build.Go}, log)
	hearing := &hearing{Observer: metrics}
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, c.Keys(), time.Now, hearing)
	if err := ring.Start(ctx); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	hasher, err := password.New(c.Passwords(), metrics)
	if err != nil {
		return nil, err
	}
	rules := password.DefaultRules()
	rules.Words = c.PasswordWords()

	rotator := refresh.NewRotator(in.Engine.Families(), ring, c.Refresh, ring.Now, metrics)
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

	metrics.WatchPool(in.Engine.Pool)
	metrics.WatchHashing(hasher.Inside, hasher.Waiting)
	metrics.WatchKeys(ring.Status)
	metrics.WatchFeed(feed.Status)
	roll := keys.NewRoll(ring, in.Engine.Verifiers())
	metrics.WatchVerifiers(roll.Evidence, roll.Missed)
	server, err := httpd.New(httpd.Config{
		Issuer: c.Issuer, Audience: c.Audiences(), Client: config.FirstParty,
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
	return &Server{in: in, ring: ring, feed: feed, roll: roll, http: server, chores: obs.NewChores(metrics)}, nil
}

// hearing passes on to the rotator whether the store answers: the ring asks it
// every second.
type hearing struct {
	keys.Observer
	rotator atomic.Pointer[refresh.Rotator]
}

// RingRead implements keys.Observer.
func (h *hearing) RingRead(took, offset time.Duration, err error) {
	h.Observer.RingRead(took, offset, err)
	if r := h.rotator.Load(); r != nil && !errors.Is(err, keys.ErrMasterKey) { // which the store answered
		r.StoreHeard(err)
	}
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
	housekeeping.Go(func() { s.roll.Run(background) })
	ring := make(chan error, 1)
	go func() { ring <- s.ring.Run(background) }()

	err := s.http.Serve(ctx, public, operations)
	stop()
	housekeeping.Wait()
	return errors.Join(err, <-ring)
}

// How much one piece of housekeeping does at most, and how long what has ended is
// kept for explain. What walks a table of millions takes an hour for it: nobody
// waits for that.
const (
	sweepBatch = 100
	keepEnded  = 7 * 24 * time.Hour
)

// housework is the built-in cleanup; no cron is needed.
func (s *Server) housework() []jobs.Job {
	c, engine := s.in.Config, s.in.Engine
	leisurely := jobs.Leisurely(engine.SweepRest())
	// Where the sweep goes on. It begins anywhere: on nodes that are restarted more
	// often than a large table is walked, the same rows would always come last.
	place, turned := refresh.Anywhere, false
	sweep := func(table string, every time.Duration, pace jobs.Pace, rows func(ctx context.Context) (int, error)) jobs.Job {
		return jobs.Job{Name: table, Every: every, Do: func(ctx context.Context) (jobs.Pace, error) {
			n, err := rows(ctx)
			if err != nil {
				return jobs.Done, err
			}
			s.chores.Swept(table, n)
			if n < store.SweepPiece {
				return jobs.Done, nil
			}
			return pace, nil
		}}
	}
	return []jobs.Job{
		{Name: "families", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			next, deleted, err := engine.Families().Sweep(ctx, place, sweepBatch, c.Refresh(config.FirstParty), keepEnded)
			place = next
			if err != nil {
				return jobs.Done, err
			}
			s.chores.Swept("families", deleted)
			if next == refresh.Edge && turned {
				return jobs.Done, nil
			}
			turned = turned || next == refresh.Edge // what is before the place where it began comes next
			if deleted == 0 {
				return jobs.Looking, nil
			}
			return leisurely, nil
		}},
		{Name: "floor", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			n, err := engine.Sessions().EndBelowFloor(ctx, sweepBatch)
			if n < sweepBatch { // it has gone through the whole table
				return jobs.Done, err
			}
			return jobs.Soon, err
		}},
		sweep("revocations", time.Minute, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Revocations().Sweep(ctx, sweepBatch) }),
		{Name: "roots", Every: time.Minute, Do: func(ctx context.Context) (jobs.Pace, error) {
			_, err := s.in.Vault().FinishRoots(ctx, audit.BySystem)
			return jobs.Done, err
		}},
		sweep("budgets", 5*time.Minute, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Ledger().SweepBudgets(ctx, sweepBatch) }),
		sweep("networks", time.Hour, jobs.Soon, func(ctx context.Context) (int, error) { return engine.Logins().SweepNetworks(ctx, sweepBatch) }),
		sweep("verifiers", time.Hour, jobs.Soon, func(ctx context.Context) (int, error) {
			return engine.Verifiers().SweepVerifiers(ctx, keys.KeepVerifiers, keys.MostVerifiers, sweepBatch)
		}),
		sweep("audit", time.Hour, leisurely, func(ctx context.Context) (int, error) { return engine.SweepAudit(ctx, c.AuditRetention, sweepBatch) }),
	}
}
