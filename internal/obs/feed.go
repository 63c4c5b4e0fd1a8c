package obs

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/authserver/internal/revocation"
)

var _ revocation.Observer = (*Metrics)(nil)

// feedMetrics tell whether this node keeps up with the revocation feed.
type feedMetrics struct {
	readTime  prometheus.Histogram
	readFails prometheus.Counter
	failing   atomic.Bool // the last read failed and the log knows
}

func (f *feedMetrics) register(m *Metrics) {
	f.readTime = register(m, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "authserver_revocation_feed_read_seconds", Help: "Time of one read of the revocation feed.", Buckets: usual,
	}))
	f.readFails = register(m, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authserver_revocation_feed_read_failures_total", Help: "Reads of the revocation feed that failed.",
	}))
}

// FeedRead implements revocation.Observer. The log is told when reading begins
// to fail and when it works again.
func (m *Metrics) FeedRead(took time.Duration, err error) {
	m.feed.readTime.Observe(took.Seconds())
	if err != nil {
		m.feed.readFails.Inc()
		if !m.feed.failing.Swap(true) {
			m.log.Warn("the revocation feed cannot be read; this node goes on telling what it holds, and since when",
				"event", "revocation_feed_read", "outcome", "trouble", "error", err.Error())
		}
		return
	}
	if m.feed.failing.Swap(false) {
		m.log.Info("the revocation feed is read again", "event", "revocation_feed_read", "outcome", "ok")
	}
}
