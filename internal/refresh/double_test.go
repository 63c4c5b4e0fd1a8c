package refresh

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
)

// scripted stands in for a store where only the queue's mechanics are tested;
// real stores are tested by storetest.
type scripted struct {
	limits BatchLimits
	batch  func(ctx context.Context, calls []Call) ([]*Outcome, error)
	redeem func(ctx context.Context, c Call, wait time.Duration) (Outcome, error)
	family *Family
	find   error

	mu      sync.Mutex
	batches [][]Call
	alone   []Call
	air     map[id.Family]bool
	// overlaps counts the members whose family was in another batch at that time.
	overlaps int
}

func (s *scripted) BatchLimits() BatchLimits { return s.limits }

func (s *scripted) RotateBatch(ctx context.Context, calls []Call) ([]*Outcome, error) {
	s.mu.Lock()
	s.batches = append(s.batches, calls)
	s.mark(calls, true)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mark(calls, false)
	}()
	return s.batch(ctx, calls)
}

func (s *scripted) mark(calls []Call, flies bool) {
	if s.air == nil {
		s.air = map[id.Family]bool{}
	}
	for _, c := range calls {
		if flies && s.air[c.Attempt.Family] {
			s.overlaps++
		}
		s.air[c.Attempt.Family] = flies
	}
}

func (s *scripted) Redeem(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
	s.mu.Lock()
	s.alone = append(s.alone, c)
	s.mu.Unlock()
	return s.redeem(ctx, c, wait)
}

func (s *scripted) Family(context.Context, id.Family) (*Family, time.Time, error) {
	return s.family, born, s.find
}

func (s *scripted) Sweep(context.Context, Place, int, Policy, time.Time) (Place, int, error) {
	return Edge, 0, errors.New("the rotator never sweeps")
}

// sizes returns how many members each batch had, in the order they flew.
func (s *scripted) sizes() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n []int
	for _, b := range s.batches {
		n = append(n, len(b))
	}
	return n
}

func (s *scripted) judgedAlone() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.alone)
}

// rotates is what a store answers that finds every member at its head.
func rotates(_ context.Context, calls []Call) ([]*Outcome, error) {
	outcomes := make([]*Outcome, len(calls))
	for i, c := range calls {
		out := headOf(c)
		outcomes[i] = &out
	}
	return outcomes, nil
}

func undecided(_ context.Context, calls []Call) ([]*Outcome, error) {
	return make([]*Outcome, len(calls)), nil
}

func rotatesAlone(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
	return headOf(c), nil
}

func headOf(c Call) Outcome {
	f := living()
	f.ID, f.Generation, f.SecretHash = c.Attempt.Family, c.Attempt.Generation, c.Attempt.SecretHash
	f.HeadKey = c.Attempt.Key
	return Judge(&f, c.Attempt, born.Add(second), c.Policy)
}

// tally counts what an Observer is told.
type tally struct {
	mu       sync.Mutex
	verdicts map[Verdict]int
	reasons  map[Reason]int
	spared   []string
	batches  []int
	troubles int
}

func newTally() *tally { return &tally{verdicts: map[Verdict]int{}, reasons: map[Reason]int{}} }

func (o *tally) Spared(doubt string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spared = append(o.spared, doubt)
}

func (o *tally) Redeemed(v Verdict, r Reason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.verdicts[v]++
	o.reasons[r]++
}

func (o *tally) BatchDone(n int, _ time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.batches = append(o.batches, n)
	if err != nil {
		o.troubles++
	}
}

// rotator returns one over s that counts time as time.Now does, and the
// observer it tells.
func rotator(t *testing.T, s *scripted) (*Rotator, *tally) {
	t.Helper()
	// The seats of earlier tests hold channels of their synctest bubbles.
	seats = sync.Pool{New: seats.New}
	t.Cleanup(func() { seats = sync.Pool{New: seats.New} })
	o := newTally()
	return NewRotator(s, newRing(7), func(string) Policy { return strict() }, wall{}, o), o
}

// wall is a Clock that runs.
type wall struct{}

func (wall) Now() time.Time      { return time.Now() }
func (wall) Leap() time.Duration { return 0 }

// holding returns the genuine token of generation 5 of the n-th family.
func holding(n int) Presentation {
	token := someToken(5, 7)
	token.family[0], token.family[1], token.family[2] = byte(n), byte(n>>8), byte(n>>16)
	return Presentation{
		Token: secret.NewText(token.spell(rootOf(7))), Client: "first-party", Transport: InBody,
		UserAgent: "phone/1.0", IP: "192.0.2.1", RequestID: "req-1",
	}
}
