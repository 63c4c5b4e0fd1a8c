package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/authserver/internal/id"
)

// queueBound is how many rotations may wait; more are refused at once, because
// a queue longer than this answers nobody in time.
const queueBound = 4096

// batchPatience is how long a batch may go without an answer before it is
// given up as unknown. The statement itself is never cancelled.
const batchPatience = 15 * time.Second

// errUnanswered says that a member has waited for batchPatience, for the batch it is
// in, which is then unknown, or for its turn. It is no news of an outage: the one who
// sent the batch brings that.
var errUnanswered = fmt.Errorf("the store has not answered in %s", batchPatience)

var errQueueFull = fmt.Errorf("refresh queue is full (%d waiting)", queueBound)

// errAlone tells a member that its batch did not decide it.
var errAlone = errors.New("judge alone")

// queue turns rotations that arrive while a batch is under way into the next
// batch. There is no timer and no goroutine of its own: whoever finds a free
// flight flies at once, on its own goroutine, with itself as the whole batch;
// whoever lands hands the flight to the first in the queue, who takes the rest
// along. A family whose rotation is under way waits for that: the next flight would meet
// its locked row, and all the others in it with it.
type queue struct {
	store    Store
	limits   BatchLimits
	observer Observer
	clock    func() time.Time
	took     func(from, until time.Time, err error) // told of each batch, by that clock

	mu      sync.Mutex
	flying  int
	waiting []*seat
	air     map[id.Family]int // how many seats of a family fly
	behind  map[id.Family]int // how many wait because of that
}

// mostBehind is how many may wait for the flight of one family: more than a hundred tabs
// that wake together, and far less than the queue has room for, which is for all.
const mostBehind = queueBound / 4

// seat is one member's place. Everything in it is written before landed is
// signalled, by the goroutine that flies the batch.
type seat struct {
	call    Call
	behind  bool // it waits for the flight of its family
	tired   *time.Timer
	landed  chan struct{} // signalled once to wake: decided, or chosen to fly
	flight  []*seat       // set when this seat was chosen to fly the next batch
	outcome *Outcome
	err     error
}

var seats = sync.Pool{New: func() any { return &seat{landed: make(chan struct{}, 1)} }}

// rotate returns the outcome of one rotation, errAlone when the batch left it
// undecided, ErrRefused when the database refused the batch or its row is held, errQueueFull, or
// trouble. It does not watch a context: what was sent is waited for, but not
// longer than batchPatience, except by whoever sent it.
func (q *queue) rotate(c Call) (Outcome, error) {
	s := seats.Get().(*seat)
	s.call = c
	if err := q.board(s); err != nil {
		return Outcome{}, err // the seat is not used again: its flight may still be under way
	}
	out, err := s.outcome, s.err
	*s = seat{landed: s.landed, tired: s.tired}
	seats.Put(s)
	if err != nil {
		return Outcome{}, err
	}
	if out == nil {
		return Outcome{}, errAlone
	}
	return *out, nil
}

func (q *queue) board(s *seat) error {
	q.mu.Lock()
	family := s.call.Attempt.Family
	if q.flying < q.limits.InFlight && q.air[family] == 0 {
		q.flying++
		q.air[family]++
		q.mu.Unlock()
		q.fly([]*seat{s})
		return nil
	}
	if len(q.waiting) >= queueBound || q.behind[family] >= mostBehind {
		q.mu.Unlock()
		return errQueueFull
	}
	if q.air[family] > 0 {
		q.behind[family]++
		s.behind = true
	}
	q.waiting = append(q.waiting, s)
	q.mu.Unlock()

	if !q.landed(s) {
		return errUnanswered
	}
	if s.flight != nil {
		q.fly(s.flight)
	}
	return nil
}

