package verifytest

import "time"

// Fault is what is wrong with an Issuer.
type Fault int

const (
	// None: all is well.
	None Fault = iota
	// Unreachable: connections break before there is an answer.
	Unreachable
	// Silent: requests are taken and never answered.
	Silent
	// Status500: every answer is 500.
	Status500
	// EmptySet: the key set is {"keys":[]}.
	EmptySet
	// BufferedStreams: no event comes through, as behind a proxy that waits for
	// the end of an answer.
	BufferedStreams
	// StaleStore: the server cannot read its store. It goes on telling what it
	// knew, and says for how long.
	StaleStore
)

// Fail lets the issuer fail from now on; open streams break, unless only the
// store is stale. Fail(None) ends it.
func (i *Issuer) Fail(f Fault) { i.fail(&i.fault, f) }

// FailFeed is Fail for the feed alone.
func (i *Issuer) FailFeed(f Fault) { i.fail(&i.feedFault, f) }

func (i *Issuer) fail(which *Fault, f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*which = f
	switch f {
	case None:
		i.feed.wake() // with what a stale store has missed
	case StaleStore:
		i.feed.staleSeq, i.feed.staleAt = i.feed.seq, time.Now()
	default:
		close(i.cut)
		i.cut = make(chan struct{})
	}
}

// Delay lets every answer take its time from now on.
func (i *Issuer) Delay(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.delay = d
}
