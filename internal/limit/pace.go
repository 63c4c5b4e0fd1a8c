package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Pace bounds how often something of one key may happen in this process. It
// keeps floods off the database and is no security counter. Its memory is
// bounded by two generations of keys: when the young one is full, the old one
// is forgotten. It is safe for concurrent use.
type Pace[Key comparable] struct {
	rate  rate.Limit
	burst int

	mu         sync.Mutex
	young, old map[Key]*rate.Limiter
}

// paceKeys is how many keys one generation holds.
const paceKeys = 32768

// NewPace returns a pace of perSecond in the long run and burst at once.
func NewPace[Key comparable](perSecond float64, burst int) *Pace[Key] {
	return &Pace[Key]{rate: rate.Limit(perSecond), burst: burst, young: map[Key]*rate.Limiter{}}
}

// Wait counts an event and returns 0, or returns how long the key must wait and
// counts nothing.
func (p *Pace[Key]) Wait(key Key, now time.Time) time.Duration {
	reservation := p.limiter(key).ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay > 0 {
		reservation.CancelAt(now)
	}
	return delay
}

// Keys returns how many keys are remembered.
func (p *Pace[Key]) Keys() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.young) + len(p.old)
}

func (p *Pace[Key]) limiter(key Key) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.young[key]; l != nil {
		return l
	}
	l := p.old[key]
	if l == nil {
		l = rate.NewLimiter(p.rate, p.burst)
	}
	if len(p.young) >= paceKeys {
		p.young, p.old = map[Key]*rate.Limiter{}, p.young
	}
	p.young[key] = l
	return l
}
