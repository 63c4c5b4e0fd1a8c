package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// LostPolicy says what a verifier does while its feed is lost.
type LostPolicy int

const (
	// CarryOn believes tokens as if there were no feed: until they expire.
	CarryOn LostPolicy = iota
	// Refuse answers ErrFeedLost to tokens that are good otherwise: what must
	// not happen on the word of a revoked token does not happen, and nothing
	// works while the auth server is unreachable.
	Refuse
)

// FeedConfig says which feed is followed, and what happens when that fails.
type FeedConfig struct {
	// Issuer is the expected `iss` of the statements, the same as in Config.
	// Required.
	Issuer string
	// Keys has the issuer's keys, the same as in Config. Required. A Remote
	// fetches at once when the feed names a key.
	Keys KeySet
	// URL of the feed; default Issuer + /v1/revocations.
	URL string
	// InsecureAllowHTTP permits a plain http URL off loopback. Who can alter
	// the answers can hide revocations, but not invent them.
	InsecureAllowHTTP bool
	// Client makes the requests; it is copied, and the copy has no Timeout:
	// streams have no end. By default one of its own.
	Client *http.Client
	// Service names this service to the auth server, which lists who follows:
	// at most 64 visible ASCII characters without parentheses. Optional.
	Service string

	// WhenLost is what a lost feed means for tokens: CarryOn or Refuse.
	WhenLost LostPolicy
	// LostAfter is the time without a sign that nothing newer was said after
	// which the feed is lost: default 30 s, at least 15 s. The server gives a
	// sign every 10 s.
	LostAfter time.Duration
	// Grace is for how long after the start tokens pass though nothing has
	// arrived yet, with Refuse: by default not at all. Without it the first
	// token waits for the first attempt.
	Grace time.Duration

	// PollEvery is the pause between two questions where streams do not work,
	// as behind a proxy that buffers: default 1 s, at least 100 ms.
	PollEvery time.Duration
	// SnapshotEvery is how often everything in force is read again: default
	// 5 min, at least 10 s.
	SnapshotEvery time.Duration
	// Timeout bounds one question with its answer, and the time to the first
	// event of a stream; default 5 s.
	Timeout time.Duration
	// MaxEntries bounds what is held: default 100,000, which is also the most.
	// Of a server that has more, the ends of sessions that are over soonest are left
	// out, and it counts as lost; bans and revoked keys are held.
	MaxEntries int

	// Algorithms and Extra are those of Config.
	Algorithms []string
	Extra      []Algorithm

	// OnFeed hears of every change, failure, loss and recovery, for logs and
	// metrics; not of signs that nothing has changed. It must be quick and must
	// not call Close. Calls do not overlap.
	OnFeed func(FeedState)
}

// FeedState is how it stands with a feed.
type FeedState struct {
	// Seq is the newest number held; 0 before the first snapshot and where
	// nothing was ever revoked.
	Seq int64
	// Entries is how many revocations are held.
	Entries int
	// Loaded: a snapshot has arrived, of whatever age.
	Loaded bool
	// Streaming: events come as they happen; otherwise the server is asked.
	Streaming bool
	// Age is the time since the server last confirmed that there is nothing
	// newer, since the start if it never has: what to alert on.
	Age time.Duration
	// LostSince is zero while the feed is followed. Otherwise it is when the
	// server last confirmed what is held, or the start.
	LostSince time.Time
	// Err is that of the last attempt, nil after a success.
	Err error
}

// Lost says whether the feed is lost.
func (s FeedState) Lost() bool { return !s.LostSince.IsZero() }

