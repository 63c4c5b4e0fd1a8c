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
)

// Fail lets the issuer fail from now on; open streams break. Fail(None) ends
// it.
func (i *Issuer) Fail(f Fault) { i.fail(&i.fault, f) }

// FailFeed is Fail for the feed alone.
func (i *Issuer) FailFeed(f Fault) { i.fail(&i.feedFault, f) }

func (i *Issuer) fail(which *Fault, f Fault) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*which = f
	if f != None {
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
