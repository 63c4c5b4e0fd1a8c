package revocation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/limit"
)

// Policy is what configuration says about the feed.
type Policy struct {
	Issuer string
	// Poll is how often a node asks the store, give or take a tenth.
	Poll time.Duration
	// Streams is how many readers a node serves at once with events, half of them from
	// one network: nobody keeps everybody else out.
	Streams int
	// Listed is how many entries a statement has at most. Of a snapshot with more,
	// the ends of sessions that are over soonest are left out; a delta with more
	// becomes a snapshot.
	Listed int
	// StatusLists says whether status lists are published.
	StatusLists bool
}

// mostListed entries of any length fit into the 16 MiB that verifiers read, and are
// more than they hold, so that none holds less because of it.
const mostListed = 105_000

// DefaultPolicy returns the documented defaults for an issuer.
func DefaultPolicy(issuer string) Policy {
	return Policy{Issuer: issuer, Poll: 250 * time.Millisecond, Streams: 1000, Listed: mostListed}
}

// Fresh is how old a node's feed may be before it stops saying that it lives.
const Fresh = 10 * time.Second

// pageSize is how many entries one read asks for.
const pageSize = 5000

// Observer hears what a feed does. Its methods must not block.
type Observer interface {
	// FeedRead follows every read of the feed.
	FeedRead(took time.Duration, err error)
}

// Feed is what one node knows of the feed: an immutable snapshot, swapped
// whole. A node whose store does not answer goes on telling what it holds, and
// its statements say since when. It is safe for concurrent use.
type Feed struct {
	store    Store
	signing  Signing
	policy   Policy
	clock    func() time.Time // the store's, as this node knows it
	observer Observer
	streams  *limit.Gate
	networks *limit.Turns[string] // the share of each network in streams

	current atomic.Pointer[snapshot]
	readAt  atomic.Int64 // of the store's clock, in nanoseconds since 1970; 0 before the first read
	indexes atomic.Int64 // the greatest status index that was handed out
	reading sync.Mutex   // one read at a time
	doubted bool         // under reading: the last read failed, so this store may be another one
}

// snapshot is what was read. Nothing but its cache changes.
type snapshot struct {
	entries []Entry // ascending
	newest  int64
	// era counts how often the store was set back: numbers of two eras do not
	// compare.
	era     int
	changed chan struct{} // closed when another newest or another era takes over

	mu     sync.Mutex // guards what was signed, and has one signer at a time
	at     int64      // the iat of what was signed
	signed map[int64]Statement
	lists  map[int64]SignedList
}

// mostSigned bounds the statements that are kept for one second.
const mostSigned = 1024

// exactly is how far behind the newest number a delta begins where it was asked
// for.
const exactly = 256

// clockSetBack is how far the store's clock goes back between two reads when it was
// set: a failover to another machine takes it back by less.
const clockSetBack = time.Minute

// beginOf returns where a delta begins that was asked for after a number: there,
// or a good deal before it where the reader is far behind, who leaves out what it
// has. Everybody may ask, after any number: without this each question would be
// a statement of its own, of megabytes after a mass revocation.
func beginOf(after, newest int64) int64 {
	behind := newest - after
	if behind <= exactly {
		return after
	}
	step := int64(1) << (bits.Len64(uint64(behind)) - 3)
	return after - after%step
}

// NewFeed returns a feed that has read nothing yet. clock is the store's clock
// as this node knows it.
func NewFeed(store Store, signing Signing, policy Policy, clock func() time.Time, observer Observer) *Feed {
	f := &Feed{store: store, signing: signing, policy: policy, clock: clock, observer: observer}
	f.streams, f.networks = limit.NewGate(policy.Streams, 0), limit.NewTurns[string]((policy.Streams+1)/2, 0)
	f.current.Store(&snapshot{changed: make(chan struct{})})
	return f
}

// Run reads the feed at every poll until ctx ends. It is called once.
func (f *Feed) Run(ctx context.Context) {
	for {
		wait := time.NewTimer(f.policy.Poll - f.policy.Poll/10 + rand.N(f.policy.Poll/5+1))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		_ = f.Read(ctx) // the observer hears of it, and the next turn tries again
	}
}