// Feed follows the revocation feed of an issuer. One goroutine takes what the
// server says; readers see immutable snapshots and wait for nothing, but for
// the first attempt with Refuse.
//
// Only statements count that are signed by a key of the issuer that is not
// revoked. Any other changes nothing and is reported.
type Feed struct {
	c      FeedConfig
	client *http.Client
	agent  string
	trust  trust
	begun  time.Time

	held      atomic.Pointer[revocations] // nil before the first snapshot
	confirmed atomic.Int64                // time after begun, in nanoseconds
	ever      bool                        // it was confirmed: the owner's
	overfull  atomic.Bool                 // the server lists more than fits
	streaming atomic.Bool
	trouble   atomic.Pointer[error] // of the last attempt
	tried     chan struct{}         // closed after the first attempt
	loaded    chan struct{}         // closed after the first snapshot

	hook     sync.Mutex  // held while OnFeed is told
	toldLost bool        // under hook
	watch    *time.Timer // tells OnFeed of a loss

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// FollowRevocations returns the feed of c.Issuer and begins to follow it, for
// Config.Revocations. A server that is down or answers nonsense is no error:
// it is asked again until it recovers, and WhenLost says what happens
// meanwhile. Only an unusable configuration is an error. Close ends the
// following.
func FollowRevocations(c FeedConfig) (*Feed, error) {
	client, err := c.prepare()
	if err != nil {
		return nil, fmt.Errorf("verify: revocation feed %s: %w", brief(c.URL), err)
	}
	methods, err := allow(c.Algorithms, c.Extra)
	if err != nil {
		return nil, fmt.Errorf("verify: revocation feed %s: %w", brief(c.URL), err)
	}
	f := &Feed{
		c: c, client: client, agent: userAgent(c.Service), begun: time.Now(),
		tried: make(chan struct{}), loaded: make(chan struct{}),
	}
	f.trust = trust{keys: c.Keys, methods: methods, feed: f}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.watch = time.AfterFunc(c.LostAfter+1, f.tellLoss)
	f.running.Go(f.run)
	return f, nil
}

func (c *FeedConfig) prepare() (*http.Client, error) {
	if c.Issuer == "" {
		return nil, errors.New("Issuer is missing: the exact `iss` of the tokens, such as https://auth.example.com")
	}
	if c.Keys == nil {
		return nil, errors.New("Keys is missing: RemoteKeys or StaticKeys")
	}
	if c.URL == "" {
		c.URL = c.Issuer + "/v1/revocations"
	}
	setDefault(&c.LostAfter, 30*time.Second)
	setDefault(&c.PollEvery, time.Second)
	setDefault(&c.SnapshotEvery, 5*time.Minute)
	setDefault(&c.Timeout, defaultTimeout)
	setDefault(&c.MaxEntries, maxEntries)
	switch {
	case c.WhenLost != CarryOn && c.WhenLost != Refuse:
		return nil, fmt.Errorf("WhenLost is %d, expected CarryOn or Refuse", c.WhenLost)
	case c.LostAfter < 15*time.Second:
		return nil, fmt.Errorf("LostAfter is %v, expected at least 15s", c.LostAfter)
	case c.Grace < 0:
		return nil, fmt.Errorf("Grace is %v, expected at least nothing", c.Grace)
	case c.PollEvery < 100*time.Millisecond:
		return nil, fmt.Errorf("PollEvery is %v, expected at least 100ms", c.PollEvery)
	case c.SnapshotEvery < 10*time.Second:
		return nil, fmt.Errorf("SnapshotEvery is %v, expected at least 10s", c.SnapshotEvery)
	case c.Timeout < 0:
		return nil, fmt.Errorf("Timeout is %v, expected more than nothing", c.Timeout)
	case c.MaxEntries < 0 || c.MaxEntries > maxEntries:
		return nil, fmt.Errorf("MaxEntries is %d, expected 1 to %d", c.MaxEntries, maxEntries)
	}
	if err := checkService(c.Service); err != nil {
		return nil, err
	}
	client, err := guarded(c.Client, c.URL, c.InsecureAllowHTTP)
	if err != nil {
		return nil, err
	}
	client.Timeout = 0
	return client, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Close ends the following and waits until it has ended. What is held stays in
// force, and after LostAfter the feed counts as lost. Close always returns nil.
func (f *Feed) Close() error {
	f.closing.Do(func() {
		f.cancel()
		f.running.Wait()
		f.watch.Stop()
		f.client.CloseIdleConnections()
	})
	return nil
}

// Ready waits until a first snapshot has arrived: for services that do not
// want to be ready before they know who is banned.
func (f *Feed) Ready(ctx context.Context) error {
	select {
	case <-f.loaded:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w while waiting for the first snapshot", ErrFeedLost, context.Cause(ctx))
	case <-f.ctx.Done():
		return fmt.Errorf("%w: closed", ErrFeedLost)
	}
}

// State returns how it stands: for metrics and status pages.
func (f *Feed) State() FeedState {
	held := f.held.Load()
	s := FeedState{Loaded: held != nil, Streaming: f.streaming.Load(), Age: f.age()}
	if held != nil {
		s.Seq, s.Entries = held.seq, len(held.entries)
	}
	if err := f.trouble.Load(); err != nil {
		s.Err = *err
	}
	if f.lost() {
		s.LostSince = time.Now().Add(-s.Age)
	}
	return s
}

func (f *Feed) age() time.Duration {
	return time.Since(f.begun) - time.Duration(f.confirmed.Load())
}

func (f *Feed) lost() bool {
	return f.held.Load() == nil || f.overfull.Load() || f.age() > f.c.LostAfter
}

// current returns what is held: nil when that is nothing, or f is.
func (f *Feed) current() *revocations {
	if f == nil {
		return nil
	}
	return f.held.Load()
}

// permit returns ErrFeedLost if that is what the policy says of the moment. It
// may wait for the first attempt, and says so.
func (f *Feed) permit(ctx context.Context) (waited bool, err error) {
	if f == nil || f.c.WhenLost == CarryOn || !f.lost() {
		return false, nil
	}
	if f.held.Load() == nil {
		if time.Since(f.begun) < f.c.Grace {
			return false, nil
		}
		waited = true
		select {
		case <-f.tried:
		case <-ctx.Done():
			return true, fmt.Errorf("%w: %w while waiting for the first snapshot", ErrFeedLost, context.Cause(ctx))
		case <-f.ctx.Done():
		}
	}
	if s := f.State(); s.Lost() {
		return waited, fmt.Errorf("%w: last confirmed %v ago: %w", ErrFeedLost, s.Age.Round(time.Millisecond), cause(s.Err))
	}
	return waited, nil
}

// confirm notes that what is held was current so long ago. Only the owner
// calls it.
func (f *Feed) confirm(age time.Duration) {
	at := int64(time.Since(f.begun) - age)
	if !f.ever || at > f.confirmed.Load() {
		f.ever = true
		f.confirmed.Store(at)
		f.watch.Reset(f.c.LostAfter + 1 - age)
	}
	partial := f.held.Load().isPartial()
	f.overfull.Store(partial)
	var err error
	switch {
	case age > 0:
		err = fmt.Errorf("the server could not read its store for %v", age)
	case partial:
		err = fmt.Errorf("%w: the server left out ends of sessions, or they were to hold %d", errTooMany, f.c.MaxEntries)
	default:
		f.trouble.Store(nil)
		return
	}
	f.trouble.Store(&err)
}

// tell tells OnFeed how it stands.
func (f *Feed) tell() {
	f.hook.Lock()
	defer f.hook.Unlock()
	s := f.State()
	f.toldLost = s.Lost()
	if f.c.OnFeed != nil && f.ctx.Err() == nil {
		f.c.OnFeed(s)
	}
}

// tellLoss is called when the watch has run down.
func (f *Feed) tellLoss() {
	if f.lost() {
		f.tell()
	}
}

// recovered: OnFeed was told of a loss that is over.
func (f *Feed) recovered() bool {
	f.hook.Lock()
	defer f.hook.Unlock()
	return f.toldLost && !f.lost()
}
