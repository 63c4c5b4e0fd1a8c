package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"example.com/authserver/internal/secret"
)

// errInterrupted is what reading from standard input ends with when the command is told to.
var errInterrupted = errors.New("interrupted while it waited for standard input")

// whileWanted reads from r until ctx ends. What r is asked for then goes nowhere: the
// process ends.
type whileWanted struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (w whileWanted) Read(p []byte) (n int, err error) {
	theirs := make([]byte, len(p))
	err = await(w.ctx, func() (err error) {
		n, err := w.r.Read(theirs)
		theirs = theirs[:n]
		return err
	})
	if errors.Is(err, errInterrupted) {
		return 0, err // theirs may still be written to
	}
	return copy(p, theirs), err
}

// await runs what waits for a person and stops waiting for it when ctx ends.
func await(ctx context.Context, read func() error) error {
	done := make(chan error, 1)
	go func() { done <- read() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errInterrupted
	}
}

// typed asks at the keyboard for something that is not shown.
func (e *environment) typed(prompt string) (text []byte, err error) {
	if e.ctx.Err() != nil {
		return nil, errInterrupted
	}
	fd := int(e.keyboard.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(e.stderr, prompt)
	answer := make(chan []byte, 1)
	err = await(e.ctx, func() error {
		text, err := term.ReadPassword(fd)
		answer <- text
		return err
	})
	fmt.Fprintln(e.stderr)
	if errors.Is(err, errInterrupted) {
		return nil, errors.Join(err, term.Restore(fd, before)) // it was left without an echo
	}
	return <-answer, err
}

// password asks for a new password: a terminal twice and without echo, a pipe
// for one line. It never comes from the command line, where every other
// process could read it.
func (e *environment) password() (secret.Text, error) {
	if e.keyboard != nil {
		first, err := e.typed("Password: ")
		if err != nil {
			return secret.Text{}, err
		}
		second, err := e.typed("Again: ")
		if err != nil {
			return secret.Text{}, err
		}
		if string(first) != string(second) {
			return secret.Text{}, usageError(errors.New("the two passwords differ"))
		}
		return secret.NewText(string(first)), nil
	}
	line, err := bufio.NewReaderSize(io.LimitReader(e.stdin, 4096), 4096).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Text{}, err
	}
	line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
	if line == "" {
		return secret.Text{}, fail(exitUsage, errors.New("no password on standard input"), "printf '%s\\n' 'the password' | authserver "+strings.Join(e.args, " "))
	}
	return secret.NewText(line), nil
}

// confirm asks a person to type a word before something that cannot be undone.
// hint is for whoever did not: a script has another way, or none.
func (e *environment) confirm(what, word, hint string) error {
	fmt.Fprintf(e.stderr, "%s\nType %s to go on: ", what, word)
	line, err := bufio.NewReader(io.LimitReader(e.stdin, 4096)).ReadString('\n')
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(e.stderr)
		return fmt.Errorf("nothing was done: %w", err)
	}
	if line = strings.TrimSpace(line); line != word {
		fmt.Fprintln(e.stderr)
		return fail(exitFailure, fmt.Errorf("nothing was done: %.80q was typed, and not %q", line, word), hint)
	}
	return nil
}

// sayYes is the hint of what may be confirmed beforehand.
const sayYes = "in a script: the same with --yes"
