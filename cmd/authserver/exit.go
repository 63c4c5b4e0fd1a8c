package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/store"
)

// The exit codes of the contract.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3 // or a negative answer
	exitUnreachable = 4
	exitConflict    = 5
	exitConfig      = 78
)

// failure is an error with an exit code and the command that helps.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, err error, hint string) error { return &failure{code, err, hint} }

// generalHelp is the hint of a wrong command line until its verb is known.
const generalHelp = "authserver --help"

func usageError(err error) error {
	return fail(exitUsage, err, generalHelp)
}

func configError(err error) error {
	return fail(exitConfig, err, "authserver config check; authserver config docs prints every setting")
}

// errNegative is a negative answer that was printed already.
var errNegative = errors.New("")

// report prints an error and its hint and returns the exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := classify(err)
	if text := err.Error(); text != "" {
		fmt.Fprintln(stderr, "error:", text)
	}
	if hint != "" {
		fmt.Fprintln(stderr, "hint: ", hint)
	}
	return code
}

func classify(err error) (code int, hint string) {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f.code, f.hint
	case errors.Is(err, errNegative), errors.Is(err, account.ErrNotFound),
		fault.Is(err, fault.UserNotFound), fault.Is(err, fault.SessionNotFound), fault.Is(err, fault.KeyNotFound):
		return exitNotFound, ""
	case fault.Is(err, fault.InvalidRequest): // an argument that a room refuses
		return exitUsage, ""
	case errors.Is(err, store.ErrInUse):
		return exitConflict, "stop that server, or give this one a --data-dir, an --addr and an --admin-addr of its own"
	case errors.Is(err, account.ErrEmailTaken), errors.Is(err, keys.ErrRingChanged), fault.Is(err, fault.Conflict):
		return exitConflict, ""
	case errors.Is(err, store.ErrIncompatible):
		return exitConflict, "use a binary that is at least as new as the one that migrated the database"
	case errors.Is(err, keys.ErrMasterKey):
		return exitConfig, "set AUTHSERVER_MASTER_KEY, or put the master.key file of the first node into the data directory; where it is lost for good: authserver keys reset --master-key-lost"
	case fault.Is(err, fault.Unavailable), errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable, "is the database up? authserver doctor"
	default:
		return exitFailure, ""
	}
}
