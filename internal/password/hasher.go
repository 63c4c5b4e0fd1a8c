package password

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/secret"
)

// retryAfter is what the refused are told: a full queue of default hashes is
// worked off in less.
const retryAfter = 2 * time.Second

// Observer is told what hashing does. Its methods are called from many
// goroutines and must not block.
type Observer interface {
	// Hashed reports one computation: its kind, one of Kinds, and its time
	// without waiting.
	Hashed(kind string, took time.Duration)
	// Shed reports a request that found the queue full.
	Shed()
}

type nobody struct{}

func (nobody) Hashed(string, time.Duration) {}
func (nobody) Shed()                        {}

// Hash is a freshly made password hash. The whole prints as its scheme and
// [redacted].
type Hash struct {
	Encoded string // in PHC string form, as it is stored; never to be logged
	Scheme  Scheme // kind and cost
}

// String implements fmt.Stringer.
func (h Hash) String() string { return h.Scheme.String() + " " + secret.Redacted }

// Format implements fmt.Formatter: no verb prints the hash.
func (h Hash) Format(f fmt.State, _ rune) { io.WriteString(f, h.String()) }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Verdict is the outcome of a verification.
type Verdict struct {
	// Match says that the password is the one.
	Match bool
	// Stale says that it matched a hash that today's policy would not make:
	// the caller should hash the password again and replace it.
	Stale bool
}

// Hasher hashes and verifies. It is safe for concurrent use and bounds its
// own use of cores and memory: whoever finds the queue full gets a
// *fault.Fault with code Unavailable and RetryAfter at once. A caller whose
// ctx ends while it waits leaves the queue and gets the same code, with ctx's
// error in the chain. Work once begun is finished, also when nobody waits for
// the answer any more: the place is held as long as the core is.
type Hasher struct {
	policy   Policy
	today    Scheme
	gate     *limit.Gate
	memory   *budget
	observer Observer
}

// New returns a Hasher for this machine, or p.Validate's error. observer may
// be nil.
func New(p Policy, observer Observer) (*Hasher, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return newHasher(p, limit.Memory(os.DirFS("/")), observer), nil
}

func newHasher(p Policy, memory int64, observer Observer) *Hasher {
	p = p.sized(runtime.GOMAXPROCS(0), memory)
	if observer == nil {
		observer = nobody{}
	}
	return &Hasher{
		policy:   p,
		today:    p.scheme(),
		gate:     limit.NewGate(p.Slots, p.Queue),
		memory:   newBudget(max(budgetFor(memory), uint64(p.Memory))),
		observer: observer,
	}
}

// Policy returns the policy in force, with everything filled in.
func (h *Hasher) Policy() Policy { return h.policy }

// Today returns the scheme of new hashes.
func (h *Hasher) Today() Scheme { return h.today }

// Inside returns how many requests are being computed now.
func (h *Hasher) Inside() int { return h.gate.Inside() }

// Waiting returns how many requests wait for their turn.
func (h *Hasher) Waiting() int { return h.gate.Waiting() }

// Hash makes a new hash under today's policy. It does not ask whether the
// password is a good one; see Rules.
func (h *Hasher) Hash(ctx context.Context, password secret.Text) (Hash, error) {
	leave, err := h.enter(ctx, h.today)
	if err != nil {
		return Hash{}, err
	}
	defer leave()
	r := record{scheme: h.today, salt: secret.Random(ourSalt).Reveal(), sum: make([]byte, ourSum)}
	began := time.Now()
	if r.sum, err = r.derive(password.Reveal()); err != nil {
		return Hash{}, fmt.Errorf("hash a password: %w", err)
	}
	h.observer.Hashed(h.today.kind, time.Since(began))
	return Hash{Encoded: r.encode(), Scheme: h.today}, nil
}

// Verify checks password against one encoded hash, of whose existence the
// caller may know: an e-mail of one's own, a change of password. Its time
// tells the hash's scheme; a login uses VerifyEqual. An error means that
// nothing was verified: no place, or a hash that Parse refuses.
func (h *Hasher) Verify(ctx context.Context, encoded string, password secret.Text) (Verdict, error) {
	r, err := parse(encoded)
	if err != nil {
		return Verdict{}, err
	}
	leave, err := h.enter(ctx, r.scheme)
	if err != nil {
		return Verdict{}, err
	}
	defer leave()
	match, err := h.compute(r, password)
	return h.verdict(r, match), err
}

// VerifyEqual checks password against the hash of a user who may not exist
// (encoded is then ""), so that the time of a failure does not tell which.
// present are the distinct schemes in the store. A failure has computed each
// of them and today's scheme exactly once: the user's own for real, the
// others for show; a success has computed the user's own alone. All of it
// takes one place at the gate.
//
// Of more than MaxPresent schemes the costliest are taken. A user whose
// scheme is not among them, or missing from present, fails later than others
// by the time of that scheme.
//
// A hash that Parse refuses is an error, after the work of an unknown user.
func (h *Hasher) VerifyEqual(ctx context.Context, encoded string, password secret.Text, present []Scheme) (Verdict, error) {
	work := equalWork(h.today, present)
	var own record
	var refused error
	if encoded != "" {
		own, refused = parse(encoded)
	}
	leave, err := h.enter(ctx, append(work, own.scheme)...)
	if err != nil {
		return Verdict{}, err
	}
	defer leave()
	if !own.scheme.IsZero() {
		match, err := h.compute(own, password)
		if match || err != nil {
			return h.verdict(own, match), err
		}
	}
	for _, s := range work {
		if s == own.scheme {
			continue
		}
		if _, err := h.compute(dummy(s), password); err != nil {
			return Verdict{}, err
		}
	}
	return Verdict{}, refused
}

// enter waits for a place at the gate and for the memory of the dearest of
// the schemes, which are computed one after the other.
func (h *Hasher) enter(ctx context.Context, schemes ...Scheme) (leave func(), err error) {
	if err := ctx.Err(); err != nil { // the gate might let in who has left already
		return nil, waitEnded(err)
	}
	leaveGate, err := h.gate.Enter(ctx)
	if errors.Is(err, limit.ErrFull) {
		h.observer.Shed()
		return nil, fault.Trouble(err).WithReason("hash_queue_full").After(retryAfter)
	}
	if err != nil {
		return nil, waitEnded(err)
	}
	var most uint64
	for _, s := range schemes {
		most = max(most, s.memory())
	}
	giveMemory := h.memory.take(most)
	return func() { giveMemory(); leaveGate() }, nil
}

func waitEnded(err error) error {
	return fault.Trouble(fmt.Errorf("wait to hash a password: %w", err)).WithReason("hash_wait_ended")
}

func (h *Hasher) compute(r record, password secret.Text) (bool, error) {
	began := time.Now() // for the observer; nothing is decided by it
	match, err := r.matches(password.Reveal())
	if err != nil {
		return false, fmt.Errorf("verify a password (%s): %w", r.scheme, err)
	}
	h.observer.Hashed(r.scheme.kind, time.Since(began))
	return match, nil
}

func (h *Hasher) verdict(r record, match bool) Verdict {
	current := r.scheme == h.today && len(r.salt) >= ourSalt && len(r.sum) == ourSum
	return Verdict{Match: match, Stale: match && !current}
}
