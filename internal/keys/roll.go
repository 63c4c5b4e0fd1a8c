package keys

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"example.com/authserver/internal/limit"
)

// The bounds of a roll.
const (
	rollSize   = 1024             // verifiers that are told apart in memory; the longest unseen goes
	rollAdmits = 1024             // new ones an hour beyond the first 1,024: a flood of made-up user agents ends here
	flushEvery = 2 * time.Second  // a verifier that is new or got another set
	touchEvery = time.Minute      // one that fetched the same set again
	weighEvery = 15 * time.Second // what the metrics show
	rollWrites = 200              // rows of one transaction
	rollLast   = 5 * time.Second  // for the last flush of a process
	rollGrain  = int64(time.Second / time.Millisecond)
)

// Roll notes which verifiers fetch the key set from this node and brings it to
// the store in batches. Noting a verifier that it knows takes no lock and no
// memory, because the key set is served a hundred thousand times a second.
// What was not written yet is lost with the process: it is evidence, and the
// verifier comes again.
type Roll struct {
	ring  *Ring
	store VerifierStore

	known    atomic.Pointer[map[reader]*entry] // swapped by Run's goroutine alone
	newest   atomic.Pointer[gotten]            // the set that was noted last
	arrivals chan arrival
	others   entry // those that are not told apart
	missed   atomic.Uint64
	weighed  atomic.Pointer[Evidence]

	admits *rate.Limiter // only Run's goroutine
}

type reader struct {
	district  netip.Prefix
	userAgent string
}

// gotten is a set that somebody got.
type gotten struct {
	etag  string
	setAt time.Time
}

// entry is what is known of one verifier. The first two move while requests
// are served; the others belong to Run's goroutine.
type entry struct {
	got     atomic.Pointer[gotten]
	fetched atomic.Int64 // milliseconds since 1970, the store's clock

	first   int64
	written Verifier // as it stands in the store
}

type arrival struct {
	who reader
	got *gotten
	at  int64
}

// NewRoll returns a roll of who fetches the set of ring.
func NewRoll(ring *Ring, store VerifierStore) *Roll {
	r := &Roll{
		ring: ring, store: store, arrivals: make(chan arrival, rollSize),
		admits: rate.NewLimiter(rate.Every(time.Hour/rollAdmits), rollSize),
	}
	r.known.Store(&map[reader]*entry{})
	return r
}

// Saw notes that whoever asked from that address under that user agent, which
// must be cleaned, got the set or was told that it holds it. It never blocks.
func (r *Roll) Saw(from netip.Addr, userAgent string, set JWKS) {
	who := reader{limit.District(from), userAgent}
	at, got := set.At.UnixMilli(), r.gotten(set)
	if e := (*r.known.Load())[who]; e != nil {
		e.note(got, at)
		return
	}
	if len(r.arrivals) < cap(r.arrivals) {
		who.userAgent = strings.Clone(userAgent) // or it would keep all headers of the request
		select {
		case r.arrivals <- arrival{who, got, at}:
			return
		default:
		}
	}
	r.miss(got, at)
}

// gotten returns the one value for a set, so that entries can share it.
func (r *Roll) gotten(set JWKS) *gotten {
	if g := r.newest.Load(); g != nil && g.etag == set.ETag && g.setAt.Equal(set.ChangedAt) {
		return g
	}
	g := &gotten{set.ETag, set.ChangedAt}
	r.newest.Store(g)
	return g
}

// note writes only what has moved: one verifier that asks all the time must
// not make all cores wait for one line of memory.
func (e *entry) note(got *gotten, at int64) {
	changed := e.got.Load() != got
	if changed {
		e.got.Store(got)
	}
	if changed || at-e.fetched.Load() >= rollGrain {
		e.fetched.Store(at)
	}
}

func (r *Roll) miss(got *gotten, at int64) {
	r.missed.Add(1)
	r.others.note(got, at)
}

// Missed counts the fetches that were noted under no verifier of their own.
func (r *Roll) Missed() uint64 { return r.missed.Load() }

// Evidence returns what all nodes know, at most a quarter of a minute old; false before the
// first reading.
func (r *Roll) Evidence() (Evidence, bool) {
	e := r.weighed.Load()
	if e == nil {
		return Evidence{}, false
	}
	return *e, true
}

