package refresh

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/secret"
)

// Observer is told what the rotator does, for metrics and logs.
type Observer interface {
	// Redeemed is called once for every token presented.
	Redeemed(v Verdict, r Reason)
	// Spared is called when a refusal that would have ended a session was not carried
	// out, with what made the server doubt it.
	Spared(doubt string)
	// BatchDone is called after every batch of n members.
	BatchDone(n int, took time.Duration, err error)
}

// Clock is the store's clock as this node knows it.
type Clock interface {
	Now() time.Time
	// Leap is how far it has leapt ahead of the time that can have passed, within the
	// last hour and without coming back; 0 of a clock that runs.
	Leap() time.Duration
}

// Presentation is a refresh token as it came in, with what came along. The
// door has authenticated the client, if it can be.
type Presentation struct {
	Token          secret.Text
	Client         string
	Transport      Transport
	Proof          Proof
	IdempotencyKey string // the header, raw
	InstallID      string // the Authserver-Install-Id header, raw
	UserAgent      string
	IP             string
	RequestID      string
}

// Redemption is the answer to a presentation.
type Redemption struct {
	Outcome
	// Family names the family of the token, also where it is refused; zero
	// for a forged one.
	Family id.Family
	// Token is the token to hand out when the verdict answers.
	Token secret.Text
	// IdleEnd is the family's idle end after the effect.
	IdleEnd time.Time
}

// Rotator redeems refresh tokens. It is safe for concurrent use.
type Rotator struct {
	store    Store
	roots    Roots
	policy   func(client string) Policy
	clock    func() time.Time
	leap     func() time.Duration
	observer Observer
	queue    queue

	outages watch
	heard   atomic.Int64 // when the store was asked last, see StoreHeard
	pulse   pulse
	pace    *limit.Pace[id.Family]
	spares  *limit.Pace[id.Family]

	alone    *limit.Gate // judged one by one in ordinary times
	suspects *limit.Gate // members of a batch that the database refused
	shunned  shunned     // families whose rows were found locked
}

// One family may be refreshed this often on one node: far more than a hundred
// tabs that wake together, and far less than a loop gone wild.
const (
	familyRate  = 5000 // a second
	familyBurst = 10000
)

// The bounds of what is judged alone, and how long its row lock is waited for.
const (
	aloneAtOnce    = 16
	suspectsAtOnce = 4
	lockPatience   = 2 * time.Second
)

// NewRotator returns a rotator over store. policy gives a client's policy;
// its Outages are filled in here. clock is used for outages, and to doubt a verdict,
// never for one.
func NewRotator(store Store, roots Roots, policy func(client string) Policy, clock Clock, observer Observer) *Rotator {
	r := &Rotator{
		store: store, roots: roots, policy: policy, clock: clock.Now, leap: clock.Leap, observer: observer,
		alone:    limit.NewGate(aloneAtOnce, queueBound),
		suspects: limit.NewGate(suspectsAtOnce, queueBound),
		pace:     limit.NewPace[id.Family](familyRate, familyBurst),
		spares:   limit.NewPace[id.Family](spareRate, spareBurst),
	}
	r.queue = queue{store: store, limits: store.BatchLimits(), observer: observer, clock: r.wall, took: r.outages.took, air: map[id.Family]int{}, behind: map[id.Family]int{}}
	return r
}

// wall is the clock without the monotonic one, which stands still while a machine
// is suspended.
func (r *Rotator) wall() time.Time { return r.clock().Round(0) }

