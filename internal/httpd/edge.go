package httpd

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
)

// edge bounds the requests of one network. It keeps floods off the database and
// is no security counter: those live in the store, where every node sees them.
// Its memory is bounded by two generations of networks: when the young one is
// full, the old one is forgotten.
type edge struct {
	rate  rate.Limit
	burst int

	mu         sync.Mutex
	young, old map[string]*rate.Limiter
}

const edgeNetworks = 32768 // in one generation

func newEdge(perSecond float64, burst int) *edge {
	return &edge{rate: rate.Limit(perSecond), burst: burst, young: map[string]*rate.Limiter{}}
}

// wait counts a request and returns how long its network must wait; 0 if it may
// pass.
func (e *edge) wait(network string, now time.Time) time.Duration {
	l := e.limiter(network)
	reservation := l.ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay > 0 {
		reservation.CancelAt(now)
	}
	return delay
}

func (e *edge) limiter(network string) *rate.Limiter {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.young[network]; l != nil {
		return l
	}
	l := e.old[network]
	if l == nil {
		l = rate.NewLimiter(e.rate, e.burst)
	}
	if len(e.young) >= edgeNetworks {
		e.young, e.old = map[string]*rate.Limiter{}, e.young
	}
	e.young[network] = l
	return l
}

// edgeLimit stands before every endpoint but two: refreshes are limited by
// family and never by address, because a school is one address, and the key set
// is a memory copy that verifiers must always get.
//
// There is no limit of one family either: a family has one client, a repeated
// token costs one read, and a limit would answer 429 to a hundred tabs that
// wake at once.
func (s *Server) edgeLimit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.Path; path != refreshPath && path != jwksPath {
			scope := wire.Of(r)
			if wait := s.edge.wait(scope.Network(), scope.Begun); wait > 0 {
				scope.Fail(w, fault.New(fault.TooManyRequests, "This network sends too many requests.").After(wait).WithReason("edge"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
