package keys

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// shelf keeps rows as a store does, for the tests of this room alone; the
// stores themselves are held against storetest.
type shelf struct {
	mu     sync.Mutex
	rows   map[[2]string]Verifier
	writes int
	broken error
}

func (s *shelf) RecordVerifiers(_ context.Context, list []Verifier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	for _, v := range list {
		s.writes++
		s.rows[[2]string{v.Network, v.UserAgent}] = v
	}
	return nil
}

func (s *shelf) Verifiers(context.Context, int) (list []Verifier, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.rows {
		list = append(list, v)
	}
	return list, s.broken
}

func (s *shelf) SweepVerifiers(context.Context, time.Duration, int, int) (int, error) { return 0, nil }

func newRoll(t *testing.T) (*desk, *Roll, *shelf) {
	t.Helper()
	d := open4test(t, quick())
	s := &shelf{rows: map[[2]string]Verifier{}}
	return d, NewRoll(d.ring, s), s
}

func (d *desk) set(t *testing.T) JWKS {
	t.Helper()
	set, err := d.ring.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// settle does what Run does: admit, then write.
func settle(t *testing.T, r *Roll) {
	t.Helper()
	r.drain()
	if err := r.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var pod = netip.MustParseAddr("10.1.2.3")

func TestRoll_writesWhatMovedAndNoMore(t *testing.T) {
	d, r, s := newRoll(t)
	set := d.set(t)
	for range 3 { // before it is known, and twice more
		r.Saw(pod, "svc/1", set)
	}
	settle(t, r)
	v := s.rows[[2]string{"10.1.2.3", "svc/1"}]
	if len(s.rows) != 1 || v.ETag != set.ETag || !v.SetAt.Equal(set.ChangedAt) || !v.FetchedAt.Equal(d.now()) || !v.FirstAt.Equal(d.now()) {
		t.Fatalf("rows %v", s.rows)
	}
	d.move(touchEvery - time.Second)
	r.Saw(pod, "svc/1", d.set(t))
	settle(t, r)
	if s.writes != 1 {
		t.Errorf("%d writes for the same set within a minute, want 1", s.writes)
	}
	d.move(time.Second)
	r.Saw(pod, "svc/1", d.set(t))
	settle(t, r)
	if v = s.rows[[2]string{"10.1.2.3", "svc/1"}]; s.writes != 2 || !v.FetchedAt.Equal(d.now()) {
		t.Errorf("after a minute: %d writes, %v", s.writes, v)
	}
	d.after(t, d.policy.standbyAfter()+time.Second)
	next := d.set(t)
	r.Saw(pod, "svc/1", next)
	settle(t, r)
	if v = s.rows[[2]string{"10.1.2.3", "svc/1"}]; v.ETag != next.ETag || !v.SetAt.Equal(next.ChangedAt) {
		t.Errorf("with another set: %v, want %s", v, next.ETag)
	}
}

func TestRoll_aStoreThatIsAwayLosesNothing(t *testing.T) {
	d, r, s := newRoll(t)
	s.broken = errDown
	r.Saw(pod, "svc/1", d.set(t))
	r.drain()
	if err := r.flush(t.Context()); err == nil {
		t.Fatal("no error")
	}
	s.broken = nil
	settle(t, r)
	if len(s.rows) != 1 {
		t.Errorf("rows %v", s.rows)
	}
}

func TestRoll_networksOfPeopleAndNotTheirAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"10.1.2.3": "10.1.2.3", "192.168.7.7": "192.168.7.7", "127.0.0.1": "127.0.0.1", "::1": "::1", "fd00::7": "fd00::7", "": "unknown",
	} {
		d, r, s := newRoll(t)
		from, _ := netip.ParseAddr(addr)
		r.Saw(from, "svc/1", d.set(t))
		settle(t, r)
		if _, ok := s.rows[[2]string{want, "svc/1"}]; !ok {
			t.Errorf("%q is kept as %v, want %s", addr, s.rows, want)
		}
	}
}

func TestRoll_isBoundedAndTheLongestUnseenGoes(t *testing.T) {
	d, r, s := newRoll(t)
	set := d.set(t)
	for i := range rollSize {
		r.Saw(pod, fmt.Sprint("made up ", i), set)
	}
	r.drain()
	d.move(2 * time.Second)
	r.Saw(pod, "made up 0", d.set(t)) // seen again
	d.move(time.Hour)                 // and new ones are admitted again
	set = d.set(t)
	r.Saw(pod, "late", set)
	settle(t, r)
	known := *r.known.Load()
	district, _ := pod.Prefix(32)
	if len(known) != rollSize || known[reader{district, "made up 0"}] == nil || known[reader{district, "late"}] == nil || r.Missed() != 0 {
		t.Fatalf("%d are known, %d missed", len(known), r.Missed())
	}

	// A flood of made-up names ends in the one row without a network.
	for i := range 3 * rollSize {
		r.Saw(pod, fmt.Sprint("flood ", i), set)
		if i%100 == 0 {
			r.drain()
		}
	}
	settle(t, r)
	if missed := r.Missed(); missed < rollSize || missed > 2*rollSize+1 {
		t.Errorf("%d of %d were missed", missed, 3*rollSize)
	}
	if v, ok := s.rows[[2]string{"", ""}]; !ok || v.ETag != set.ETag || len(*r.known.Load()) != rollSize {
		t.Errorf("the others: %v, %v; %d are known", ok, v, len(*r.known.Load()))
	}
}

func TestRoll_aKnownVerifierCostsNoMemory(t *testing.T) {
	d, r, _ := newRoll(t)
	set := d.set(t)
	r.Saw(pod, "svc/1", set)
	r.drain()
	if n := testing.AllocsPerRun(100, func() { set.At = set.At.Add(time.Second); r.Saw(pod, "svc/1", set) }); n > 0 {
		t.Errorf("it allocates %.0f times", n)
	}
}

func TestRoll_runsUntilTheEndAndWritesTheRest(t *testing.T) {
	d, r, s := newRoll(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { r.Run(ctx) })
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			for n := range 300 {
				r.Saw(pod, fmt.Sprint("svc/", (i+n)%50), d.set(t))
			}
		})
	}
	asking.Wait()
	cancel()
	all.Wait()
	if len(s.rows) != 50 && r.Missed() == 0 {
		t.Errorf("%d rows, want 50", len(s.rows))
	}
	if e, ok := r.Evidence(); !ok || e.Older != 0 {
		t.Errorf("the evidence is there: %v, %+v", ok, e)
	}
}

func BenchmarkRoll_known(b *testing.B) {
	d := &desk{hands: newHands(), masters: masters(), policy: quick()}
	d.store = newMemory(d.now)
	ring := NewRing(d.store, d.masters, d.policy, time.Now, nil)
	if err := ring.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	r := NewRoll(ring, &shelf{rows: map[[2]string]Verifier{}})
	set, err := ring.JWKS()
	if err != nil {
		b.Fatal(err)
	}
	r.Saw(pod, "authserver-verify/0.1.0 (go1.26)", set)
	r.drain()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r.Saw(pod, "authserver-verify/0.1.0 (go1.26)", set)
		}
	})
}