// Redeem judges a presented token and carries the outcome out. Refusals are
// outcomes; an error is a *fault.Fault of code temporarily_unavailable or, for
// a family that is refreshed in a wild loop, too_many_requests; the client may
// try again with the same token.
//
// Once a rotation has been sent to the store it is waited for even if ctx
// ends, because nobody could say otherwise what became of it.
func (r *Rotator) Redeem(ctx context.Context, p Presentation) (Redemption, error) {
	from := sender{ctx, r.wall()}
	token, call, err := r.admit(ctx, p)
	var out Outcome
	if err == nil {
		out, err = r.decide(from, call)
	}
	if errors.Is(err, ErrStaleKeys) { // nothing was written
		if err = r.roots.Reread(ctx); err == nil {
			token, call, err = r.admit(ctx, p)
		}
		if err == nil {
			out, err = r.decide(from, call)
		}
	}
	if errors.Is(err, ErrForged) {
		r.observer.Redeemed(Unknown, ReasonForged)
		return Redemption{Outcome: Outcome{Verdict: Unknown, Reason: ReasonForged, Row: 1}}, nil
	}
	if fault.Is(err, fault.TooManyRequests) {
		return Redemption{Family: token.family}, err
	}
	if err != nil {
		if doubt := (*doubt)(nil); errors.As(err, &doubt) {
			r.observer.Spared(doubt.name)
		}
		return Redemption{Family: token.family}, fault.Trouble(err)
	}

	if r.doubts(out, call.Policy) {
		return Redemption{Family: token.family}, fault.Trouble(errLeapt)
	}

	red := Redemption{Outcome: out, Family: token.family}
	if out.Verdict.Answers() {
		red.IdleEnd = out.Next.IdleEnd(call.Policy)
		red.Token, err = token.at(out.Next.Generation, out.Next.HeadKey).text(ctx, r.roots)
		if err != nil {
			return red, fault.Trouble(err)
		}
	}
	r.observer.Redeemed(out.Verdict, out.Reason)
	return red, nil
}

// admit checks a token under the keys that this node knows and says what the
// store is to decide. ErrForged is a verdict, any other error is trouble or a
// *fault.Fault.
func (r *Rotator) admit(ctx context.Context, p Presentation) (Token, Call, error) {
	keys := r.roots.Revision() // before they are used: they may be newer than it, never older
	token, err := Parse(ctx, r.roots, p.Token.Reveal())
	if err != nil {
		return Token{}, Call{}, err
	}
	if wait := r.pace.Wait(token.family, r.clock()); wait > 0 {
		return token, Call{}, fault.New(fault.TooManyRequests, "This session is refreshed too often.").After(wait).WithReason("family_pace")
	}
	number, _, err := r.roots.ActiveRoot()
	if err != nil {
		return token, Call{}, err
	}
	policy := r.policy(p.Client)
	policy.Outages = r.outages.seen()
	return token, Call{Policy: policy, Keys: keys, Attempt: Attempt{
		Family: token.family, Generation: token.generation, Key: token.key, SecretHash: token.SecretHash(),
		Client: p.Client, Transport: p.Transport, Proof: p.Proof,
		RetryKey: RetryKeyOf(token.family, p.IdempotencyKey), Sender: SenderOf(p.InstallID, p.UserAgent),
		UserAgent: p.UserAgent, IP: p.IP, RequestID: p.RequestID, NewKey: number,
	}}, nil
}

// decide tries the batch and falls back to judging alone, and keeps book of
// whether the store answers.
func (r *Rotator) decide(s sender, c Call) (Outcome, error) {
	out, err := r.decideOnce(s, c)
	r.noteAnswer(err)
	return out, err
}

func (r *Rotator) decideOnce(s sender, c Call) (Outcome, error) {
	if r.shunned.has(c.Attempt.Family, r.clock()) {
		return r.judgeAlone(s, c, r.suspects)
	}
	out, err := r.queue.rotate(c)
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, errAlone):
		return r.judgeAlone(s, c, r.alone)
	case errors.Is(err, ErrRefused):
		return r.judgeAlone(s, c, r.suspects)
	default:
		return Outcome{}, err
	}
}

func (r *Rotator) judge(c Call, gate *limit.Gate) (Outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), batchPatience)
	defer cancel()
	leave, err := gate.Enter(ctx)
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: %w", errQueueFull, err)
	}
	defer leave()
	// More is known now than when the request came.
	c.Policy.Outages = r.outagesOf(c.Attempt.Family)
	from := r.wall()
	out, err := r.store.Redeem(ctx, c, lockPatience)
	until := r.wall()
	if errors.Is(err, ErrLocked) {
		r.shunned.add(c.Attempt.Family, from, until)
		return out, err
	}
	r.outages.took(from, until, err)
	return out, err
}

