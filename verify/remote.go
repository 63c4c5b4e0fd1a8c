package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchFloor is the shortest time between two fetches while there are
	// keys: unknown kids are free for anybody to make up, because they are read
	// before the signature can be checked. Only a signed event of the feed that
	// names a key causes a fetch sooner.
	fetchFloor = 30 * time.Second
	// missedFor is how long a kid that was asked for in vain asks for nothing.
	missedFor = 2 * time.Minute
	// retryPause is the time between two attempts while there are no keys.
	// The clock alone drives them, so they need no floor, and a server that
	// comes up after its clients is noticed within RemoteConfig.Timeout.
	retryPause = time.Second

	defaultMaxAge   = 10 * time.Minute
	defaultMaxStale = 24 * time.Hour
	defaultTimeout  = 5 * time.Second
)

// RemoteConfig says where a key set is fetched from, and how.
type RemoteConfig struct {
	// URL of the JWKS: the issuer's /.well-known/jwks.json. Required.
	URL string
	// InsecureAllowHTTP permits a plain http URL off loopback, as inside a
	// cluster whose network you trust: who can alter the answer can sign
	// tokens.
	InsecureAllowHTTP bool
	// Client makes the requests; it is copied. By default one of its own.
	Client *http.Client
	// MaxAge is for how long a fetched set is used without asking again:
	// default 10 min, at least 30 s. The answer's Cache-Control can only
	// shorten it, to no less than 30 s.
	MaxAge time.Duration
	// MaxStale is for how long a set is used that the server no longer
	// confirms, because it is down or answers nonsense: default 24 h, at least
	// MaxAge. Then the keys are dropped.
	MaxStale time.Duration
	// Timeout bounds one fetch, body included; default 5 s.
	Timeout time.Duration
	// Service names this service to the auth server, which lists who has
	// fetched its newest keys: at most 64 visible ASCII characters without
	// parentheses. Optional.
	Service string
	// Extra has the algorithms beyond those of this package: the same as in
	// Config.
	Extra []Algorithm
	// OnFetch hears of every attempt, for logs and metrics. It is called by
	// the goroutine that fetches: it must be quick and must not call Close.
	OnFetch func(Fetch)
}

// Fetch is one attempt to fetch a key set.
type Fetch struct {
	// Err is nil if the set in use was replaced or confirmed.
	Err error
	// NotModified: confirmed, not replaced.
	NotModified bool
	// Keys is how many keys are in use after the attempt.
	Keys int
	// Age is the time since the keys in use were last confirmed: 0 after a
	// success, and what to alert on when it grows towards MaxStale.
	Age time.Duration
	// Next is the time to the next attempt, unless an unknown kid brings it
	// forward.
	Next time.Duration
}

// Remote is a key set that fetches itself. One goroutine fetches, one fetch at
// a time; readers see immutable snapshots and never wait for it unless they
// lack the very key they need.
type Remote struct {
	c       RemoteConfig
	client  *http.Client
	agent   string
	state   atomic.Pointer[state]
	asked   chan string   // an unknown kid, to the owner
	named   chan struct{} // the feed names a key
	ctx     context.Context
	cancel  context.CancelFunc
	stopped chan struct{}
	closing sync.Once
}

// state is one snapshot. Only its `changed` is ever touched again: closed when
// the next snapshot is in place.
type state struct {
	keys      keyMap // nil when there are none to use
	etag      string
	confirmed time.Time            // when the server last said that keys is current
	started   time.Time            // of the last attempt
	fetching  bool                 // an attempt is under way
	err       error                // of the last attempt
	missed    map[string]time.Time // asked for in vain, to be forgotten when
	changed   chan struct{}
}

// RemoteKeys returns the key set at c.URL and begins to fetch it. A server
// that is down or answers nonsense is no error: it is asked again until it
// recovers, and Key returns ErrKeysUnavailable so long. Only an unusable
// configuration is an error. Close ends the fetching.
func RemoteKeys(c RemoteConfig) (*Remote, error) {
	client, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("verify: key set %s: %w", brief(c.URL), err)
	}
	r := &Remote{
		c: c, client: client, agent: userAgent(c.Service),
		asked: make(chan string), named: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.state.Store(&state{fetching: true, started: time.Now(), changed: make(chan struct{})})
	go r.run()
	return r, nil
}

// Close ends the fetching and waits until it has ended. The keys at hand stay
// in use until they are too old. Close always returns nil.
func (r *Remote) Close() error {
	r.closing.Do(func() {
		r.cancel()
		<-r.stopped
		r.client.CloseIdleConnections()
	})
	return nil
}

