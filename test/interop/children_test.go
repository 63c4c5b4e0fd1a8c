package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds the wait for one answer of a child on an overbooked machine.
const patience = 2 * time.Minute

// falseClock moves the clock of other processes: libfaketime, loaded into each
// of them, reads from one file by how much they are to be off.
type falseClock struct {
	library string
	file    string
	mu      sync.Mutex
	shift   time.Duration
}

func newFalseClock(t testing.TB, dir string) *falseClock {
	t.Helper()
	return &falseClock{library: setting(t, "INTEROP_FAKETIME"), file: filepath.Join(dir, "clock")}
}

// moveTo sets the clock of every process that has it.
func (c *falseClock) moveTo(t testing.TB, at time.Time) {
	t.Helper()
	shift := time.Until(at)
	next := c.file + ".next"
	// Renamed into place: who reads never sees half a line.
	err := os.WriteFile(next, fmt.Appendf(nil, "%+.3f\n", shift.Seconds()), 0o600)
	if err = errors.Join(err, os.Rename(next, c.file)); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.shift = shift
	c.mu.Unlock()
}

// Now is the time that those processes see, to the millisecond.
func (c *falseClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.shift)
}

// environment loads the library into a process. Monotonic clocks, which
// time-outs are measured on, go on undisturbed unless a cache is measured on
// them too.
func (c *falseClock) environment(monotonic bool) []string {
	env := []string{"LD_PRELOAD=" + c.library, "FAKETIME_TIMESTAMP_FILE=" + c.file, "FAKETIME_NO_CACHE=1"}
	if !monotonic {
		env = append(env, "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
	}
	return env
}

// setting reads what scripts/interop-test has prepared.
func setting(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run scripts/interop-test, which installs the verifiers and says where they are", name)
	}
	return v
}

// child is a verifier in a process of its own, which answers line by line.
type child struct {
	name   string
	in     io.WriteCloser
	out    chan string // closed at the end of its output
	errors *tail
}

// startChild starts a verifier and waits until it is ready.
func startChild(t testing.TB, name string, env []string, command ...string) *child {
	t.Helper()
	c := &child{name: name, out: make(chan string), errors: &tail{}}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(plainEnvironment(), env...)
	cmd.Stderr = c.errors
	dieWithUs(cmd)
	var err error
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.out)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			c.out <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		c.in.Close()
		time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		for range c.out { // whatever it still says
			continue
		}
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, c.errors)
		}
	})
	if line, err := c.line(); err != nil || line != "ready" {
		t.Fatalf("%s said %q (%v), want ready\n%s", name, line, err, c.errors)
	}
	return c
}

// check asks about one token.
func (c *child) check(token string) error {
	if _, err := io.WriteString(c.in, token+"\n"); err != nil {
		return fmt.Errorf("trouble: %w\n%s", err, c.errors)
	}
	line, err := c.line()
	if err != nil {
		return fmt.Errorf("trouble: %w\n%s", err, c.errors)
	}
	if line == "ok" {
		return nil
	}
	return errors.New(line)
}

func (c *child) line() (string, error) {
	select {
	case line, ok := <-c.out:
		if !ok {
			return "", io.ErrUnexpectedEOF
		}
		return line, nil
	case <-time.After(patience):
		return "", fmt.Errorf("no answer for %s", patience)
	}
}

// plainEnvironment keeps what a program needs to run and nothing that would
// change what it does.
func plainEnvironment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// dieWithUs has the kernel end a child whose parent was killed outright.
func dieWithUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// tail keeps the last words of a process.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(b), nil
}

// String returns them.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
