// Command refreshtorture tries at a token endpoint what browsers, phones, bad
// networks and thieves do to refresh tokens, and says what became of the honest
// user and of the thief. It knows a server from outside only: any OAuth token
// endpoint (RFC 6749 section 6), or this project's /v1/refresh.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// The exit codes, those of authserver.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNegative    = 3 // something was found
	exitUnreachable = 4
)

// errUnreachable is a server that does not answer at all.
var errUnreachable = errors.New("the server does not answer")

// errUsage wraps what is wrong with the command line.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stdout)
	if errors.Is(err, errHelp) {
		return exitOK
	}
	r := &report{}
	switch {
	case err != nil:
	case o.list:
		err = list(stdout)
	default:
		if r, err = torture(ctx, o, stderr); err == nil {
			err = r.print(stdout, o.json)
		}
	}
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "error:", err)
		fmt.Fprintln(stderr, "hint:  refreshtorture --help")
		return exitUsage
	case errors.Is(err, errUnreachable):
		fmt.Fprintln(stderr, "error:", err)
		return exitUnreachable
	case err != nil:
		fmt.Fprintln(stderr, "error:", err)
		return exitFailure
	case r.Found > 0:
		return exitNegative
	default:
		return exitOK
	}
}

// torture runs the scenarios, each on a family of its own.
func torture(ctx context.Context, o *options, stderr io.Writer) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	target := newTarget(o)
	l := &lab{target: target, racers: o.racers, rounds: o.rounds, late: o.late, pause: o.pause}
	if err := target.probe(ctx); err != nil {
		return nil, err
	}
	supply := newSupply(o, target)
	r := &report{Target: o.url.Redacted(), Results: []result{}}
	for _, s := range scenarios {
		if !o.wants(s.name) {
			continue
		}
		fmt.Fprintf(stderr, "%s ...\n", s.name)
		f, err := attempt(ctx, l, supply, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		r.add(s, f)
	}
	return r, nil
}

// attempt runs one scenario, if it can be run.
func attempt(ctx context.Context, l *lab, supply *supply, s scenario) (finding, error) {
	switch {
	case s.needs == needsLate && l.late == 0:
		return untried("needs --late: how long after a rotation an old token is theft"), nil
	case s.needs == needsRevoke && l.target.revokeURL == "":
		return untried("needs --revoke-url"), nil
	}
	token, err := supply.next(ctx)
	if errors.Is(err, errNoToken) {
		return untried("no starting token is left"), nil
	}
	if err != nil {
		return finding{}, err
	}
	f := s.run(ctx, l, token)
	if err := context.Cause(ctx); err != nil {
		return finding{}, fmt.Errorf("not finished in time: %w", err)
	}
	if l.target.silent() {
		return finding{}, fmt.Errorf("%w: %s", errUnreachable, f.what)
	}
	return f, nil
}
