package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/test/rig"
)

// cluster is three machines with Patroni and PostgreSQL each, and the arbiter
// with etcd. etcd stands apart because a member of it that had been cut off
// together with a primary once told the others, in the moment of its return,
// that the former primary still held the lock; Patroni 3.0 believed it, and two
// histories with one timeline number were the end. That is a lesson about where
// to put etcd, and not what this lab is to find out.
type cluster struct {
	net         *network
	dir         string
	bin         string // of PostgreSQL's programs
	synchronous bool
	password    string
	patroni     map[string]*rig.Process // by machine; PostgreSQL is its child
	door        *door
}

// machines are those with a database. arbiter decides who of them leads.
var machines = []string{"one", "two", "three"}

const arbiter = "arbiter"

// startCluster starts all machines on empty disks and returns when one leads
// and the others stream from it.
func startCluster(ctx context.Context, dir, bin string, synchronous bool) (*cluster, error) {
	net, err := newNetwork(ctx, append([]string{arbiter}, machines...))
	if err != nil {
		return nil, err
	}
	c := &cluster{net: net, dir: dir, bin: bin, synchronous: synchronous, password: rand.Text(), patroni: map[string]*rig.Process{}}
	if err := c.begin(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) begin(ctx context.Context) error {
	owner, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, errUID := strconv.Atoi(owner.Uid)
	gid, errGID := strconv.Atoi(owner.Gid)
	if err := errors.Join(errUID, errGID); err != nil {
		return err
	}
	for _, name := range c.net.members {
		dir := filepath.Join(c.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "patroni.yaml"), []byte(c.patroniConfig(name)), 0o644); err != nil {
			return err
		}
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	ip := c.net.address(arbiter)
	_, err = c.startOn(arbiter, "etcd", "etcd", "--name", arbiter, "--data-dir", filepath.Join(c.dir, arbiter, "etcd"),
		"--listen-client-urls", "http://"+ip+":2379", "--advertise-client-urls", "http://"+ip+":2379",
		"--listen-peer-urls", "http://"+ip+":2380", "--initial-advertise-peer-urls", "http://"+ip+":2380",
		"--initial-cluster", arbiter+"=http://"+ip+":2380", "--log-level", "warn")
	if err != nil {
		return err
	}
	for _, name := range machines {
		if err := c.startMachine(name); err != nil {
			return err
		}
	}
	leader, err := c.awaitSteady(ctx, 3*time.Minute)
	if err != nil {
		return errors.Join(err, errors.New(c.logs()))
	}
	conn, err := c.connect(ctx, leader, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err = conn.Exec(ctx, "CREATE DATABASE "+database); err != nil {
		return err
	}
	// A replica that does not know the database yet would end a server's search
	// for the primary: pgx takes that for an answer.
	for _, name := range machines {
		err := rig.Poll(ctx, time.Minute, func() error {
			conn, err := c.connect(ctx, name, database)
			if err == nil {
				conn.Close(ctx)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return c.openDoor(ctx)
}

// startMachine starts a machine that does not run, with its disk as it was.
func (c *cluster) startMachine(name string) (err error) {
	if !running(c.patroni[name]) {
		c.patroni[name], err = c.startOn(name, "patroni", "patroni", filepath.Join(c.dir, name, "patroni.yaml"))
	}
	return err
}

// powerOff ends everything on a machine at once.
func (c *cluster) powerOff(name string) error {
	if err := kill(c.net.namespace(name)); err != nil {
		return err
	}
	<-c.patroni[name].Done
	return nil
}

func running(p *rig.Process) bool {
	if p == nil {
		return false
	}
	select {
	case <-p.Done:
		return false
	default:
		return true
	}
}

// startOn runs a program on a machine as PostgreSQL's user.
func (c *cluster) startOn(name, what string, args ...string) (*rig.Process, error) {
	dir := filepath.Join(c.dir, name)
	cmd := exec.Command("ip", append([]string{
		"netns", "exec", c.net.namespace(name),
		"setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8"}
	return rig.Start(cmd, what+" of "+name, filepath.Join(dir, what+".log"))
}

// stop takes everything down.
func (c *cluster) stop() {
	if c.door != nil {
		c.door.Kill()
	}
	c.net.remove()
}

// connect reaches one machine's PostgreSQL and no other.
func (c *cluster) connect(ctx context.Context, name, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, c.url(database, "connect_timeout=3", name))
}

// urlOfAll is what an authserver gets that finds the primary by itself: all machines,
// whoever may be written to.
func (c *cluster) urlOfAll() string {
	return c.url(database, "connect_timeout=2&target_session_attrs=read-write", machines...)
}

func (c *cluster) url(database, query string, names ...string) string {
	hosts := make([]string, len(names))
	for i, name := range names {
		hosts[i] = c.net.address(name) + ":5432"
	}
	return c.urlOf(strings.Join(hosts, ","), database, query)
}

func (c *cluster) urlOf(hosts, database, query string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password), Host: hosts,
		Path: "/" + database, RawQuery: "sslmode=disable&" + query,
	}
	return u.String()
}

var patroniClient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// leads reports whether a machine's Patroni says that it is the primary and
// holds the lock.
func (c *cluster) leads(ctx context.Context, name string) bool { return c.says(ctx, name, "primary") }

// says reports whether a machine's Patroni says that it has a role.
func (c *cluster) says(ctx context.Context, name, role string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.net.address(name)+":8008/"+role, nil)
	if err != nil {
		return false
	}
	answer, err := patroniClient.Do(request)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// awaitSteady waits until exactly one machine leads and both others stream all
// it has written; with synchronous replication one of them is waited for by
// every commit. It returns who leads.
func (c *cluster) awaitSteady(ctx context.Context, patience time.Duration) (leader string, err error) {
	err = rig.Poll(ctx, patience, func() (err error) {
		leader, err = c.steady(ctx)
		return err
	})
	return leader, err
}

func (c *cluster) steady(ctx context.Context) (leader string, err error) {
	for _, name := range machines {
		if c.leads(ctx, name) {
			if leader != "" {
				return "", fmt.Errorf("%s and %s say that they lead", leader, name)
			}
			leader = name
		}
	}
	if leader == "" {
		return "", errors.New("no machine leads")
	}
	conn, err := c.connect(ctx, leader, "postgres")
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var streaming, synchronous int
	err = conn.QueryRow(ctx, `-- name: lab.steady
		SELECT count(*) FILTER (WHERE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) < 1000000), count(*) FILTER (WHERE sync_state = 'sync')
		FROM pg_stat_replication WHERE state = 'streaming'`).Scan(&streaming, &synchronous)
	switch {
	case err != nil:
		return "", err
	case streaming != len(machines)-1:
		return "", fmt.Errorf("%d machines stream from %s; want %d", streaming, leader, len(machines)-1)
	case c.synchronous && !slices.ContainsFunc(machines, func(name string) bool { return c.says(ctx, name, "synchronous") }):
		// Until its name stands in etcd nobody could be promoted.
		return "", errors.New("Patroni has named no synchronous standby yet")
	case c.synchronous != (synchronous > 0):
		return "", fmt.Errorf("%d machines are synchronous; synchronous replication is to be %t", synchronous, c.synchronous)
	}
	return leader, nil
}

// awaitSuccessor waits until another machine than the former leader leads and
// can be written to, and returns a connection to it.
func (c *cluster) awaitSuccessor(ctx context.Context, former string, patience time.Duration) (leader string, conn *pgx.Conn, err error) {
	err = rig.Poll(ctx, patience, func() (err error) {
		for _, name := range machines {
			if name == former || !c.leads(ctx, name) {
				continue
			}
			if conn, err = c.connect(ctx, name, database); err != nil {
				return err
			}
			var recovering bool
			err = conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&recovering)
			if err == nil && !recovering {
				leader = name
				return nil
			}
			conn.Close(ctx)
			return errors.Join(fmt.Errorf("%s is still in recovery", name), err)
		}
		return errors.New("no other machine leads")
	})
	return leader, conn, err
}

// logs are the ends of all logs of Patroni, for whoever has to find out.
func (c *cluster) logs() string {
	var b strings.Builder
	for _, name := range machines {
		if p := c.patroni[name]; p != nil {
			fmt.Fprintf(&b, "patroni of %s:\n%s\n", name, p.Tail())
		}
	}
	return b.String()
}