// Run admits new verifiers and writes what was seen until ctx ends. It is
// called once. A store that does not answer is asked again; the key set is
// served all the same.
func (r *Roll) Run(ctx context.Context) {
	flush, weigh := time.NewTicker(flushEvery), time.NewTicker(weighEvery)
	defer flush.Stop()
	defer weigh.Stop()
	r.weigh(ctx)
	for {
		select {
		case a := <-r.arrivals:
			r.admit(a)
		case <-flush.C:
			_ = r.flush(ctx) // what was not written stays to be written
		case <-weigh.C:
			r.weigh(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollLast)
			defer cancel()
			r.drain()
			_ = r.flush(last) // and now it is lost
			return
		}
	}
}

// drain admits all that have arrived.
func (r *Roll) drain() {
	select {
	case a := <-r.arrivals:
		r.admit(a)
	default:
	}
}

// admit takes in one arrival and all that wait behind it, in one new map.
func (r *Roll) admit(first arrival) {
	known := *r.known.Load()
	next := known
	for a, more := first, true; more; {
		e := next[a.who]
		switch {
		case e != nil:
			e.note(a.got, a.at)
		case !r.admits.AllowN(time.UnixMilli(a.at), 1):
			r.miss(a.got, a.at)
		default:
			if len(next) == len(known) { // not copied yet, as the map only grows here
				next = maps.Clone(known)
			}
			e = &entry{first: a.at}
			e.note(a.got, a.at)
			next[a.who] = e
		}
		select {
		case a = <-r.arrivals:
		default:
			more = false
		}
	}
	if len(next) == len(known) {
		return
	}
	forgetOldest(next)
	r.known.Store(&next)
}

// forgetOldest brings a roll back to its size. Its rows stay in the store.
func forgetOldest(m map[reader]*entry) {
	surplus := len(m) - rollSize
	if surplus <= 0 {
		return
	}
	type seen struct {
		who reader
		at  int64
	}
	list := make([]seen, 0, len(m))
	for who, e := range m {
		list = append(list, seen{who, e.fetched.Load()})
	}
	slices.SortFunc(list, func(a, b seen) int { return cmp.Compare(a.at, b.at) })
	for _, s := range list[:surplus] {
		delete(m, s.who)
	}
}

// flush writes what has moved since it was written.
func (r *Roll) flush(ctx context.Context) error {
	var rows []Verifier
	var entries []*entry
	add := func(e *entry, network, userAgent string) {
		v, moved := e.row(network, userAgent)
		if moved {
			rows, entries = append(rows, v), append(entries, e)
		}
	}
	for who, e := range *r.known.Load() {
		network := "unknown"
		if who.district.IsValid() {
			network = networkText(who.district)
		}
		add(e, network, who.userAgent)
	}
	if r.others.got.Load() != nil {
		add(&r.others, "", "")
	}
	for len(rows) > 0 {
		n := min(len(rows), rollWrites)
		if err := r.store.RecordVerifiers(ctx, rows[:n]); err != nil {
			return err
		}
		for i, e := range entries[:n] {
			e.written = rows[i]
		}
		rows, entries = rows[n:], entries[n:]
	}
	return nil
}

// row returns a verifier as it is to be written, and whether that is worth it.
// The instant is read before the set: the row may name a set that came a
// moment later, never one that was older.
func (e *entry) row(network, userAgent string) (v Verifier, moved bool) {
	fetched := e.fetched.Load()
	got := e.got.Load()
	if e.first == 0 {
		e.first = fetched
	}
	v = Verifier{
		Network: network, UserAgent: userAgent, ETag: got.etag, SetAt: got.setAt,
		FirstAt: time.UnixMilli(min(e.first, fetched)).UTC(), FetchedAt: time.UnixMilli(fetched).UTC(),
	}
	return v, v.ETag != e.written.ETag || !v.SetAt.Equal(e.written.SetAt) || v.FetchedAt.Sub(e.written.FetchedAt) >= touchEvery
}

// networkText leaves the length out where it is the whole address.
func networkText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// weigh reads what all nodes have seen.
func (r *Roll) weigh(ctx context.Context) {
	status, err := r.ring.Status()
	if err != nil {
		return
	}
	list, err := r.store.Verifiers(ctx, MostVerifiers)
	if err != nil {
		return // what was read before stays
	}
	e := Weigh(status, list, r.ring.policy)
	e.Holders = nil // only its counts are asked for
	r.weighed.Store(&e)
}
