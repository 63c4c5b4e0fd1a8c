package refresh

import (
	"sync"
	"time"

	"example.com/authserver/internal/id"
)

// shunFor is how long a family stays out of batches after its row was found
// locked. Without this, the retries of its client would spoil a batch each.
const shunFor = 5 * time.Second

// shunnedBound caps the set; beyond it nothing more is shunned.
const shunnedBound = 1024

// shunned is the set of families that are judged alone for a while.
type shunned struct {
	mu sync.Mutex
	by map[id.Family]Outage // when its row was found locked first and last, without a pause
}

func (s *shunned) has(f id.Family, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	locked, ok := s.by[f]
	return ok && now.Sub(locked.Until).Abs() <= shunFor
}

// add notes that the row of f was locked from until now, in vain waited for.
func (s *shunned) add(f id.Family, from, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[id.Family]Outage)
	}
	if locked, ok := s.by[f]; ok && from.Sub(locked.Until).Abs() <= patience {
		from = locked.From
	} else if len(s.by) >= shunnedBound {
		for old, locked := range s.by {
			if now.Sub(locked.Until).Abs() > shunFor { // also where a clock was set back meanwhile
				delete(s.by, old)
			}
		}
	}
	if _, ok := s.by[f]; ok || len(s.by) < shunnedBound {
		s.by[f] = Outage{from, now}
	}
}

// locked returns the span in which the row of f was locked until lately: an outage
// for this family alone. A commit that hangs on a standby or a disk holds the row
// until it is visible, and dates the head from when it began.
func (s *shunned) locked(f id.Family, now time.Time) (span Outage, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	span, ok = s.by[f]
	if ok && now.Sub(span.Until).Abs() > patience {
		delete(s.by, f)
		return Outage{}, false
	}
	return span, ok
}
