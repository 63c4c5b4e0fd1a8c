package refresh

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/limit"
)

// sender is whoever presented a token: the context of the request, which ends when its
// connection does, and when this node first saw it.
type sender struct {
	context.Context
	came time.Time
}

// Whoever is about to end a family has to be there for listenFor: in that time a
// connection is found to be closed. A token that has waited here for longer than
// listenFor when its successor's successor was born was good when it came, or as good
// as that.
//
// Not to be there spares a family three times, and once more every two hundred seconds:
// a thief who hangs up on purpose could otherwise try old tokens without end.
const (
	listenFor  = 250 * time.Millisecond
	spareRate  = 1.0 / 200 // a second
	spareBurst = 3
)

// doubt is why a refusal that would end a session, or be noted, was not carried out. The
// store has answered.
type doubt struct{ name, text string }

func (d *doubt) Error() string { return d.text + ": the session is spared" }

var (
	errGone  = &doubt{"gone", "whoever presented this token has gone"}
	errLate  = &doubt{"late", "this token waited here while its session went on elsewhere"}
	errWoken = &doubt{"woken", "this node has stood still, and the token may have been good when it came"}
	errMoved = &doubt{"moved", "this token was judged otherwise a moment ago"}
)

// Doubts are the names of all.
func Doubts() []string {
	return []string{errGone.name, errLate.name, errWoken.name, errMoved.name}
}

// spares reports whether an error means that the store answered, and that nothing was
// done with the answer.
func spares(err error) bool { return errors.As(err, new(*doubt)) }

// judgeAlone carries a refusal out in a second step only, and none that is doubted. A
// request that lay somewhere while its client gave up and was answered elsewhere brings a
// token that is old by then. If it lay here, that is known; if it lay on the way, its
// client has gone. In a node that has just stood still the client may be there, as a tab
// is that waits while another one goes on, or a proxy that does not pass on that a client
// hung up.
func (r *Rotator) judgeAlone(s sender, c Call, gate *limit.Gate) (Outcome, error) {
	c.Spare = true
	first, err := r.judge(c, gate)
	c.But = first.Verdict
	if err != nil || first.Verdict.Answers() || !first.LeavesTrace(c) || r.doubts(first, c.Policy) {
		return first, err
	}
	if first.Ends {
		if first.Next.HeadBorn.After(s.came.Add(listenFor)) {
			return Outcome{}, errLate
		}
		if r.stoodStill(s, first.Now) {
			return Outcome{}, errWoken
		}
		if !stays(s) && r.spares.Wait(c.Attempt.Family, r.wall()) == 0 {
			return Outcome{}, errGone
		}
		if r.stoodStill(s, r.wall()) {
			return Outcome{}, errWoken
		}
	}
	out, err := r.judge(c, gate)
	if err == nil && out.Verdict != c.But && (out.Verdict == Expired || out.Verdict == Reused) {
		return Outcome{}, errMoved // the clock has leapt meanwhile, or come back
	}
	return out, err
}

// stays reports whether the sender of a token waits to hear of it.
func stays(s sender) bool {
	listened := time.NewTimer(listenFor)
	defer listened.Stop()
	select {
	case <-s.Done():
		return false
	case <-listened.C:
		return true
	}
}

// stoodStill reports whether a request may have waited for this node to run again. now is
// the store's clock, which may know of a pause that this node's own does not.
func (r *Rotator) stoodStill(s sender, now time.Time) bool {
	return r.pulse.missed(s.came, r.wall) || now.Sub(r.wall()).Abs() > clocksApart
}

// clocksApart is how far the store's clock and what this node takes it for are apart at
// most while both run.
const clocksApart = 5 * time.Second

// KeepPulse has the rotator know when this node has stood still, until ctx ends. Without
// it nobody does.
func (r *Rotator) KeepPulse(ctx context.Context) { r.pulse.keep(ctx, r.wall) }

// errLeapt is what a client hears, as trouble, whose session has ended by a clock that
// may be wrong. A refusal would log out for good whoever is there when a clock leaps
// ahead for a minute.
var errLeapt = errors.New("the store's clock has leapt ahead: without that this session has not expired")

// doubts reports whether a family has expired only because the store's clock has leapt
// ahead: as the ring has seen, or since it looked last.
func (r *Rotator) doubts(out Outcome, p Policy) bool {
	if out.Verdict != Expired {
		return false
	}
	leap := max(r.leap(), out.Now.Sub(r.wall()))
	return leap > longestPulse && out.Now.Add(-leap).Before(out.Next.IdleEnd(p))
}
