package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"example.com/authserver/test/rig"
)

// round is what one fault came to.
type round struct {
	fault     string
	lost      int           // acknowledged rotations that the new primary does not know
	healed    int           // tokens from above the head that were taken for what they are
	successor time.Duration // from the fault until another primary takes writes; 0 where none was to
	outage    time.Duration // the longest time in which no client was answered
	slowest   time.Duration // the longest time in which one client was not
	whole     time.Duration // from the fault until all three machines are well
}

// String implements fmt.Stringer.
func (r round) String() string {
	takeover := "no other primary"
	if r.successor > 0 {
		takeover = "another primary after " + seconds(r.successor)
	}
	return fmt.Sprintf("%s: %d lost, %d healed; %s, no answers for %s", r.fault, r.lost, r.healed, takeover, seconds(r.outage))
}

// report is what one mode came to.
type report struct {
	synchronous bool
	rounds      []round
	tally       rig.Tally
	ended       int // sessions that were acknowledged as ended
	revived     int // of them live on
	violations  error
	audit       int
	audited     bool
}

func (r *report) mode() string {
	if r.synchronous {
		return "synchronous"
	}
	return "asynchronous"
}

func (r *report) lost() (lost, healed int) {
	for _, round := range r.rounds {
		lost, healed = lost+round.lost, healed+round.healed
	}
	return lost, healed
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s replication\n\n", r.mode())
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "ROUND\tFAULT\tLOST\tHEALED\tNEW PRIMARY\tNO ANSWERS\tONE CLIENT\tALL WELL")
	for n, round := range r.rounds {
		takeover := "-"
		if round.successor > 0 {
			takeover = seconds(round.successor)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", n+1, round.fault, round.lost, round.healed,
			takeover, seconds(round.outage), seconds(round.slowest), seconds(round.whole))
	}
	t.Flush()
	lost, healed := r.lost()
	audit := "not run"
	if r.audited {
		audit = fmt.Sprintf("%d violations", r.audit)
	}
	fmt.Fprintf(w, "\n%d faults; %d rotations acknowledged, %d requests without an answer or with 503, other answers to a valid token: %s\n"+
		"%d acknowledged rotations lost, %d tokens from above the head healed; of %d acknowledged logouts %d lost; authserver audit sessions: %s\n",
		len(r.rounds), r.tally.Answers, r.tally.Retries, orNone(r.violations), lost, healed, r.ended, r.revived, audit)
}

func orNone(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// verdict says what the report falls short of.
func (r *report) verdict() error {
	lost, healed := r.lost()
	var failed []error
	if r.violations != nil {
		failed = append(failed, fmt.Errorf("%s: a valid token was refused", r.mode()))
	}
	if !r.audited || r.audit > 0 {
		failed = append(failed, fmt.Errorf("%s: the audit found %d violations, or did not run", r.mode(), r.audit))
	}
	switch {
	case r.synchronous && (r.revived > 0 || r.ended == 0):
		failed = append(failed, fmt.Errorf("synchronous: of %d acknowledged logouts %d were lost; want some, and none lost", r.ended, r.revived))
	case r.synchronous && lost+healed > 0:
		failed = append(failed, fmt.Errorf("synchronous: %d acknowledged rotations lost, %d tokens from above the head", lost, healed))
	case !r.synchronous && lost == 0:
		failed = append(failed, errors.New("asynchronous: no loss was found, so the lab proves nothing"))
	}
	return errors.Join(failed...)
}
