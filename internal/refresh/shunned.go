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
	mu    sync.Mutex
	until map[id.Family]time.Time
}

func (s *shunned) has(f id.Family, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[f]
	if ok && now.After(until) {
		delete(s.until, f)
		return false
	}
	return ok
}

func (s *shunned) add(f id.Family, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = make(map[id.Family]time.Time)
	}
	if len(s.until) >= shunnedBound {
		for old, until := range s.until {
			if now.After(until) {
				delete(s.until, old)
			}
		}
	}
	if len(s.until) < shunnedBound {
		s.until[f] = now.Add(shunFor)
	}
}
