package refresh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/fault"
)

// gate lets a test hold batches in the air.
type gate chan struct{}

func (g gate) holds(then func(context.Context, []Call) ([]*Outcome, error)) func(context.Context, []Call) ([]*Outcome, error) {
	return func(ctx context.Context, calls []Call) ([]*Outcome, error) {
		<-g
		return then(ctx, calls)
	}
}

// crowd redeems for the given families at once, one after the other in the
// queue, and returns the function that waits for all answers.
func crowd(t *testing.T, r *Rotator, families ...int) func() ([]Redemption, []error) {
	t.Helper()
	answers, errs := make([]Redemption, len(families)), make([]error, len(families))
	var all sync.WaitGroup
	for i, n := range families {
		all.Go(func() { answers[i], errs[i] = r.Redeem(t.Context(), holding(n)) })
		synctest.Wait()
	}
	return func() ([]Redemption, []error) {
		all.Wait()
		return answers, errs
	}
}

func upTo(first, n int) []int {
	var list []int
	for i := range n {
		list = append(list, first+i)
	}
	return list
}

func allRotated(t *testing.T, answers []Redemption, errs []error) {
	t.Helper()
	for i := range answers {
		if errs[i] != nil || answers[i].Verdict != Rotated {
			t.Errorf("member %d: %s, %v; want rotated", i, answers[i].Verdict, errs[i])
			continue
		}
		if token, err := Parse(t.Context(), newRing(7), answers[i].Token.Reveal()); err != nil || token.generation != 6 || token.family != answers[i].Family {
			t.Errorf("member %d was answered with generation %d of family %s (%v)", i, token.generation, token.family, err)
		}
	}
}

func TestQueue_aLoneRequestIsItsOwnBatch(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 64, InFlight: 2}, batch: rotates}
	r, o := rotator(t, s)
	for n := range 3 {
		got, err := r.Redeem(t.Context(), holding(n))
		allRotated(t, []Redemption{got}, []error{err})
	}
	if diff := cmp.Diff([]int{1, 1, 1}, s.sizes()); diff != "" {
		t.Errorf("batches (-want +got)\n%s", diff)
	}
	if o.verdicts[Rotated] != 3 || len(o.batches) != 3 {
		t.Errorf("observer was told of %d rotations in %v", o.verdicts[Rotated], o.batches)
	}
}

func TestQueue_whatArrivesDuringAFlightIsTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}, batch: hold.holds(rotates)}
		r, o := rotator(t, s)
		answers := crowd(t, r, upTo(0, 11)...)
		if diff := cmp.Diff([]int{1}, s.sizes()); diff != "" {
			t.Fatalf("in the air (-want +got)\n%s", diff)
		}
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
		if diff := cmp.Diff([]int{1, 10}, o.batches); diff != "" {
			t.Errorf("batches (-want +got)\n%s", diff)
		}
		if again, err := r.Redeem(t.Context(), holding(20)); err != nil || again.Verdict != Rotated {
			t.Errorf("after the rush: %s, %v", again.Verdict, err)
		}
	})
}

func TestQueue_aBatchTakesAtMostItsSizeInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 4, InFlight: 1}, batch: hold.holds(rotates)}
		r, _ := rotator(t, s)
		answers := crowd(t, r, upTo(0, 11)...)
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
		if diff := cmp.Diff([]int{1, 4, 4, 2}, s.sizes()); diff != "" {
			t.Fatalf("batches (-want +got)\n%s", diff)
		}
		arrived := 0
		for _, batch := range s.batches {
			for _, c := range batch {
				if int(c.Attempt.Family[0]) != arrived {
					t.Fatalf("family %d flew in place %d", c.Attempt.Family[0], arrived)
				}
				arrived++
			}
		}
	})
}

func TestQueue_aSizeOfOneSwitchesBatchingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: hold.holds(rotates)}
		r, _ := rotator(t, s)
		answers := crowd(t, r, upTo(0, 5)...)
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
		if diff := cmp.Diff([]int{1, 1, 1, 1, 1}, s.sizes()); diff != "" {
			t.Errorf("batches (-want +got)\n%s", diff)
		}
	})
}

func TestQueue_asManyFlightsAsTheStoreLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 2}, batch: hold.holds(rotates)}
		r, _ := rotator(t, s)
		answers := crowd(t, r, upTo(0, 7)...)
		if diff := cmp.Diff([]int{1, 1}, s.sizes()); diff != "" {
			t.Fatalf("in the air (-want +got)\n%s", diff)
		}
		hold <- struct{}{} // one lands, and hands its flight to all that wait
		synctest.Wait()
		if diff := cmp.Diff([]int{1, 1, 5}, s.sizes()); diff != "" {
			t.Fatalf("in the air (-want +got)\n%s", diff)
		}
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
	})
}

// A second flight with a family of the first would wait for its row, in vain while a
// commit takes its time, and the database would refuse all the strangers in it.
func TestQueue_aFamilyInTheAirWaitsForItsFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 2}, batch: hold.holds(rotates)}
		r, _ := rotator(t, s)
		s.redeem = rotatesAlone
		answers := crowd(t, r, 0, 0, 1, 0, 2, 3)
		if diff := cmp.Diff([]int{1, 1}, s.sizes()); diff != "" {
			t.Fatalf("in the air, of 0 and 1 (-want +got)\n%s", diff)
		}
		for range 2 {
			hold <- struct{}{} // either lands
			synctest.Wait()
		}
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
		if len(r.queue.air) > 0 || len(r.queue.behind) > 0 || r.queue.flying != 0 || len(r.queue.waiting) > 0 {
			t.Errorf("afterwards %v in the air, %d flights, %d wait", r.queue.air, r.queue.flying, len(r.queue.waiting))
		}
		if s.overlaps > 0 {
			t.Errorf("a family was in two flights at once %d times", s.overlaps)
		}
	})
}

func TestQueue_ofEqualTokensTheFirstIsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		var onTheirOwn atomic.Int32
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}, batch: hold.holds(rotates)}
		s.redeem = func(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
			onTheirOwn.Add(1)
			return rotatesAlone(ctx, c, wait)
		}
		r, _ := rotator(t, s)
		answers := crowd(t, r, 0, 1, 2, 1, 1, 3, 2)
		close(hold)
		got, errs := answers()
		allRotated(t, got, errs)
		if diff := cmp.Diff([]int{1, 3}, s.sizes()); diff != "" {
			t.Errorf("batches (-want +got)\n%s", diff)
		}
		if onTheirOwn.Load() != 3 {
			t.Errorf("%d judged alone, want the 3 that were not first", onTheirOwn.Load())
		}
	})
}

func TestQueue_whatTheBatchLeavesUndecidedIsJudgedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most, inside atomic.Int32
		hold, alone := make(gate), make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}, batch: hold.holds(undecided)}
		s.redeem = func(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
			most.Store(max(most.Load(), inside.Add(1)))
			defer inside.Add(-1)
			<-alone
			if wait != 2*time.Second {
				t.Errorf("waits %s for the lock, want 2s", wait)
			}
			return rotatesAlone(ctx, c, wait)
		}
		r, o := rotator(t, s)
		answers := crowd(t, r, upTo(0, 40)...)
		close(hold)
		synctest.Wait()
		if most.Load() != aloneAtOnce {
			t.Errorf("%d judged alone at once, want %d", most.Load(), aloneAtOnce)
		}
		close(alone)
		got, errs := answers()
		allRotated(t, got, errs)
		if o.verdicts[Rotated] != 40 || s.judgedAlone() != 40 {
			t.Errorf("%d judged alone, observer was told of %d, want 40", s.judgedAlone(), o.verdicts[Rotated])
		}
	})
}