// Read asks the store for what is new. An error leaves what the node holds.
func (f *Feed) Read(ctx context.Context) error {
	f.reading.Lock()
	defer f.reading.Unlock()
	begun := time.Now()
	err := f.read(ctx)
	f.doubted = err != nil
	if ctx.Err() == nil {
		f.observer.FeedRead(time.Since(begun), err)
	}
	return err
}

func (f *Feed) read(ctx context.Context) error {
	held := f.current.Load()
	next := &snapshot{entries: held.entries, newest: held.newest, era: held.era}
	if f.doubted {
		// After a failover to a store that lost its last commits other nodes may
		// have given the lost numbers again, and more: the newest one tells nothing.
		next = &snapshot{era: held.era}
	}
	for set := false; ; {
		page, err := f.store.Read(ctx, next.newest, pageSize)
		if err != nil {
			return fmt.Errorf("read the revocation feed: %w", err)
		}
		if page.Newest < next.newest {
			// The store was set back, and its numbers will come again.
			next = &snapshot{era: held.era + 1}
			continue
		}
		if !set && f.readAt.Load()-page.Now.UnixNano() > int64(clockSetBack) {
			// What had passed by the clock before, and was dropped here, may stand.
			next, set = &snapshot{era: held.era + 1}, true
			continue
		}
		// Clip: readers hold the list that this one begins with.
		next.entries = append(slices.Clip(next.entries), page.Entries...)
		next.newest = page.Newest
		if page.More {
			continue
		}
		if f.doubted && !next.leadsOnFrom(held, page.Now.Unix()) {
			next.era = held.era + 1
		}
		if slices.ContainsFunc(next.entries, func(e Entry) bool { return e.Kind == Key && (e.Seq > held.newest || next.era != held.era) }) {
			// Whoever hears of a revoked key fetches the key set at once, and must
			// find it without that key. A node that cannot read its ring tells all
			// the same: it is the key that must go, the successor can wait.
			_ = f.signing.Reread(ctx)
		}
		f.indexes.Store(page.Indexes)
		f.swap(held, next, page.Now)
		return nil
	}
}

// leadsOnFrom reports whether a snapshot holds whatever another one held under
// the same numbers. Those that pass at this moment do not count: each side may
// have dropped them.
func (s *snapshot) leadsOnFrom(held *snapshot, now int64) bool {
	if s.newest < held.newest {
		return false
	}
	theirs, ours := living(held.entries, now+1), living(s.entries, now+1)
	return len(theirs) <= len(ours) && slices.Equal(theirs, ours[:len(theirs)])
}

// swap puts a snapshot in place of another and wakes who waits for news. The
// instant comes last: nobody is told that the old snapshot is as of now.
func (f *Feed) swap(held, next *snapshot, now time.Time) {
	defer f.readAt.Store(now.UnixNano())
	if next.newest == held.newest && next.era == held.era {
		if alive := living(held.entries, now.Unix()); len(alive) == len(held.entries) {
			return
		}
		next.changed = held.changed // what passes is no news: both sides drop it
	} else {
		next.changed = make(chan struct{})
		defer close(held.changed)
	}
	next.entries = living(next.entries, now.Unix())
	f.current.Store(next)
}

// living returns the entries that have not passed; the list itself when none
// has.
func living(entries []Entry, now int64) []Entry {
	passed := func(e Entry) bool { return e.Until <= now }
	if !slices.ContainsFunc(entries, passed) {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), passed)
}

var errNeverRead = errors.New("the revocation feed was not read yet")

// Statement returns what is above a number, signed: a delta, or a snapshot
// where after is 0 or above the newest number. The delta of who is far behind
// begins earlier than was asked, perhaps with a snapshot. Equal questions of one
// second are signed once. Errors are trouble (503): this node may not sign now, or it
// never read the feed.
func (f *Feed) Statement(after int64) (Statement, error) {
	return f.statement(f.current.Load(), after)
}

