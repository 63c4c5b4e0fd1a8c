package obs

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/authserver/internal/keys"
)

var _ keys.Observer = (*Metrics)(nil)

// ringMetrics tell whether this node keeps up with the key ring.
type ringMetrics struct {
	readTime  prometheus.Histogram
	readFails prometheus.Counter
	offset    prometheus.Gauge
	changes   *prometheus.CounterVec
	failing   atomic.Bool // the last read failed and the log knows
}

func (r *ringMetrics) register(m *Metrics) {
	r.readTime = register(m, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "authserver_key_ring_read_seconds", Help: "Time of one read of the key ring.", Buckets: usual,
	}))
	r.readFails = register(m, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "authserver_key_ring_read_failures_total", Help: "Reads of the key ring that failed.",
	}))
	r.offset = register(m, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "authserver_clock_offset_seconds", Help: "How far the store's clock is ahead of this node's.",
	}))
	r.changes = register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "authserver_key_ring_changes_total", Help: "Steps of the key plan that this node tried to carry out.",
	}, []string{"step", "result"}))
}

// RingRead implements keys.Observer. The log is told when reading begins to
// fail and when it works again, not of every second in between.
func (m *Metrics) RingRead(took, offset time.Duration, err error) {
	m.ring.readTime.Observe(took.Seconds())
	if err != nil {
		m.ring.readFails.Inc()
		if !m.ring.failing.Swap(true) {
			m.log.Warn("the key ring cannot be read; this node signs with what it knows for a while longer",
				"event", "key_ring_read", "outcome", "trouble", "for", keys.FreshFor.String(), "error", err.Error())
		}
		return
	}
	m.ring.offset.Set(offset.Seconds())
	if m.ring.failing.Swap(false) {
		m.log.Info("the key ring is read again", "event", "key_ring_read", "outcome", "ok")
	}
}

// RingChanged implements keys.Observer.
func (m *Metrics) RingChanged(steps []keys.Step, err error) {
	result, level := "done", slog.LevelInfo
	switch {
	case errors.Is(err, keys.ErrRingChanged):
		result, level = "other_was_first", slog.LevelDebug
	case err != nil:
		result, level = "failed", slog.LevelWarn
	}
	if len(steps) == 0 && err != nil {
		m.log.Warn("the key plan was not carried out", "event", "key_ring_change", "outcome", result, "error", err.Error())
	}
	for _, s := range steps {
		m.ring.changes.WithLabelValues(string(s.Do), result).Inc()
		attributes := []any{"event", "key_ring_change", "outcome", result, "step", string(s.Do), "key", s.Key.Name().String(), "why", s.Why}
		if err != nil {
			attributes = append(attributes, "error", err.Error())
		}
		m.log.Log(context.Background(), level, "a step of the key plan", attributes...)
	}
}