func TestQueue_aLockedFamilyStaysOutOfBatchesForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locked := true
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			for _, c := range calls {
				if locked && c.Attempt.Family[0] == 1 {
					return nil, ErrRefused
				}
			}
			return rotates(ctx, calls)
		}
		s.redeem = func(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
			if locked {
				time.Sleep(wait)
				return Outcome{}, ErrLocked
			}
			return rotatesAlone(ctx, c, wait)
		}
		r, _ := rotator(t, s)
		for range 2 { // the first spoils a batch, the second no more
			if _, err := r.Redeem(t.Context(), holding(1)); !errors.Is(err, ErrLocked) {
				t.Fatalf("while it is locked: %v", err)
			}
		}
		if n := len(s.sizes()); n != 1 {
			t.Fatalf("%d batches saw the locked family, want 1", n)
		}
		if _, err := r.Redeem(t.Context(), holding(2)); err != nil || len(s.sizes()) != 2 {
			t.Errorf("another family: %v after %v", err, s.sizes())
		}

		locked = false
		time.Sleep(shunFor)
		if _, err := r.Redeem(t.Context(), holding(1)); err != nil || len(s.sizes()) != 2 {
			t.Errorf("%s after it was found locked: %v, batches %v; want it judged alone", shunFor, err, s.sizes())
		}
		time.Sleep(time.Nanosecond)
		if _, err := r.Redeem(t.Context(), holding(1)); err != nil || len(s.sizes()) != 3 {
			t.Errorf("after that: %v, batches %v; want it batched again", err, s.sizes())
		}
	})
}

func TestShunned_isBoundedAndForgets(t *testing.T) {
	var s shunned
	family := func(n int) (f [16]byte) { f[0], f[1] = byte(n), byte(n>>8); return f }
	for n := range shunnedBound + 10 {
		s.add(family(n), born, born)
	}
	if len(s.by) != shunnedBound {
		t.Errorf("%d families shunned, want at most %d", len(s.by), shunnedBound)
	}
	if !s.has(family(0), born.Add(shunFor)) || s.has(family(shunnedBound+5), born) {
		t.Error("the bound pushed an old one out, or let a new one in")
	}
	s.add(family(5000), born.Add(shunFor), born.Add(shunFor+1))
	if len(s.by) != 1 || !s.has(family(5000), born.Add(shunFor+1)) || s.has(family(0), born.Add(shunFor+1)) {
		t.Errorf("%d shunned when all but one are over", len(s.by))
	}
	again := born.Add(shunFor + patience)
	s.add(family(5000), again, again.Add(second))
	if got, ok := s.locked(family(5000), again.Add(patience)); !ok || got != (Outage{born.Add(shunFor), again.Add(second)}) {
		t.Errorf("found locked twice: %v, %t; want it taken for one span", got, ok)
	}
	if _, ok := s.locked(family(5000), born.Add(time.Hour)); ok || s.has(family(5000), born.Add(time.Hour)) || len(s.by) != 0 {
		t.Error("one that is over is still there after it was asked for")
	}
	// Found locked while the clock was ahead, which has come back since.
	s.add(family(7), born.Add(time.Hour), born.Add(time.Hour))
	if s.has(family(7), born) {
		t.Error("shunned until the clock is as far as it was")
	}
	s.add(family(7), born, born.Add(second))
	if got, ok := s.locked(family(7), born.Add(second)); !ok || got != (Outage{born, born.Add(second)}) {
		t.Errorf("found locked again when the clock was back: %v, %t", got, ok)
	}
	s.add(family(8), born.Add(time.Hour), born.Add(time.Hour))
	if got, ok := s.locked(family(8), born); ok {
		t.Errorf("locked in an hour's time: %v", got)
	}
}

func TestQueue_isFullAtItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 4096, InFlight: 1}, batch: hold.holds(rotates)}
		r, _ := rotator(t, s)
		var all sync.WaitGroup
		var failed atomic.Int32
		redeem := func(n int) {
			if _, err := r.Redeem(t.Context(), holding(n)); err != nil {
				failed.Add(1)
			}
		}
		for n := range 4096 + 1 { // one in the air
			all.Go(func() { redeem(n) })
		}
		synctest.Wait()
		before := time.Now()
		_, err := r.Redeem(t.Context(), holding(5000))
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, errQueueFull) {
			t.Errorf("beyond the bound: %v", err)
		}
		if fault.Of(err).RetryAfter < time.Second {
			t.Errorf("asks to come back after %s", fault.Of(err).RetryAfter)
		}
		if !time.Now().Equal(before) {
			t.Error("the refusal took time")
		}
		if o := r.outages.seen(); len(o) != 0 {
			t.Errorf("a full queue counts as an outage of the store: %v", o)
		}
		close(hold)
		all.Wait()
		if failed.Load() != 0 {
			t.Errorf("%d of those within the bound failed", failed.Load())
		}
		if diff := cmp.Diff([]int{1, 4096}, s.sizes()); diff != "" {
			t.Errorf("batches (-want +got)\n%s", diff)
		}
	})
}

func TestQueue_aPanicInTheStoreWakesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = hold.holds(func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			if calls[0].Attempt.Family[0] == 1 {
				panic("index out of range")
			}
			return rotates(ctx, calls)
		})
		s.redeem = rotatesAlone
		r, _ := rotator(t, s)

		var panicked, troubled, answered atomic.Int32
		var all sync.WaitGroup
		for _, n := range []int{0, 1, 2, 3, 2, 4} { // 0 flies, 1 leads the batch that panics
			all.Go(func() {
				defer func() {
					if recover() != nil {
						panicked.Add(1)
					}
				}()
				switch _, err := r.Redeem(t.Context(), holding(n)); {
				case fault.Is(err, fault.Unavailable):
					troubled.Add(1)
				case err == nil:
					answered.Add(1)
				default:
					t.Errorf("family %d: %v", n, err)
				}
			})
			synctest.Wait()
		}
		close(hold)
		all.Wait()
		if panicked.Load() != 1 || troubled.Load() != 4 || answered.Load() != 1 {
			t.Errorf("%d panicked, %d were told of trouble, %d answered; want 1, 4, 1", panicked.Load(), troubled.Load(), answered.Load())
		}
		if got, err := r.Redeem(t.Context(), holding(9)); err != nil || got.Verdict != Rotated {
			t.Errorf("the flight did not come back from the panic: %s, %v", got.Verdict, err)
		}
	})
}

func TestQueue_noRequestCancelsTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			begun := time.Now()
			if until, ok := ctx.Deadline(); !ok || until.Sub(begun) != 15*time.Second {
				t.Errorf("the batch is given up after %s, want 15s", until.Sub(begun))
			}
			<-hold
			if ctx.Err() != nil {
				t.Errorf("the batch was cancelled: %v", ctx.Err())
			}
			return rotates(ctx, calls)
		}
		r, _ := rotator(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for n := range 3 { // one in the air, two in the queue
			all.Go(func() {
				got, err := r.Redeem(ctx, holding(n))
				allRotated(t, []Redemption{got}, []error{err})
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		close(hold)
		all.Wait()

		got, err := r.Redeem(ctx, holding(7)) // not even one that was cancelled before
		allRotated(t, []Redemption{got}, []error{err})
	})
}

func TestQueue_unknownIsTroubleForEveryMemberAndNobodyIsJudgedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(gate)
		gone := errors.New("connection reset by peer")
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = hold.holds(func(context.Context, []Call) ([]*Outcome, error) { return nil, gone })
		r, o := rotator(t, s)
		answers := crowd(t, r, upTo(0, 6)...)
		close(hold)
		got, errs := answers()
		for i := range got {
			if !fault.Is(errs[i], fault.Unavailable) || !errors.Is(errs[i], gone) || !got[i].Token.IsEmpty() {
				t.Errorf("member %d: %v", i, errs[i])
			}
		}
		if n := s.judgedAlone(); n != 0 {
			t.Errorf("%d judged alone after an unknown commit", n)
		}
		if len(o.verdicts) != 0 || o.troubles != 2 {
			t.Errorf("observer was told verdicts %v and %d failed batches", o.verdicts, o.troubles)
		}
	})
}

