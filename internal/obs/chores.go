package obs

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Chores are the metrics and the log of housekeeping. They implement the
// Observer of package jobs.
type Chores struct {
	log   *slog.Logger
	took  *prometheus.HistogramVec
	fails *prometheus.CounterVec
	swept *prometheus.CounterVec
}

// NewChores adds them to m's registry. It is called once.
func NewChores(m *Metrics) *Chores {
	return &Chores{
		log: m.log,
		took: register(m, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "authserver_job_duration_seconds", Help: "Time of one piece of housekeeping.", Buckets: usual,
		}, []string{"job"})),
		fails: register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authserver_job_failures_total", Help: "Pieces of housekeeping that failed.",
		}, []string{"job"})),
		swept: register(m, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "authserver_swept_rows_total", Help: "Rows deleted because they had served their time.",
		}, []string{"table"})),
	}
}

// JobDone implements jobs.Observer.
func (c *Chores) JobDone(name string, took time.Duration, err error) {
	c.took.WithLabelValues(name).Observe(took.Seconds())
	if err != nil {
		c.fails.WithLabelValues(name).Inc()
		c.log.Error("housekeeping failed and is tried again", "event", "job_failed", "job", name, "error", err.Error())
	}
}

// Swept reports how many rows of a table were deleted.
func (c *Chores) Swept(table string, rows int) {
	c.swept.WithLabelValues(table).Add(float64(rows))
}
