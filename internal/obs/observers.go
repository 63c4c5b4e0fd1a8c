package obs

import (
	"maps"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/authserver/internal/login"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
)

var (
	_ refresh.Observer  = (*Metrics)(nil)
	_ login.Observer    = (*Metrics)(nil)
	_ password.Observer = (*Metrics)(nil)
)

// Redeemed implements refresh.Observer.
func (m *Metrics) Redeemed(v refresh.Verdict, r refresh.Reason) {
	m.redeemed[v].Inc()
	if r == refresh.ReasonAhead {
		m.ahead.Inc()
		m.log.Error("a refresh token is newer than the store knows: the store has lost an acknowledged rotation (failover or restore)",
			"event", "refresh_ahead_of_store", "hint", "after a restore: authserver sessions revoke --issued-before")
	}
}

// Spared implements refresh.Observer.
func (m *Metrics) Spared(doubt string) { m.spared.WithLabelValues(doubt).Inc() }

// BatchDone implements refresh.Observer.
func (m *Metrics) BatchDone(n int, took time.Duration, err error) {
	m.batchSize.Observe(float64(n))
	m.batchTime.Observe(took.Seconds())
	if err != nil {
		m.batchFails.Inc()
	}
}

// LoggedIn implements login.Observer.
func (m *Metrics) LoggedIn(outcome string) { m.logins.WithLabelValues("password", outcome).Inc() }

// Hashed implements password.Observer.
func (m *Metrics) Hashed(kind string, took time.Duration) {
	m.hashTime.WithLabelValues(kind).Observe(took.Seconds())
}

// Shed implements password.Observer.
func (m *Metrics) Shed() { m.shed.Inc() }

// children are the labelled metrics that were met so far, so that a request
// costs two look-ups without a lock. All their labels are bounded: routes are
// patterns of the route table, methods and statuses closed lists.
type children struct {
	requests map[requestKey]prometheus.Observer
	issued   map[issuedKey]prometheus.Counter
	signing  map[string]prometheus.Observer
}

type requestKey struct {
	route, method string
	status        int
}

type issuedKey struct{ grant, tokenType, alg string }

// Served reports one answered request, for httpd.
func (m *Metrics) Served(route, method string, status int, took time.Duration) {
	key := requestKey{route, method, status}
	child := m.known.Load().requests[key]
	if child == nil {
		child = m.requests.WithLabelValues(route, method, strconv.Itoa(status))
		m.learn(func(c *children) { c.requests = with(c.requests, key, child) })
	}
	child.Observe(took.Seconds())
}

// Issued reports one token that was handed out, for the doors.
func (m *Metrics) Issued(grant, tokenType, alg string) {
	key := issuedKey{grant, tokenType, alg}
	child := m.known.Load().issued[key]
	if child == nil {
		child = m.issued.WithLabelValues(grant, tokenType, alg)
		m.learn(func(c *children) { c.issued = with(c.issued, key, child) })
	}
	child.Inc()
}

// Signed reports how long an access token took, for the doors.
func (m *Metrics) Signed(alg string, took time.Duration) {
	child := m.known.Load().signing[alg]
	if child == nil {
		child = m.signTime.WithLabelValues(alg)
		m.learn(func(c *children) { c.signing = with(c.signing, alg, child) })
	}
	child.Observe(took.Seconds())
}

// learn swaps in a changed copy. Who learns the same at once learns it twice.
func (m *Metrics) learn(change func(*children)) {
	m.learned.Lock()
	defer m.learned.Unlock()
	next := *m.known.Load()
	change(&next)
	m.known.Store(&next)
}

func with[K comparable, V any](old map[K]V, key K, value V) map[K]V {
	next := maps.Clone(old)
	if next == nil {
		next = map[K]V{}
	}
	next[key] = value
	return next
}