// A disk that holds a COMMIT for longer than the retry window must not make a
// thief of the client that gave up on the answer and asked again.
func TestRedeem_aRetryThatWaitedForACommitIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var committed *Family
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		r, _ := rotator(t, s)
		r.clock = func() time.Time { return born.Add(time.Since(begun)) }
		s.batch = func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			if committed != nil {
				return undecided(ctx, calls)
			}
			outcomes, err := rotates(ctx, calls)
			time.Sleep(100 * time.Second)
			committed = &outcomes[0].Next
			return outcomes, err
		}
		s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
			return Judge(committed, c.Attempt, r.clock(), c.Policy), nil
		}

		first := crowd(t, r, 1)
		time.Sleep(95 * time.Second)
		again := crowd(t, r, 1)
		answered, trouble := first()
		allRotated(t, answered, trouble)
		answers, errs := again()
		if errs[0] != nil || answers[0].Verdict != Replayed || answers[0].Token.Reveal() == "" {
			t.Errorf("the retry: %s (%s), %v; want replayed", answers[0].Verdict, answers[0].Reason, errs[0])
		}
	})
}

func TestQueue_nobodyWaitsForeverBehindADisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		patient := time.Duration(0)
		s := &scripted{limits: BatchLimits{Size: 2, InFlight: 1}}
		s.batch = func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			time.Sleep(patient)
			return rotates(ctx, calls)
		}
		r, _ := rotator(t, s)
		patient = 10 * time.Second
		first := crowd(t, r, 1)
		patient = 100 * time.Second // the second batch is 2 and 3; 4 waits behind it
		rest := crowd(t, r, 2, 3, 4)
		answered, trouble := first()
		allRotated(t, answered, trouble)

		begun := time.Now()
		answers, errs := rest()
		allRotated(t, answers[:1], errs[:1])
		for i, err := range errs[1:] {
			if !errors.Is(err, errUnanswered) || !fault.Is(err, fault.Unavailable) {
				t.Errorf("member %d: %v; want trouble", i+3, err)
			}
		}
		if took := time.Since(begun); took != patient {
			t.Errorf("the last answer came after %s; want that of the one who sent the batch, after %s", took, patient)
		}
		patient = 0
		answered, trouble = crowd(t, r, 5, 6)()
		allRotated(t, answered, trouble)
		if len(r.queue.waiting) > 0 || r.queue.flying > 0 {
			t.Errorf("%d wait and %d fly afterwards", len(r.queue.waiting), r.queue.flying)
		}
		if diff := cmp.Diff([]int{1, 2, 1, 1}, s.sizes()); diff != "" {
			t.Errorf("batches (-want +got)\n%s", diff)
		}
	})
}

// On Postgres a commit that hangs holds the row of its family, and nothing else: the
// node goes on, and only this client is told to come back.
func TestRedeem_aRetryThatFoundTheRowLockedIsNotLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 2}, batch: undecided}
		r, _ := rotator(t, s)
		r.clock = func() time.Time { return born.Add(time.Since(begun)) }
		outcomes, err := rotates(t.Context(), []Call{{Policy: strict(), Attempt: attemptOf(t, r, holding(1))}})
		if err != nil {
			t.Fatal(err)
		}
		committed := &outcomes[0].Next // dated from the beginning
		s.redeem = func(_ context.Context, c Call, wait time.Duration) (Outcome, error) {
			if time.Since(begun) < 120*time.Second {
				time.Sleep(wait)
				return Outcome{}, ErrLocked
			}
			return Judge(committed, c.Attempt, r.clock(), c.Policy), nil
		}
		for _, at := range []time.Duration{17, 40, 75, 110} {
			time.Sleep(time.Until(begun.Add(at * time.Second)))
			if _, err := r.Redeem(t.Context(), holding(1)); !fault.Is(err, fault.Unavailable) {
				t.Fatalf("after %d s: %v; want trouble", at, err)
			}
		}
		time.Sleep(time.Until(begun.Add(125 * time.Second)))
		if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Replayed {
			t.Errorf("the retry: %s (%s), %v; want replayed", got.Verdict, got.Reason, err)
		}
		if o := r.outages.seen(); len(o) > 0 {
			t.Errorf("for the other families there were the outages %v", o)
		}
	})
}

func attemptOf(t *testing.T, r *Rotator, p Presentation) Attempt {
	t.Helper()
	_, c, err := r.admit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return c.Attempt
}
