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
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/test/rig"
)

// cluster is three machines with etcd, Patroni and PostgreSQL each.
type cluster struct {
	net         *network
	dir         string
	bin         string // of PostgreSQL's programs
	synchronous bool
	password    string
	machines    map[string]*machine
}

// machine is what runs in one namespace. PostgreSQL is Patroni's child.
type machine struct {
	name          string
	etcd, patroni *rig.Process
}

// machineNames are those of the lab.
var machineNames = []string{"one", "two", "three"}

// startCluster starts all machines on empty disks and returns when one leads
// and the others stream from it.
func startCluster(ctx context.Context, dir, bin string, synchronous bool) (*cluster, error) {
	net, err := newNetwork(ctx, machineNames)
	if err != nil {
		return nil, err
	}
	c := &cluster{net: net, dir: dir, bin: bin, synchronous: synchronous, password: rand.Text(), machines: map[string]*machine{}}
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
		c.machines[name] = &machine{name: name}
	}
	for _, name := range c.net.members {
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
	for _, name := range c.net.members {
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
	return nil
}

// startMachine starts what is not running on a machine: after a power cut all
// of it, with the disks as they were.
func (c *cluster) startMachine(name string) error {
	m, ip, dir := c.machines[name], c.net.address(name), filepath.Join(c.dir, name)
	var err error
	if !running(m.etcd) {
		var peers []string
		for _, peer := range c.net.members {
			peers = append(peers, peer+"=http://"+c.net.address(peer)+":2380")
		}
		m.etcd, err = c.startOn(name, "etcd", "etcd", "--name", name, "--data-dir", filepath.Join(dir, "etcd"),
			"--listen-client-urls", "http://"+ip+":2379", "--advertise-client-urls", "http://"+ip+":2379",
			"--listen-peer-urls", "http://"+ip+":2380", "--initial-advertise-peer-urls", "http://"+ip+":2380",
			"--initial-cluster", strings.Join(peers, ","), "--initial-cluster-state", "new", "--log-level", "warn")
		if err != nil {
			return err
		}
	}
	if !running(m.patroni) {
		m.patroni, err = c.startOn(name, "patroni", "patroni", filepath.Join(dir, "patroni.yaml"))
	}
	return err
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
	cmd := exec.Command("ip", append([]string{"netns", "exec", c.net.namespace(name),
		"setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8"}
	return rig.Start(cmd, what+" of "+name, filepath.Join(dir, what+".log"))
}

// stop takes everything down.
func (c *cluster) stop() { c.net.remove() }

// connect reaches one machine's PostgreSQL and no other.
func (c *cluster) connect(ctx context.Context, name, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, c.url(database, "connect_timeout=3", name))
}

// serverURL is what an authserver gets: all machines, whoever may be written to.
func (c *cluster) serverURL() string {
	return c.url(database, "connect_timeout=2&target_session_attrs=read-write", c.net.members...)
}

func (c *cluster) url(database, query string, names ...string) string {
	hosts := make([]string, len(names))
	for i, name := range names {
		hosts[i] = c.net.address(name) + ":5432"
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", c.password), Host: strings.Join(hosts, ","),
		Path: "/" + database, RawQuery: "sslmode=disable&" + query}
	return u.String()
}

var patroniClient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// leads reports whether a machine's Patroni says that it is the primary and
// holds the lock.
func (c *cluster) leads(ctx context.Context, name string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.net.address(name)+":8008/primary", nil)
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
	for _, name := range c.net.members {
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
	case streaming != len(c.net.members)-1:
		return "", fmt.Errorf("%d machines stream from %s; want %d", streaming, leader, len(c.net.members)-1)
	case c.synchronous != (synchronous > 0):
		return "", fmt.Errorf("%d machines are synchronous; synchronous replication is to be %t", synchronous, c.synchronous)
	}
	return leader, nil
}

// awaitSuccessor waits until another machine than the former leader leads and
// can be written to, and returns a connection to it.
func (c *cluster) awaitSuccessor(ctx context.Context, former string, patience time.Duration) (leader string, conn *pgx.Conn, err error) {
	err = rig.Poll(ctx, patience, func() (err error) {
		for _, name := range c.net.members {
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
	for _, name := range c.net.members {
		if m := c.machines[name]; m != nil && m.patroni != nil {
			fmt.Fprintf(&b, "patroni of %s:\n%s\n", name, m.patroni.Tail())
		}
	}
	return b.String()
}
