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
