package revocation

import (
	"context"
	"time"
)

// Page is what a store read of the feed as of one instant.
type Page struct {
	// Entries have numbers above the one asked for, ascending, and have not
	// passed yet.
	Entries []Entry
	// Newest is the number up to which the page is complete. Below the number
	// asked for it says that the store was set back.
	Newest int64
	// More says that the store holds more than Newest.
	More bool
	// Indexes is the greatest status index that was handed out.
	Indexes int64
	// Now is the store's clock at the read.
	Now time.Time
}

// Store keeps the feed. The entries are written by the acts that end things,
// in their own transactions; nothing here adds any.
type Store interface {
	IndexStore
	// Read returns entries after the given number, about limit of them at most.
	// What was committed and has no number yet is numbered first, by whichever
	// node comes first; a read that finds nothing new writes nothing.
	//
	// Numbers are readable in their order: once a page told of Newest, no entry
	// at or below it appears for the first time.
	Read(ctx context.Context, after int64, limit int) (Page, error)
	// Sweep deletes at most limit entries that had passed at an instant, which is the
	// caller's for the reason that refresh.Store gives, and returns how many.
	Sweep(ctx context.Context, at time.Time, limit int) (int, error)
}
