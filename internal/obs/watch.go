package obs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/store"
)

// gauge adds one that is read when somebody asks.
func (m *Metrics) gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// WatchPool shows how the connections to the database are used. It is called
// once.
func (m *Metrics) WatchPool(pool func() store.Pool) {
	m.gauge("authserver_db_pool_max_connections", "Connections to the database at most.", func() float64 { return float64(pool().Max) })
	m.gauge("authserver_db_pool_open_connections", "Connections to the database now.", func() float64 { return float64(pool().Open) })
	m.gauge("authserver_db_pool_busy_connections", "Connections to the database in use now.", func() float64 { return float64(pool().Busy) })
}

// WatchHashing shows how many requests hash a password and how many wait. It
// is called once.
func (m *Metrics) WatchHashing(inside, waiting func() int) {
	m.gauge("authserver_password_hash_inflight", "Requests whose password is being hashed.", func() float64 { return float64(inside()) })
	m.gauge("authserver_password_hash_queue", "Requests that wait to hash a password.", func() float64 { return float64(waiting()) })
}

// WatchKeys shows the timetable of the keys. It is called once.
func (m *Metrics) WatchKeys(status func() (keys.Status, error)) {
	m.registry.MustRegister(timetable{status})
}

// WatchFeed shows what this node holds of the revocation feed, and how old that
// is. It is called once.
func (m *Metrics) WatchFeed(status func() revocation.Status) {
	m.gauge("authserver_revocation_feed_age_seconds", "Since when this node has not read the revocation feed; below 1 while it does.", func() float64 { return status().Age.Seconds() })
	m.gauge("authserver_revocation_feed_entries", "Entries of the revocation feed that have not passed.", func() float64 { return float64(status().Entries) })
	m.gauge("authserver_revocation_feed_streams", "Readers that follow the revocation feed on this node by events.", func() float64 { return float64(status().Streams) })
	m.gauge("authserver_revocation_feed_seq", "The newest number of the revocation feed that this node holds.", func() float64 { return float64(status().Newest) })
}

// timetable is a collector, because keys come and go.
type timetable struct {
	status func() (keys.Status, error)
}

var (
	keyInfo = prometheus.NewDesc("authserver_key_info", "A key of the ring and its state; always 1.", []string{"kid", "alg", "state"}, nil)
	keyAge  = prometheus.NewDesc("authserver_key_age_seconds", "How long a key has been published.", []string{"kid", "alg"}, nil)
)

// Describe implements prometheus.Collector.
func (t timetable) Describe(to chan<- *prometheus.Desc) { to <- keyInfo; to <- keyAge }

// Collect implements prometheus.Collector. A ring that was not read yet shows
// nothing.
func (t timetable) Collect(to chan<- prometheus.Metric) {
	status, err := t.status()
	if err != nil {
		return
	}
	for _, k := range status.Keys {
		to <- prometheus.MustNewConstMetric(keyInfo, prometheus.GaugeValue, 1, k.KID, string(k.Algorithm), string(k.State))
		if k.State == keys.Gone || k.State == keys.Revoked {
			continue
		}
		age := max(0, status.At.Sub(k.PublishedAt))
		to <- prometheus.MustNewConstMetric(keyAge, prometheus.GaugeValue, float64(age)/float64(time.Second), k.KID, string(k.Algorithm))
	}
}

// WatchVerifiers shows which verifiers hold the newest key set, as all nodes
// have seen them, and how many fetches were noted under no verifier of their
// own. It is called once.
func (m *Metrics) WatchVerifiers(evidence func() (keys.Evidence, bool), missed func() uint64) {
	m.registry.MustRegister(readers{evidence})
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "authserver_jwks_fetches_unattributed_total", Help: "Fetches of the key set by verifiers that are not told apart, because there are too many.",
	}, func() float64 { return float64(missed()) }))
}

// readers is a collector, because before the first reading nothing is known.
type readers struct {
	evidence func() (keys.Evidence, bool)
}

var verifierCount = prometheus.NewDesc("authserver_jwks_verifiers", "Verifiers that fetched the key set within 30 days, by the set they hold.", []string{"holds"}, nil)

// Describe implements prometheus.Collector.
func (r readers) Describe(to chan<- *prometheus.Desc) { to <- verifierCount }

// Collect implements prometheus.Collector.
func (r readers) Collect(to chan<- prometheus.Metric) {
	e, ok := r.evidence()
	if !ok {
		return
	}
	for holds, n := range map[keys.Holding]int{keys.HoldsNewest: e.Newest, keys.HoldsOlder: e.Older} {
		to <- prometheus.MustNewConstMetric(verifierCount, prometheus.GaugeValue, float64(n), string(holds))
	}
}
