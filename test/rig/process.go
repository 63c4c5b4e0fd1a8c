// Package rig owns what programs and tests that run the shipped binary share:
// a process ended by its id, a node of the server, and a crowd of well-behaved
// clients that remember what they were answered. It owns no rule of the server:
// the one format it knows, the generation inside a refresh token, it reads in
// order to compare the server's answers with the server's database.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a program that was started here.
type Process struct {
	// Done is closed when it has ended.
	Done <-chan struct{}

	name string
	log  string // path of the file it writes to
	cmd  *exec.Cmd
	err  error // of Wait; read after Done
}

// Start runs a command that writes to the file at log. It has a process group of
// its own: Ctrl-C at a terminal is for whoever started it, who ends it in order.
func Start(cmd *exec.Cmd, name, log string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan struct{})
	p := &Process{Done: done, name: name, log: log, cmd: cmd}
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
	return p, nil
}

// Kill ends the process without warning and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.Done
}

// Stop asks the process to end, and kills it after patience. It returns what
// Wait said: nil after exit code 0.
func (p *Process) Stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	select {
	case <-p.Done:
	case <-time.After(patience):
		p.Kill()
	}
	return p.err
}

// Tail returns the last of what the process wrote.
func (p *Process) Tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-3000):])
}

// Await calls ready until it returns nil, and fails when the process ends first
// or time is up.
func (p *Process) Await(ctx context.Context, patience time.Duration, ready func() error) error {
	err := Poll(ctx, patience, func() error {
		select {
		case <-p.Done:
			return errEnded
		default:
			return ready()
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w:\n%s", p.name, err, p.Tail())
	}
	return nil
}

var errEnded = errors.New("the process ended")

// Poll calls ready every 50 ms until it returns nil. It fails when ctx ends or
// patience is over, with the last reason that ready gave.
func Poll(ctx context.Context, patience time.Duration, ready func() error) error {
	over := time.NewTimer(patience)
	defer over.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-tick.C:
		case <-over.C:
			return fmt.Errorf("waited %s: %w", patience, err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
