package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
	"github.com/golang-jwt/jwt/v5"
)

// Observer hears what a ring does. Its methods must not block.
type Observer interface {
	// RingRead follows every read of the ring: how long it took, how far the
	// store's clock is ahead of this node's, and what went wrong if anything.
	RingRead(took, offset time.Duration, err error)
	// RingChanged follows every attempt to carry out steps of the plan.
	// ErrRingChanged is no trouble: another node was first.
	RingChanged(steps []Step, err error)
}

type nobody struct{}

func (nobody) RingRead(time.Duration, time.Duration, error) {}
func (nobody) RingChanged([]Step, error)                    {}

// Ring is what one node knows of the keys: an immutable snapshot of the stored
// ring, swapped whole. Its reading methods take no lock and are safe for
// concurrent use. A ring signs only with keys that were read back from the
// store, and only for FreshFor after a read began; it checks and publishes for
// as long as it lives.
type Ring struct {
	store    Store
	masters  MasterKeys
	policy   Policy
	clock    func() time.Time
	observer Observer
	smith    smith
	holder   string // names this node in leases
	cache    string // the Cache-Control header

	current atomic.Pointer[snapshot]
	failure atomic.Pointer[error] // of the last read; nil after a good one
	reading sync.Mutex            // one read at a time, so that no older one is swapped in last

	asking   sync.Mutex // guards what follows
	next     *flight    // the reread that has not begun yet
	lastAsk  time.Time  // when the last reread began
	hint     chan struct{}
	rootsAsk time.Time // only Run's goroutine: when LiveRoots was asked last, by this node's clock
	live     chan liveRoots
	scan     sync.WaitGroup // what will answer there
	restFrom time.Time      // only Run's goroutine: no new attempt at the plan before, by this node's clock
}

// snapshot is one read of the ring. Polls that find nothing new share content.
type snapshot struct {
	*content
	sight  sight
	offset time.Duration // the store's clock minus this node's
	off    time.Duration // the part of offset's size that the round trip cannot explain
	leaps  leaps
}

// NewRing returns a ring that has read nothing yet. observer may be nil.
func NewRing(store Store, masters MasterKeys, policy Policy, clock func() time.Time, observer Observer) *Ring {
	if observer == nil {
		observer = nobody{}
	}
	return &Ring{
		store: store, masters: masters, policy: policy, clock: clock, observer: observer,
		smith: smith{masters, policy.RSABits}, holder: id.NewRequest(), cache: policy.cacheControl(),
		hint: make(chan struct{}, 1), live: make(chan liveRoots, 1),
	}
}

var errNotRead = errors.New("the key ring was not read yet")

// fresh returns the snapshot if it may be signed with.
func (r *Ring) fresh() (*snapshot, error) {
	s := r.current.Load()
	if s == nil {
		return nil, r.trouble(errNotRead)
	}
	now := r.clock()
	// While a machine is suspended only its wall clock goes on.
	if age := max(now.Sub(s.sight.began), now.Round(0).Sub(s.sight.began.Round(0))); age > FreshFor {
		return nil, r.trouble(fmt.Errorf("the key ring was read %s ago, want at most %s", age.Round(time.Second), FreshFor))
	}
	return s, nil
}

// trouble adds why the last read failed, if it did.
func (r *Ring) trouble(err error) error {
	if last := r.failure.Load(); last != nil {
		err = fmt.Errorf("%w: %w", err, *last)
	}
	return fault.Trouble(err)
}

// Signer returns the active key of an algorithm; "" is the default one. While
// an algorithm has no active key (configured lately, its key waits its lead)
// the first configured one that has answers, so callers take the algorithm
// from method. An error is trouble (503): this node may not sign now.
func (r *Ring) Signer(alg Algorithm) (kid string, method jwt.SigningMethod, key crypto.Signer, err error) {
	s, err := r.fresh()
	if err != nil {
		return "", nil, nil, err
	}
	if err := r.misdated(s); err != nil {
		return "", nil, nil, r.trouble(err)
	}
	h := s.signer(alg, r.policy.Algorithms, r.clock().Add(s.offset))
	if h == nil {
		return "", nil, nil, r.trouble(errors.New("no signing key is active"))
	}
	if h.Key.SignsFor < r.policy.signsFor() {
		// The row promises verifiers the key for shorter than this node's tokens
		// live. The plan extends it within one poll.
		return "", nil, nil, r.trouble(fmt.Errorf("key %s stands for tokens of %s, this node's live %s", h.Key.KID, h.Key.SignsFor, r.policy.signsFor()))
	}
	return h.Key.KID, h.method, h.signer, nil
}

