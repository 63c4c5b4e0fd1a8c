package keys

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/secret"
)

// memory is a Store that keeps its contract to the letter, with a clock of its
// own and switches for trouble.
type memory struct {
	mu     sync.Mutex
	ring   StoredRing
	live   []int
	events []audit.Event
	leases map[string]lease
	now    func() time.Time

	broken  error         // every method returns it
	meddle  func()        // runs once, before the next change is applied
	travel  time.Duration // how long an answer takes; needs a bubble's clock
	scan    time.Duration // how long LiveRoots takes; the same
	reads   int
	asked   int // calls of LiveRoots
	changes int
}

type lease struct {
	holder string
	until  time.Time
}

func newMemory(now func() time.Time) *memory { return &memory{now: now, leases: map[string]lease{}} }

func (m *memory) ReadRing(ctx context.Context) (StoredRing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.broken != nil {
		return StoredRing{}, m.broken
	}
	if m.travel > 0 {
		time.Sleep(m.travel / 2)
		defer time.Sleep(m.travel / 2)
	}
	ring := m.ring
	ring.Keys = slices.Clone(ring.Keys)
	ring.StoreNow = m.now()
	return ring, ctx.Err()
}

func (m *memory) ChangeRing(_ context.Context, c Change) (int64, error) {
	m.mu.Lock()
	meddle := m.meddle
	m.meddle = nil
	m.mu.Unlock()
	if meddle != nil {
		meddle()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return 0, m.broken
	}
	if c.IfRevision != m.ring.Revision {
		return 0, ErrRingChanged
	}
	rows := slices.Clone(m.ring.Keys)
	find := func(n KeyName) int {
		return slices.IndexFunc(rows, func(k StoredKey) bool { return k.Name() == n })
	}
	for _, n := range c.Forget {
		i := find(n)
		if i < 0 {
			return 0, ErrRingChanged
		}
		rows = slices.Delete(rows, i, i+1)
	}
	for _, k := range c.Update {
		i := find(k.Name())
		if i < 0 {
			return 0, ErrRingChanged
		}
		rows[i].Sealed, rows[i].MasterID, rows[i].SignsFor = k.Sealed, k.MasterID, k.SignsFor
		rows[i].ActiveAt, rows[i].RevokedAt = k.ActiveAt, k.RevokedAt
		if k.PublishedAt.Before(rows[i].PublishedAt) {
			rows[i].PublishedAt = k.PublishedAt
		}
	}
	for _, k := range c.Insert {
		if find(k.Name()) >= 0 || slices.ContainsFunc(rows, func(o StoredKey) bool { return o.KID == k.KID }) {
			return 0, ErrRingChanged
		}
		rows = append(rows, k)
	}
	if c.MasterID != nil {
		m.ring.MasterID = *c.MasterID
	}
	m.ring.Keys = rows
	m.ring.Revision++
	m.events = append(m.events, c.Audit...)
	m.changes++
	return m.ring.Revision, nil
}

func (m *memory) LiveRoots(ctx context.Context) ([]int, error) {
	if m.scan > 0 {
		select {
		case <-time.After(m.scan):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return slices.Clone(m.live), m.broken
}

func (m *memory) HoldLease(_ context.Context, name, holder string, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return false, m.broken
	}
	if l, ok := m.leases[name]; ok && l.holder != holder && m.now().Before(l.until) {
		return false, nil
	}
	m.leases[name] = lease{holder, m.now().Add(ttl)}
	return true, nil
}

func (m *memory) breakWith(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

var errDown = errors.New("connection refused")

// hands is a clock that a test moves.
type hands struct {
	mu sync.Mutex
	t  time.Time
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newHands() *hands { return &hands{t: epoch} }

func (h *hands) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.t
}

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t = h.t.Add(d)
}

// quick is a policy whose keys are cheap to make.
func quick() Policy {
	p := DefaultPolicy()
	p.Algorithms = []Algorithm{ES256, EdDSA}
	return p
}

func masters() MasterKeys { return MasterKeys{Current: secret.Random(32)} }

// desk is one started node, its store and the custodian beside it.
type desk struct {
	*hands
	store     *memory
	masters   MasterKeys
	policy    Policy
	ring      *Ring
	custodian *Custodian
}

func open4test(t *testing.T, p Policy) *desk {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	d := &desk{hands: newHands(), masters: masters(), policy: p}
	d.store = newMemory(d.now)
	d.ring = d.node()
	if err := d.ring.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.custodian = NewCustodian(d.store, d.masters, p, d.now)
	return d
}

// node returns one more node on the same store, not started.
func (d *desk) node() *Ring { return NewRing(d.store, d.masters, d.policy, d.now, nil) }

// after moves the clock and lets the node take two turns.
func (d *desk) after(t *testing.T, span time.Duration) {
	t.Helper()
	d.move(span)
	d.ring.tend(t.Context())
	d.ring.scan.Wait()
	select {
	case l := <-d.ring.live:
		d.ring.retireRoots(t.Context(), l)
	default:
	}
	d.ring.tend(t.Context())
	if err := d.ring.Ready(); err != nil {
		t.Fatalf("after %s: %v", span, err)
	}
}

// signing returns the kid that signs for an algorithm.
func (d *desk) signing(t *testing.T, a Algorithm) string {
	t.Helper()
	kid, method, _, err := d.ring.Signer(a)
	if err != nil {
		t.Fatal(err)
	}
	if method.Alg() != string(a) {
		t.Fatalf("%s answers for %s", method.Alg(), a)
	}
	return kid
}

// lines returns the timetable of one algorithm as "number state".
func (d *desk) lines(t *testing.T, purpose Purpose, a Algorithm) []string {
	t.Helper()
	s, err := d.custodian.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range s.Keys {
		if l.Purpose == purpose && l.Algorithm == a {
			out = append(out, KeyName{purpose, a, l.Number}.String()+" "+string(l.State))
		}
	}
	return out
}

var operator = By{Actor: "operator:ada", RequestID: "r1"}
