package password

import (
	"runtime"
	"sync"
)

// heavy is from how many KiB on the blocks of a finished hash are collected
// at once instead of when the heap has doubled: two of the largest would
// otherwise stand beside each other.
const heavy = 64 << 10

// budget bounds the memory of all hashes in progress. The gate counts
// requests; an imported hash may take many times the memory of ours, and one
// that alone exceeds the budget is computed alone.
type budget struct {
	total uint64 // KiB

	turn sync.Mutex // held while waiting, so that a large hash is not overtaken for ever
	mu   sync.Mutex
	more *sync.Cond
	used uint64
}

func newBudget(total uint64) *budget {
	b := &budget{total: total}
	b.more = sync.NewCond(&b.mu)
	return b
}

// take waits until kib fit and returns the function that gives them back.
// Waiting ends by itself: those who hold memory compute and wait for nothing.
func (b *budget) take(kib uint64) (give func()) {
	want := min(kib, b.total)
	b.turn.Lock()
	defer b.turn.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used+want > b.total {
		b.more.Wait()
	}
	b.used += want
	return func() {
		if kib >= heavy {
			runtime.GC()
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.used -= want
		b.more.Signal()
	}
}