// Key implements KeySet. It waits, for one fetch at most, when there was no
// answer yet, or when kid is unknown and the last fetch is long enough ago.
func (r *Remote) Key(ctx context.Context, kid string) (Key, error) {
	waited := false
	for {
		s := r.state.Load()
		now := time.Now()
		usable := s.usable(now, r.c.MaxStale)
		if usable {
			if k, ok := s.keys[kid]; ok {
				return k, nil
			}
		}
		switch {
		case waited:
			return Key{}, s.refuse(kid, usable)
		case s.fetching && (usable || s.err == nil):
			// The first fetch, or one that may bring the key. While attempts
			// keep failing and there are no keys, nobody is made to wait.
			waited = true
		case usable && s.mayAsk(kid, now):
			select {
			case r.asked <- kid:
			case <-s.changed: // somebody was quicker
			case <-ctx.Done():
			case <-r.ctx.Done():
			}
		default:
			return Key{}, s.refuse(kid, usable)
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return Key{}, fmt.Errorf("%w: %w while waiting for the key set", ErrKeysUnavailable, context.Cause(ctx))
		case <-r.ctx.Done():
			return Key{}, s.refuse(kid, usable)
		}
	}
}

func (s *state) usable(now time.Time, maxStale time.Duration) bool {
	return s.keys != nil && now.Sub(s.confirmed) <= maxStale
}

// mayAsk says whether an unknown kid is reason for a fetch.
func (s *state) mayAsk(kid string, now time.Time) bool {
	return !s.fetching && now.Sub(s.started) >= fetchFloor && !now.Before(s.missed[kid])
}

func (s *state) refuse(kid string, usable bool) error {
	switch {
	case usable:
		return fmt.Errorf("%w: %s is not among the %d of the set", ErrUnknownKey, brief(kid), len(s.keys))
	case s.keys != nil:
		return fmt.Errorf("%w: the last confirmation is of %s: %w", ErrKeysUnavailable, stamp(s.confirmed), cause(s.err))
	default:
		return fmt.Errorf("%w: no key set yet: %w", ErrKeysUnavailable, cause(s.err))
	}
}

func cause(err error) error {
	if err == nil {
		return errors.New("closed")
	}
	return err
}

// run is the owner: the only one that fetches and the only writer of state.
func (r *Remote) run() {
	defer close(r.stopped)
	for kid, urgent := "", false; ; {
		next := r.attempt(kid, urgent)
		timer := time.NewTimer(next)
		select {
		case kid = <-r.asked:
			urgent = true
			timer.Stop()
		case <-r.named:
			kid, urgent = "", true
			timer.Stop()
		case <-timer.C:
			kid, urgent = "", false
		case <-r.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// refetch asks for one fetch outside the floor and does not wait for it. Only
// the feed may, once for each event that names a key: events are signed, so
// nobody can make them up.
func (r *Remote) refetch() {
	select {
	case r.named <- struct{}{}:
	default: // one is to begin, and will see whatever this one would
	}
}

// attempt fetches once, for the sake of kid if that is not empty, and returns
// the time to the next attempt.
func (r *Remote) attempt(kid string, urgent bool) time.Duration {
	begun := *r.state.Load()
	if !begun.fetching { // the first attempt is under way from the start, for who is waiting already
		begun.fetching, begun.started = true, time.Now()
		r.publish(begun)
	}

	usable := begun.usable(begun.started, r.c.MaxStale)
	timeout := r.c.Timeout
	if !usable && timeout > 2*retryPause {
		timeout -= retryPause // so that attempts begin once in a Timeout, even into a black hole
	}
	got, err := r.fetch(timeout, begun.etag, urgent)

	ended, now := begun, time.Now()
	ended.fetching, ended.err = false, err
	next := fetchFloor
	switch {
	case err == nil:
		ended.confirmed, next = now, got.fresh
		if !got.notModified {
			ended.keys, ended.etag = got.keys.like(begun.keys), got.etag
		}
		if _, found := ended.keys[kid]; kid != "" && !found {
			ended.miss(kid, now)
		}
	case !ended.usable(now, r.c.MaxStale):
		next = retryPause
	}
	r.publish(ended)
	if r.c.OnFetch != nil && r.ctx.Err() == nil {
		report := Fetch{Err: err, NotModified: got.notModified, Next: next}
		if ended.usable(now, r.c.MaxStale) {
			report.Keys, report.Age = len(ended.keys), now.Sub(ended.confirmed)
		}
		r.c.OnFetch(report)
	}
	return next
}

func (r *Remote) publish(s state) {
	s.changed = make(chan struct{})
	old := r.state.Swap(&s)
	close(old.changed)
}

// miss remembers that kid was not there. One kid at most is added with each
// fetch and the floor keeps those apart, so this never holds more than
// missedFor / fetchFloor of them, whatever is made up.
func (s *state) miss(kid string, now time.Time) {
	missed := maps.Clone(s.missed)
	if missed == nil {
		missed = map[string]time.Time{}
	}
	maps.DeleteFunc(missed, func(_ string, until time.Time) bool { return !now.Before(until) })
	missed[kid] = now.Add(missedFor)
	s.missed = missed
}

// KeyIDs returns the names of the keys at hand, sorted: for status pages.
func (r *Remote) KeyIDs() []string {
	s := r.state.Load()
	if !s.usable(time.Now(), r.c.MaxStale) {
		return nil
	}
	return slices.Sorted(maps.Keys(s.keys))
}
