package obs

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/authserver/internal/refresh"
)

// Build names what is running.
type Build struct {
	Version, Revision, Go string
}

// Metrics are the metrics of one process, in a registry of their own. What
// happens at every refresh was resolved beforehand: an observation is an
// atomic addition. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger

	redeemed   []prometheus.Counter // by refresh.Verdict
	ahead      prometheus.Counter
	spared     *prometheus.CounterVec
	batchSize  prometheus.Histogram
	batchTime  prometheus.Histogram
	batchFails prometheus.Counter

	logins   *prometheus.CounterVec
	hashTime *prometheus.HistogramVec
	shed     prometheus.Counter
	issued   *prometheus.CounterVec
	signTime *prometheus.HistogramVec
	requests *prometheus.HistogramVec

	ring    ringMetrics
	feed    feedMetrics
	learned sync.Mutex
	known   atomic.Pointer[children]
}

// Buckets, in seconds. Refreshes take about a millisecond, hashes tens of them.
var (
	fine   = []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05}
	usual  = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	coarse = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
)

// New returns the metrics. log takes what only an observer sees, such as a key
// ring that cannot be read.
func New(b Build, log *slog.Logger) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), log: log}
	m.known.Store(&children{})
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	build := register(m, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "authserver_build_info", Help: "What is running; always 1.",
	}, []string{"version", "revision", "goversion"}))
	build.WithLabelValues(b.Version, b.Revision, b.Go).Set(1)

	redeemed := register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authserver_refresh_total", Help: "Refresh tokens presented, by what was said about them.",
	}, []string{"outcome"}))
	m.redeemed = make([]prometheus.Counter, len(refresh.Verdicts()))
	for _, v := range refresh.Verdicts() {
		m.redeemed[v] = redeemed.WithLabelValues(v.String())
	}
	m.spared = register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authserver_refresh_spared_total", Help: "Old refresh tokens that did not end their session, answered with 503, by what made the server doubt.",
	}, []string{"doubt"}))
	for _, doubt := range refresh.Doubts() {
		m.spared.WithLabelValues(doubt)
	}
	m.ahead = register(m, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authserver_refresh_ahead_of_store_total", Help: "Rotated tokens newer than the store knew: it has lost acknowledged rotations.",
	}))
	m.batchSize = register(m, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "authserver_refresh_batch_size", Help: "Rotations in one commit.",
		Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
	}))
	m.batchTime = register(m, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "authserver_refresh_batch_seconds", Help: "Time of one batch of rotations, commit included.", Buckets: usual,
	}))
	m.batchFails = register(m, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authserver_refresh_batch_failures_total", Help: "Batches that the database refused or that nobody knows the end of.",
	}))

	m.logins = register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authserver_login_total", Help: "Logins tried, by how they ended.",
	}, []string{"method", "outcome"}))
	m.hashTime = register(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authserver_password_hash_duration_seconds", Help: "Time of one password hash, without waiting.", Buckets: coarse,
	}, []string{"kind"}))
	m.shed = register(m, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authserver_password_hash_shed_total", Help: "Requests refused because the queue for hashing was full.",
	}))
	m.issued = register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authserver_tokens_issued_total", Help: "Tokens handed out.",
	}, []string{"grant", "type", "alg"}))
	m.signTime = register(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authserver_sign_duration_seconds", Help: "Time to make and sign one access token.", Buckets: fine,
	}, []string{"alg"}))
	m.requests = register(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "authserver_http_request_duration_seconds", Help: "Time to answer a request, by route pattern.", Buckets: usual,
	}, []string{"route", "method", "code"}))
	m.ring.register(m)
	m.feed.register(m)
	return m
}

func register[C prometheus.Collector](m *Metrics, c C) C {
	m.registry.MustRegister(c)
	return c
}

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, Timeout: 10 * time.Second})
}

// Registry is where others may add collectors of their own.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }
