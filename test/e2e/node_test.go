// Package e2e runs the real binary, as its users do: one process a node, the
// network between, and nothing of the inside.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

// binary is the server under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "authserver-e2e-*")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "authserver")
	build := exec.Command("go", "build", "-o", binary, "example.com/authserver/cmd/authserver")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// node is one running server.
type node struct {
	t      testing.TB
	URL    string // of the public listener
	Ops    string // of the operations listener
	Dir    string // data directory
	env    []string
	cmd    *exec.Cmd
	log    *rig.Journal
	exited chan struct{}
}

// newNode prepares a node that is not started yet. env are settings without
// their prefix: ACCESS_TTL=30s.
func newNode(t testing.TB, env ...string) *node {
	t.Helper()
	n := &node{t: t, Dir: t.TempDir()}
	addr, ops, err := rig.FreeAddresses()
	if err != nil {
		t.Fatal(err)
	}
	n.URL, n.Ops = "http://"+addr, "http://"+ops
	n.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + n.Dir,
		"AUTHSERVER_ADDR=" + addr, "AUTHSERVER_ADMIN_ADDR=" + ops,
		"AUTHSERVER_DATA_DIR=" + n.Dir, "AUTHSERVER_DRAIN_DELAY=300ms",
	}
	for _, e := range env {
		n.env = append(n.env, "AUTHSERVER_"+e)
	}
	return n
}

// start runs the node and returns when it is ready.
func (n *node) start() *node {
	n.t.Helper()
	n.launch()
	n.awaitReady(20 * time.Second)
	return n
}

func (n *node) launch() {
	n.t.Helper()
	n.log = &rig.Journal{}
	n.exited = make(chan struct{})
	n.cmd = exec.Command(binary, "serve")
	n.cmd.Env, n.cmd.Dir = n.env, n.Dir
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	cmd, exited := n.cmd, n.exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if n.t.Failed() {
			n.t.Logf("log of %s:\n%s", n.URL, n.log.Tail(60))
		}
	})
}

func (n *node) awaitReady(patience time.Duration) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := n.ready()
		if err == nil {
			return
		}
		select {
		case <-n.exited:
			n.t.Fatalf("the server ended (%v):\n%s", n.cmd.ProcessState, n.log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("not ready after %s: %v\n%s", patience, err, n.log)
		}
	}
}

// terminate sends SIGTERM and returns the exit code.
func (n *node) terminate() int {
	n.t.Helper()
	n.cmd.Process.Signal(syscall.SIGTERM)
	return n.wait(30 * time.Second)
}

func (n *node) wait(patience time.Duration) int {
	n.t.Helper()
	select {
	case <-n.exited:
		return n.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		n.t.Fatalf("the server still runs after %s:\n%s", patience, n.log)
		return -1
	}
}

// kill ends the process without warning.
func (n *node) kill() {
	n.cmd.Process.Kill()
	<-n.exited
}

// cli runs another verb of the binary in this node's environment.
func (n *node) cli(stdin string, args ...string) (stdout, stderr string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = n.env, n.Dir, strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// mustCLI is cli for what must succeed.
func (n *node) mustCLI(stdin string, args ...string) string {
	n.t.Helper()
	out, errs, code := n.cli(stdin, args...)
	if code != 0 {
		n.t.Fatalf("%v: exit code %d\n%s%s", args, code, out, errs)
	}
	return out
}

// answer is one HTTP answer, read whole.
type answer = rig.Answer

var client = &http.Client{
	Timeout: 40 * time.Second,
	Transport: &http.Transport{
		MaxIdleConns: 0, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second,
	},
}

// call sends one request: see rig.Ask.
func call(method, url string, body any, header ...string) (answer, error) {
	return rig.Ask(context.Background(), client, method, url, body, header...)
}

// must sends a request and wants a status.
func (n *node) must(status int, method, path string, body any, header ...string) answer {
	n.t.Helper()
	a, err := call(method, n.URL+path, body, header...)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.Status != status {
		n.t.Fatalf("%s %s: %s; want %d", method, path, a, status)
	}
	return a
}

const goodPassword = "correct horse battery staple"

// person registers and logs in somebody.
func (n *node) person(email string) answer {
	n.t.Helper()
	n.must(http.StatusCreated, "POST", "/v1/users", map[string]string{"email": email, "password": goodPassword})
	return n.logIn(email)
}

func (n *node) logIn(email string) answer {
	n.t.Helper()
	return n.must(http.StatusOK, "POST", "/v1/login", map[string]string{"email": email, "password": goodPassword})
}

func bearer(a answer) []string { return []string{"Authorization", "Bearer " + a.Field("access_token")} }

// engines runs a story on both engines. settings name the database of one
// story; all nodes that share them share the database.
func engines(t *testing.T, story func(t *testing.T, settings []string)) {
	t.Run("sqlite", func(t *testing.T) { story(t, nil) })
	t.Run("postgres", func(t *testing.T) {
		story(t, []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey})
	})
}

// masterKey is for tests with several nodes on one database.
const masterKey = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
