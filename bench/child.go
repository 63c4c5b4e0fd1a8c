package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// child is a process this run started and ends by its id.
type child struct {
	cmd  *exec.Cmd
	name string
	log  string // path of what it wrote
	done chan struct{}
	err  error // of Wait; read after done
}

// startChild runs a command whose output goes to a file at log: a file, because
// a pipe would make this process copy it, on the cores that are measured. The
// child gets a signal of its own when this process is killed outright. asUser
// is whom it runs as, nil for ourselves.
func startChild(cmd *exec.Cmd, name, log string, onDeath syscall.Signal, asUser *syscall.Credential) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stderr = out
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	// A group of its own: Ctrl-C is for this process, which ends the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onDeath, Credential: asUser}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{cmd: cmd, name: name, log: log, done: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks the process to end, and ends it after patience.
func (c *child) stop(sig syscall.Signal, patience time.Duration) {
	_ = c.cmd.Process.Signal(sig) // it may be gone
	select {
	case <-c.done:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// await calls ready until it returns nil. It fails when the process ends first
// or time is up, and shows the last lines the process wrote.
func (c *child) await(ctx context.Context, patience, pause time.Duration, ready func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready (%w):\n%s", c.name, errors.Join(c.err, err), tail(c.log))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was not ready within %s (%w):\n%s", c.name, patience, err, tail(c.log))
		}
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// freePort returns a TCP port of 127.0.0.1 that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}
