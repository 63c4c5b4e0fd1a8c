package limit_test

import (
	"testing"
	"time"

	"example.com/authserver/internal/limit"
)

func TestAllowance_waitsDoubleUpToTheLongest(t *testing.T) {
	a := limit.Allowance{Free: 3, First: time.Second, Longest: 10 * time.Second}
	for n, want := range []time.Duration{0, 0, 0, 1, 2, 4, 8, 10, 10} {
		if got := a.Wait(n); got != want*time.Second {
			t.Errorf("after failure %d: wait %s, want %ds", n, got, want)
		}
	}
	if got := a.Wait(1 << 30); got != a.Longest {
		t.Errorf("after very many failures: wait %s", got)
	}
}

func TestBudgetOf_partsDoNotRunTogether(t *testing.T) {
	if limit.BudgetOf("k", "ab", "c") == limit.BudgetOf("k", "a", "bc") || limit.BudgetOf("k", "a") == limit.BudgetOf("ka") {
		t.Fatal("different parts name one budget")
	}
}