// landed waits until s has landed or was chosen to fly, and reports whether it did
// so in time. A disk can hold a COMMIT for minutes: whoever waits for it, or behind
// it, is told that it is unknown, and comes back with the same token.
func (q *queue) landed(s *seat) bool {
	if s.tired == nil {
		s.tired = time.NewTimer(batchPatience)
	} else {
		s.tired.Reset(batchPatience)
	}
	defer s.tired.Stop()
	select {
	case <-s.landed:
		return true
	case <-s.tired.C:
	}
	q.mu.Lock()
	chosen := s.flight != nil // others depend on it
	if i := slices.Index(q.waiting, s); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.leaves(s)
	}
	q.mu.Unlock()
	if chosen {
		<-s.landed
	}
	return chosen
}

// fly commits one batch and then hands the flight on. flight[0] is the seat of
// the calling goroutine; the others sleep until they are woken.
func (q *queue) fly(flight []*seat) {
	decided := false
	defer func() {
		if !decided { // a panic in the store must not leave the others asleep
			for _, s := range flight {
				s.err = errors.New("the batch was abandoned by a panic")
			}
		}
		q.handOn(flight)
		for _, s := range flight[1:] {
			s.landed <- struct{}{}
		}
	}()

	members := boarded(flight)
	calls := make([]Call, len(members))
	for i, s := range members {
		calls[i] = s.call
	}
	ctx, cancel := context.WithTimeout(context.Background(), batchPatience)
	defer cancel()
	begun, from := time.Now(), q.clock()
	outcomes, err := q.store.RotateBatch(ctx, calls)
	q.observer.BatchDone(len(calls), time.Since(begun), err)
	q.took(from, q.clock(), err) // before anybody is woken, or judged who came behind
	decided = true
	if errors.Is(err, ErrRefused) {
		members = flight // those set aside are of the same families: as suspect
	}
	for i, s := range members {
		if s.err = err; err == nil {
			s.outcome = outcomes[i]
		}
	}
	suspectHeld(flight)
}

// suspectHeld has those judged alone as suspects whose row is held, and those of the same
// family that were set aside.
func suspectHeld(flight []*seat) {
	var held []id.Family
	for _, s := range flight {
		if s.outcome == Held {
			held = append(held, s.call.Attempt.Family)
		}
	}
	if held == nil {
		return
	}
	for _, s := range flight {
		if slices.Contains(held, s.call.Attempt.Family) {
			s.outcome, s.err = nil, ErrRefused
		}
	}
}

// boarded returns the members that go into the statement: the first of each
// family. The others of a family are judged alone afterwards, by their own
// proof; their outcome stays nil.
func boarded(flight []*seat) []*seat {
	if len(flight) == 1 {
		return flight
	}
	members := make([]*seat, 0, len(flight))
	seen := make(map[[16]byte]struct{}, len(flight))
	for _, s := range flight {
		if _, twice := seen[s.call.Attempt.Family]; twice {
			continue
		}
		seen[s.call.Attempt.Family] = struct{}{}
		members = append(members, s)
	}
	return members
}

// handOn gives the free flight to the first in the queue whose family is not in the air,
// who flies with as many others as a batch takes, or lets it go.
func (q *queue) handOn(landed []*seat) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range landed {
		f := s.call.Attempt.Family
		if q.air[f]--; q.air[f] == 0 {
			delete(q.air, f)
		}
	}
	next := q.takeWaiting()
	if len(next) == 0 {
		q.flying-- // whoever waits still waits for a flight that will come here
		return
	}
	for _, s := range next {
		q.air[s.call.Attempt.Family]++
	}
	next[0].flight = next
	next[0].landed <- struct{}{} // it has room for one
}

// leaves notes that a seat waits no more.
func (q *queue) leaves(s *seat) {
	if !s.behind {
		return
	}
	s.behind = false
	f := s.call.Attempt.Family
	if q.behind[f]--; q.behind[f] == 0 {
		delete(q.behind, f)
	}
}

// takeWaiting takes the next batch out of the queue.
func (q *queue) takeWaiting() []*seat {
	n := min(len(q.waiting), q.limits.Size)
	next, left := make([]*seat, 0, n), q.waiting[:0]
	for _, s := range q.waiting {
		if len(next) < n && q.air[s.call.Attempt.Family] == 0 {
			next = append(next, s)
			q.leaves(s)
		} else {
			left = append(left, s)
		}
	}
	clear(q.waiting[len(left):])
	q.waiting = left
	return next
}