// outagesOf returns the outages as a family has felt them.
func (r *Rotator) outagesOf(f id.Family) Outages {
	heard := r.heard.Load()
	now := r.wall() // after that: who was stopped in between sees a gap, and no clock that was set back
	list := r.outages.seen()
	if gap, ok := gapSince(heard, now); ok {
		// The node has woken up, perhaps, and this is the first to notice. StoreHeard
		// notes it, when the store has confirmed its clock.
		list = list.with(gap)
	}
	if span, ok := r.shunned.locked(f, now); ok {
		list = list.with(span)
	}
	// The store may take its time to judge. If its clock is further than that by then,
	// it has leapt, and this node has not seen the time pass.
	return list.with(Outage{From: now.Add(longestPulse)})
}

// noteAnswer keeps the spans in which the store gave no answer. A locked row
// or a full queue is no outage: other families were answered meanwhile.
func (r *Rotator) noteAnswer(err error) {
	switch {
	case err == nil, errors.Is(err, ErrStaleKeys), spares(err):
		r.outages.answered(r.clock)
	case !errors.Is(err, ErrLocked) && !errors.Is(err, errQueueFull) && !errors.Is(err, errUnanswered):
		r.outages.failed(r.clock())
	}
}

// StoreHeard tells of an answer that somebody else on this node got from the
// store, or did not get: the key ring asks every second. Without it an outage
// that began with a refresh would go on until the next one, in the eyes of a
// node that nobody asks to refresh. A long time without any such call is one in
// which this node was stopped or suspended, or by which its clock was set. It is called
// by one goroutine at a time.
func (r *Rotator) StoreHeard(err error) {
	now := r.wall()
	heard := r.heard.Load()
	if gap, ok := gapSince(heard, now); ok {
		r.outages.stalled(gap.From, gap.Until)
	}
	if now.UnixNano() < heard {
		r.outages.setBack(now)
	}
	r.outages.cutAhead(now)
	r.heard.Store(now.UnixNano()) // after the gap is noted: whoever sees no gap sees the outage
	if err != nil {
		r.outages.failed(r.clock())
	} else {
		r.outages.quiet(r.clock())
	}
}

// Away tells of a span before this node was started in which no node gave any answer.
func (r *Rotator) Away(from, until time.Time) { r.outages.stalled(from.Round(0), until.Round(0)) }

// longestPulse is how long the calls of StoreHeard may be apart on a node that runs:
// the ring asks every second, and gives up on an answer after a few.
const longestPulse = 15 * time.Second

// gapSince returns the time since the store was heard last, in nanoseconds since 1970
// (0: never yet), if it is one in which this node did not run.
func gapSince(heard int64, now time.Time) (gap Outage, ok bool) {
	gap = Outage{time.Unix(0, heard), now}
	return gap, heard != 0 && now.Sub(gap.From) > longestPulse
}

// Find reads the family of a token of any generation, for logout: nil when the
// token is forged or its family is gone. An error is trouble.
func (r *Rotator) Find(ctx context.Context, text secret.Text) (*Family, error) {
	token, err := Parse(ctx, r.roots, text.Reveal())
	if errors.Is(err, ErrForged) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Trouble(err)
	}
	f, _, err := r.store.Family(ctx, token.family)
	if err != nil {
		return nil, fault.Trouble(err)
	}
	hash := token.SecretHash()
	if f == nil || !secret.Equal(hash[:], f.SecretHash[:]) {
		return nil, nil
	}
	return f, nil
}

// Living finds the family of a token that would still be answered, without
// using it up: for a request that carries one as a sign of who it is. nil when
// there is none.
func (r *Rotator) Living(ctx context.Context, text secret.Text) (*Family, error) {
	f, err := r.Find(ctx, text)
	if f == nil || err != nil {
		return nil, err
	}
	now := r.clock()
	policy := r.policy(f.Client)
	if !f.EndedAt.IsZero() || f.Disabled || f.BornAt.Before(f.Floor) || !now.Before(f.IdleEnd(policy)) {
		return nil, nil
	}
	return f, nil
}
