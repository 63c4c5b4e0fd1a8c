package refresh

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authserver/internal/fault"
)

// A row that somebody holds is no fault of the others in the batch; who waits for it waits
// among the suspects, with those of the same family.
func TestQueue_whoseRowIsHeldIsASuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold, alone := make(gate), make(gate)
		var inside atomic.Int32
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = hold.holds(func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			outcomes, err := rotates(ctx, calls)
			for i, c := range calls {
				if c.Attempt.Family[0] == 3 {
					outcomes[i] = Held
				}
			}
			return outcomes, err
		})
		s.redeem = func(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
			inside.Add(1)
			defer inside.Add(-1)
			<-alone
			return rotatesAlone(ctx, c, wait)
		}
		r, _ := rotator(t, s)
		answers := crowd(t, r, append(upTo(0, 20), 3, 3, 3, 3, 3, 3)...)
		close(hold)
		synctest.Wait()
		if n := inside.Load(); n != 4 {
			t.Errorf("%d wait for the row, want 4 at once", n)
		}
		close(alone)
		got, errs := answers()
		allRotated(t, got, errs)
		if n := s.judgedAlone(); n != 7 {
			t.Errorf("%d were judged alone, want the seven of one family", n)
		}
	})
}

func TestQueue_membersOfARefusedBatchAreJudgedAloneFourAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var most, inside atomic.Int32
		hold, alone := make(gate), make(gate)
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}}
		s.batch = hold.holds(func(context.Context, []Call) ([]*Outcome, error) {
			return nil, errors.Join(ErrRefused, errors.New("canceling statement due to lock timeout"))
		})
		s.redeem = func(ctx context.Context, c Call, wait time.Duration) (Outcome, error) {
			most.Store(max(most.Load(), inside.Add(1)))
			defer inside.Add(-1)
			<-alone
			if c.Attempt.Family[0] == 3 {
				return Outcome{}, ErrLocked
			}
			return rotatesAlone(ctx, c, wait)
		}
		r, o := rotator(t, s)
		// Families 3 and 4 come several times: what was refused along with a
		// batch is as suspect as its members.
		answers := crowd(t, r, append(upTo(0, 20), 3, 3, 3, 4, 4, 4)...)
		close(hold)
		synctest.Wait()
		if most.Load() != 4 {
			t.Errorf("%d suspects at once, want 4", most.Load())
		}
		close(alone)
		got, errs := answers()
		for i := range got {
			if got[i].Family[0] == 3 {
				if !fault.Is(errs[i], fault.Unavailable) || !errors.Is(errs[i], ErrLocked) {
					t.Errorf("the locked family: %v, want it unavailable", errs[i])
				}
				continue
			}
			allRotated(t, got[i:i+1], errs[i:i+1])
		}
		if o.troubles == 0 {
			t.Error("the observer was not told of the refused batch")
		}
	})
}
