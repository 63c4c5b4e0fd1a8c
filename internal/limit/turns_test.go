package limit_test

import (
	"errors"
	"testing"

	"example.com/authserver/internal/limit"
)

func TestTurns_keysDoNotWaitForOneAnother(t *testing.T) {
	turns := limit.NewTurns[string](1, 0)
	leaveA, err := turns.Enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turns.Enter(t.Context(), "a"); !errors.Is(err, limit.ErrFull) {
		t.Errorf("a second holder of a: %v, want ErrFull", err)
	}
	leaveB, err := turns.Enter(t.Context(), "b")
	if err != nil {
		t.Errorf("b waits for a: %v", err)
	}
	leaveA()
	if leaveA, err = turns.Enter(t.Context(), "a"); err != nil {
		t.Errorf("after a left: %v", err)
	}
	leaveA()
	leaveB()
	if n := turns.Keys(); n != 0 {
		t.Errorf("%d keys are remembered after all left", n)
	}
}