// Herald returns the key to sign what verifiers must be able to check at once,
// without asking for keys first: above all that a key is revoked. It is the
// active default key once caches hold it, and until then the key that has stood
// in the key set for longest, whatever its algorithm and though it may not sign
// tokens. An error is trouble (503).
func (r *Ring) Herald() (kid string, method jwt.SigningMethod, key crypto.Signer, err error) {
	kid, method, key, err = r.Signer("")
	if err != nil {
		return "", nil, nil, err
	}
	s := r.current.Load()
	now := r.clock().Add(s.offset)
	best := s.byKID[kid]
	if best == nil || now.Sub(best.Key.PublishedAt) >= 2*r.policy.MaxAge {
		return kid, method, key, nil
	}
	for _, h := range s.signing {
		if h.Stands(now) && h.Key.PublishedAt.Before(best.Key.PublishedAt) {
			best = h
		}
	}
	return best.Key.KID, best.method, best.signer, nil
}

// ActiveRoot returns the refresh root key that new tokens are made under. An
// error is trouble (503).
func (r *Ring) ActiveRoot() (number uint8, key secret.Bytes, err error) {
	s, err := r.fresh()
	if err != nil {
		return 0, secret.Bytes{}, err
	}
	now := r.clock().Add(s.offset)
	for _, h := range s.roots {
		if h.State(now) == Active {
			return uint8(h.Key.Number), h.root, nil
		}
	}
	return 0, secret.Bytes{}, r.trouble(errors.New("no refresh root key is active"))
}

// Root returns the refresh root key of that number, unless it is unknown here,
// destroyed or revoked.
func (r *Ring) Root(number uint8) (key secret.Bytes, ok bool) {
	s := r.current.Load()
	if s == nil {
		return secret.Bytes{}, false
	}
	for _, h := range s.roots {
		if h.Key.Number == int(number) {
			return h.root, true
		}
	}
	return secret.Bytes{}, false
}

// Revision returns how many changes the ring had seen when this node read it;
// 0 before the first read.
func (r *Ring) Revision() int64 {
	if s := r.current.Load(); s != nil {
		return s.stored.Revision
	}
	return 0
}

// Public returns algorithm and public key of a kid in the key set.
func (r *Ring) Public(kid string) (alg Algorithm, key crypto.PublicKey, ok bool) {
	s := r.current.Load()
	if s == nil {
		return "", nil, false
	}
	h := s.byKID[kid]
	if h == nil || !h.Stands(r.clock().Add(s.offset)) {
		return "", nil, false
	}
	return h.Key.Algorithm, h.signer.Public(), true
}

// Ready returns nil while this node may sign, and otherwise says why not.
func (r *Ring) Ready() error {
	s, err := r.fresh()
	if err != nil {
		return err
	}
	if s.off > clockTolerance {
		return fmt.Errorf("this node's clock is off by %s against the store's, want at most %s: check its time service",
			s.offset.Round(time.Millisecond), clockTolerance)
	}
	if _, _, _, err = r.Signer(""); err != nil {
		return err
	}
	_, _, err = r.ActiveRoot()
	return err
}

// Status returns the timetable as this node sees it.
func (r *Ring) Status() (Status, error) {
	s := r.current.Load()
	if s == nil {
		return Status{}, r.trouble(errNotRead)
	}
	return statusOf(s.stored, r.Now(), r.policy), nil
}

// flight is one reread that several callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// Reread reads the ring from the store. It returns after a read that began
// after the call, so what is unknown then is unknown to the store. Callers
// share reads, and these begin once a second at most: forged tokens cannot
// turn into load. An error is trouble.
func (r *Ring) Reread(ctx context.Context) error {
	r.asking.Lock()
	f, first := r.next, r.next == nil
	if first {
		f = &flight{done: make(chan struct{})}
		r.next = f
	}
	pause := min(time.Second, time.Second-r.clock().Sub(r.lastAsk))
	r.asking.Unlock()
	if !first {
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return fault.Trouble(ctx.Err())
		}
	}
	// The others wait for this caller: its own cancellation must not fail them.
	// It waits a second and one read at most.
	if pause > 0 {
		<-time.After(pause)
	}
	r.asking.Lock()
	r.next, r.lastAsk = nil, r.clock() // who comes from here on needs another read
	r.asking.Unlock()
	defer close(f.done)
	if _, err := r.read(context.WithoutCancel(ctx)); err != nil {
		f.err = fault.Trouble(err)
	}
	return f.err
}
