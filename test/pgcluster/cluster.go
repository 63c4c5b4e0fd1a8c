// Package pgcluster runs a PostgreSQL server for one test, durable as in
// production, that the test may stop, kill and start again, and that nobody else
// uses: what others do on a common one is in its figures, and a long transaction
// in any database keeps old row versions alive in all of them.
package pgcluster

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

// Cluster is a PostgreSQL server of one test, durable as in production, that
// the test may stop and start.
type Cluster struct {
	Dir  string // holds Data and the file log
	Port string

	t   testing.TB
	bin string
	env []string
	as  *syscall.Credential // root may not run PostgreSQL
}

// Options are what else than the ordinary a test may want of its server.
type Options struct {
	Prepare func(dir string) // is given the directory before there is anything in it
	InitDB  []string         // further arguments for initdb
	Env     []string         // further environment, NAME=VALUE
}

// New starts one that ends with the test. Without PostgreSQL it skips the test;
// in CI it fails it.
func New(t testing.TB) *Cluster { return NewWith(t, Options{}) }

// NewWith is New with options.
func NewWith(t testing.TB, o Options) *Cluster {
	t.Helper()
	storetest.Postgres(t)
	bin := os.Getenv("AUTHSERVER_TEST_POSTGRES_BIN")
	if bin == "" {
		t.Fatal("AUTHSERVER_TEST_POSTGRES_BIN is not set; scripts/with-postgres sets it")
	}
	address, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(address, ":")
	dir, err := os.MkdirTemp("", "authserver-pg-*")
	if err != nil {
		t.Fatal(err)
	}
	if o.Prepare != nil {
		o.Prepare(dir)
	}
	c := &Cluster{t: t, bin: bin, env: o.Env, Dir: dir, Port: port}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		c.Run("pg_ctl", "-D", c.Data(), "-m", "immediate", "-w", "stop")
		os.RemoveAll(dir)
	})
	initdb := []string{"-D", c.Data(), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale"}
	if out, err := c.Run("initdb", append(initdb, o.InitDB...)...); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	c.Start()
	return c
}

// Data is the data directory.
func (c *Cluster) Data() string { return filepath.Join(c.Dir, "data") }

// Run runs a program of PostgreSQL as the user that the server runs as, and
// returns what it printed.
func (c *Cluster) Run(program string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir, cmd.Env = c.Dir, append(os.Environ(), c.env...)
	if c.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as}
	}
	log, err := os.CreateTemp("", "authserver-pg-log-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(log.Name())
	cmd.Stdout, cmd.Stderr = log, log // a file, because the server keeps it open
	err = cmd.Run()
	text, _ := os.ReadFile(log.Name())
	return string(text), err
}

// Start starts it after Stop.
func (c *Cluster) Start() {
	c.t.Helper()
	if out, err := c.launch(); err != nil {
		c.t.Fatalf("start PostgreSQL: %v\n%s", err, out)
	}
}

func (c *Cluster) launch() (string, error) {
	return c.Run("pg_ctl", "-D", c.Data(), "-w", "-l", filepath.Join(c.Dir, "log"),
		"-o", "-p "+c.Port+" -c listen_addresses=127.0.0.1 -c unix_socket_directories="+c.Dir+" -c max_connections=100", "start")
}

// Stop ends it at once, without a checkpoint.
func (c *Cluster) Stop() {
	c.t.Helper()
	if out, err := c.Run("pg_ctl", "-D", c.Data(), "-m", "immediate", "-w", "stop"); err != nil {
		c.t.Fatalf("stop PostgreSQL: %v\n%s", err, out)
	}
}

// URL is that of its database postgres, for its superuser.
func (c *Cluster) URL() string { return "postgres://tester@127.0.0.1:" + c.Port + "/postgres" }

// Signal reaches the server and every process of it.
func (c *Cluster) Signal(s syscall.Signal) {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		c.t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(first)
	if err != nil {
		c.t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, field := range append([]string{first}, strings.Fields(string(children))...) {
		if pid, err := strconv.Atoi(field); err == nil {
			_ = syscall.Kill(pid, s) // a child may have ended meanwhile
		}
	}
}

// StartAgain starts it after a crash, as soon as what is left of the old one has
// gone, unless it came back by itself.
func (c *Cluster) StartAgain() {
	c.t.Helper()
	var out string
	for deadline := time.Now().Add(time.Minute); ; {
		var err error
		if out, err = c.launch(); err == nil {
			return
		}
		if _, err := c.Run("pg_isready", "-q", "-h", "127.0.0.1", "-p", c.Port); err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(c.Dir, "log"))
			c.t.Fatalf("PostgreSQL does not start again: %s\n%s", out, rig.LastLines(string(log), 20))
		}
		<-time.After(100 * time.Millisecond)
	}
}

// Mkdir makes a directory for the server.
func (c *Cluster) Mkdir(dir string) {
	c.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if c.as != nil {
		if err := os.Chown(dir, int(c.as.Uid), int(c.as.Gid)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Configure adds settings to a data directory.
func (c *Cluster) Configure(data string, settings ...string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("\n" + strings.Join(settings, "\n") + "\n"); err != nil {
		c.t.Fatal(err)
	}
}

// Recovered reports whether it has done with recovery and takes writes.
func (c *Cluster) Recovered() (over bool, err error) {
	conn, err := pgx.Connect(c.t.Context(), c.URL())
	if err != nil {
		return false, err
	}
	defer conn.Close(c.t.Context())
	err = conn.QueryRow(c.t.Context(), `SELECT NOT pg_is_in_recovery()`).Scan(&over)
	return over, err
}
