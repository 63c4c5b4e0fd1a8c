package httpd

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/keys"
)

// health answers whether this node lives and whether it should get requests.
type health struct {
	ring     *keys.Ring
	ping     func(context.Context) error
	draining *atomic.Bool

	mu      sync.Mutex // one question to the database at a time
	askedAt time.Time
	answer  error
}

const (
	pingPatience = time.Second
	pingEvery    = 250 * time.Millisecond // however many probes ask
)

// check is one line of the verbose answer.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

type report struct {
	Status string  `json:"status"`
	Checks []check `json:"checks,omitempty"`
}

// live is GET /livez: the process answers. A database that is away is no reason
// to restart it.
func (*health) live(_ *wire.Scope, w http.ResponseWriter, _ *http.Request) error {
	return wire.WriteJSON(w, http.StatusOK, report{Status: "ok"})
}

// ready is GET /readyz: this node can sign, reaches its database and is not
// about to stop. With ?verbose it lists the checks; a 503 lists them always, and
// tells whoever asks from this machine what is wrong.
func (h *health) ready(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	var stopping error
	if h.draining.Load() {
		stopping = errors.New("this node is draining")
	}
	rep := report{Status: "ready"}
	for _, c := range []struct {
		name string
		err  error
	}{{"keys", h.ring.Ready()}, {"database", h.database(r.Context())}, {"running", stopping}} {
		line := check{Name: c.name, OK: c.err == nil}
		if c.err != nil {
			// It names the database's host and user: that is for those who are on this
			// machine, and for the log.
			if onLoopback(r.RemoteAddr) {
				line.Reason = reasonOf(c.err)
			}
			rep.Status = "not_ready"
			s.Reason, s.Err = "not_ready", errors.Join(s.Err, c.err)
		}
		rep.Checks = append(rep.Checks, line)
	}
	if rep.Status != "ready" {
		w.Header().Set("Retry-After", "1")
		return wire.WriteJSON(w, http.StatusServiceUnavailable, rep)
	}
	if !r.URL.Query().Has("verbose") {
		rep.Checks = nil
	}
	return wire.WriteJSON(w, http.StatusOK, rep)
}

// reasonOf leaves out what a fault would tell a client.
func reasonOf(err error) string {
	if cause := errors.Unwrap(fault.Of(err)); cause != nil {
		err = cause
	}
	return err.Error()
}

// database asks the database, or repeats an answer that is still warm.
func (h *health) database(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.askedAt) < pingEvery {
		return h.answer
	}
	// Another probe may want the answer when this one has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingPatience)
	defer cancel()
	h.answer = h.ping(ctx)
	h.askedAt = time.Now()
	return h.answer
}