func (f *Feed) statement(s *snapshot, after int64) (Statement, error) {
	readAt := f.readAt.Load()
	if readAt == 0 {
		return Statement{}, fault.Trouble(errNeverRead)
	}
	if after > s.newest {
		after = 0
	}
	after = beginOf(after, s.newest)
	if after > 0 && len(s.above(after)) > f.policy.Listed {
		after = 0 // only of a snapshot may something be left out
	}
	iat := time.Unix(0, readAt).Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age(iat)
	if st, ok := s.signed[after]; ok {
		return st, nil
	}
	c := Claims{Issuer: f.policy.Issuer, IssuedAt: iat, Seq: s.newest, After: after}
	c.Entries, c.Partial = fit(living(s.above(after), iat), f.policy.Listed)
	if c.Entries == nil {
		c.Entries = []Entry{}
	}
	jws, err := sign(f.signing, Type, &c)
	if err != nil {
		return Statement{}, err
	}
	st := Statement{JWS: jws, Seq: c.Seq, ETag: c.etag()}
	s.signed[after] = st
	return st, nil
}

// above returns the entries with greater numbers.
func (s *snapshot) above(after int64) []Entry {
	from, _ := slices.BinarySearchFunc(s.entries, after+1, func(e Entry, n int64) int { return cmp.Compare(e.Seq, n) })
	return s.entries[from:]
}

// fit returns most of the entries, and whether it has left some out: the ends of
// sessions that are over soonest. Bans and keys stay, however many there are.
func fit(entries []Entry, most int) (list []Entry, partial bool) {
	excess := len(entries) - most
	if excess <= 0 {
		return entries, false
	}
	var ends []int
	for i, e := range entries {
		if e.Kind == Session || e.Kind == Grant {
			ends = append(ends, i)
		}
	}
	slices.SortStableFunc(ends, func(a, b int) int { return cmp.Compare(entries[a].Until, entries[b].Until) })
	ends = ends[:min(excess, len(ends))]
	if len(ends) == 0 {
		return entries, false
	}
	slices.Sort(ends)
	list = make([]Entry, 0, len(entries)-len(ends))
	from := 0
	for _, i := range ends {
		list = append(list, entries[from:i]...)
		from = i + 1
	}
	return append(list, entries[from:]...), true
}

// age drops what was signed for another second, or is too much.
func (s *snapshot) age(iat int64) {
	if s.at != iat || len(s.signed)+len(s.lists) >= mostSigned {
		s.at, s.signed, s.lists = iat, map[int64]Statement{}, map[int64]SignedList{}
	}
}

// Position is how far somebody has read.
type Position struct {
	Seq int64
	era int
}

// At returns the position of who has seen everything that this node holds, and
// what is closed when there is more.
func (f *Feed) At() (p Position, more <-chan struct{}) {
	s := f.current.Load()
	return Position{s.newest, s.era}, s.changed
}

// Since returns the statement that leads on from a position: a snapshot where
// the store was set back meanwhile.
func (f *Feed) Since(p Position) (Statement, error) {
	s := f.current.Load()
	if p.era != s.era {
		return f.statement(s, 0)
	}
	return f.statement(s, p.Seq)
}

// Join takes one of the places for streams for a reader from network; ErrFull of package
// limit when there is none. leave gives it back.
func (f *Feed) Join(ctx context.Context, network string) (leave func(), err error) {
	share, err := f.networks.Enter(ctx, network)
	if err != nil {
		return nil, err
	}
	place, err := f.streams.Enter(ctx)
	if err != nil {
		share()
		return nil, err
	}
	return func() { place(); share() }, nil
}

// Status is the state of a node's feed.
type Status struct {
	Age     time.Duration // since it was last read; 0 when Read is false
	Read    bool          // whether it ever was
	Entries int
	Newest  int64
	Streams int
}

// Status returns the state of the feed now.
func (f *Feed) Status() Status {
	s := f.current.Load()
	st := Status{Entries: len(s.entries), Newest: s.newest, Streams: f.streams.Inside()}
	if at := f.readAt.Load(); at != 0 {
		st.Read, st.Age = true, max(0, f.clock().Sub(time.Unix(0, at)))
	}
	return st
}
