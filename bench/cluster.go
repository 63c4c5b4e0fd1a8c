package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// cluster is a PostgreSQL server that lives as long as the run.
type cluster struct {
	bin      string // directory of the programs
	dir      string // of the data
	host     string // an address, or the directory of the socket
	port     string
	password string
	version  string
	database string              // the one that conn is in
	owner    *syscall.Credential // whom its programs run as; nil for ourselves
	server   *child
	conn     *pgx.Conn // for seeding and for asking; one goroutine at a time
}

// settings are those of a small production server, with one thing set apart:
// no checkpoint falls into a measurement. Which rival it hit would be chance,
// and the full page images after it belong to the checkpoint, not to a rotation.
const settings = `
listen_addresses = '127.0.0.1'
unix_socket_directories = '%s'
max_connections = 200
shared_buffers = %dMB
fsync = on
synchronous_commit = on
full_page_writes = on
max_wal_size = 16GB
checkpoint_timeout = 1h
log_checkpoints = on
log_min_duration_statement = -1
`

func startCluster(ctx context.Context, dir string, socket bool) (*cluster, error) {
	bin, err := postgresPrograms(ctx)
	if err != nil {
		return nil, err
	}
	c := &cluster{database: database, bin: bin, dir: filepath.Join(dir, "data"), host: "127.0.0.1", password: rand.Text()}
	if socket {
		c.host = dir
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if c.owner, err = databaseUser(); err != nil {
			return nil, err
		}
		if err := os.Chown(dir, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
			return nil, err
		}
	}
	if c.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := c.initialise(ctx, dir); err != nil {
		return nil, err
	}
	c.server, err = startChild(c.program("postgres", "-D", c.dir, "-p", c.port), "postgres", filepath.Join(dir, "..", "postgres.log"), syscall.SIGQUIT, c.owner)
	if err != nil {
		return nil, err
	}
	err = c.server.await(ctx, time.Minute, 50*time.Millisecond, func() (err error) {
		c.conn, err = pgx.Connect(ctx, c.url("postgres"))
		return err
	})
	if err == nil {
		err = c.makeDatabase(ctx)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) initialise(ctx context.Context, dir string) error {
	secretFile := filepath.Join(dir, "password")
	if err := os.WriteFile(secretFile, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	if c.owner != nil {
		if err := os.Chown(secretFile, int(c.owner.Uid), int(c.owner.Gid)); err != nil {
			return err
		}
	}
	initdb := c.program("initdb", "--pgdata="+c.dir, "--username=postgres", "--pwfile="+secretFile,
		"--auth=password", "--encoding=UTF8", "--no-locale")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w:\n%s", err, out)
	}
	buffers := min(1024, memoryTotal()/4/mib)
	conf, err := os.OpenFile(filepath.Join(c.dir, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer conf.Close()
	_, err = fmt.Fprintf(conf, settings, dir, buffers)
	return err
}

// database is where the server's tables are.
const database = "authserver"

func (c *cluster) makeDatabase(ctx context.Context) error {
	if err := c.conn.QueryRow(ctx, `SHOW server_version`).Scan(&c.version); err != nil {
		return err
	}
	c.version, _, _ = strings.Cut(c.version, " ")
	if _, err := c.conn.Exec(ctx, `CREATE DATABASE `+database); err != nil {
		return err
	}
	c.conn.Close(ctx)
	var err error
	c.conn, err = pgx.Connect(ctx, c.url(database))
	return err
}

// open makes another database and returns the same cluster with a connection to
// it. drop takes it away again.
func (c *cluster) open(ctx context.Context, name string) (*cluster, error) {
	if _, err := c.conn.Exec(ctx, `CREATE DATABASE `+name); err != nil {
		return nil, err
	}
	other := *c
	other.database = name
	var err error
	other.conn, err = pgx.Connect(ctx, c.url(name))
	return &other, err
}

func (c *cluster) drop(ctx context.Context, other *cluster) error {
	other.conn.Close(ctx)
	_, err := c.conn.Exec(ctx, `DROP DATABASE `+other.database+` WITH (FORCE)`)
	return err
}

// url names a database the way both rivals reach it.
func (c *cluster) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("postgres", c.password), Host: c.host + ":" + c.port, Path: "/" + database}
	if strings.HasPrefix(c.host, "/") {
		u.Host = ""
		u.RawQuery = url.Values{"host": {c.host}, "port": {c.port}, "sslmode": {"disable"}}.Encode()
	} else {
		u.RawQuery = "sslmode=disable"
	}
	return u.String()
}

// program is one of PostgreSQL's own, run as the owner of the data.
func (c *cluster) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PGPASSWORD="+c.password, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return cmd
}

// scratch makes a directory that the cluster's programs may write to.
func (c *cluster) scratch(within string) (string, error) {
	dir, err := os.MkdirTemp(within, "scratch-")
	if err == nil && c.owner != nil {
		err = os.Chown(dir, int(c.owner.Uid), int(c.owner.Gid))
	}
	return dir, err
}

// stop ends the server at once: nothing in it is worth a checkpoint.
func (c *cluster) stop() {
	if c.server != nil {
		c.server.stop(syscall.SIGQUIT, 10*time.Second)
	}
}

// cpu is the CPU time of all of the server's processes.
func (c *cluster) cpu() time.Duration { return cpuOfFamily(c.server.pid()) }

// postgresPrograms finds PostgreSQL, and installs it where scripts/ensure may.
func postgresPrograms(ctx context.Context) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	ensure := exec.CommandContext(ctx, filepath.Join(root, "scripts", "ensure"), "postgres")
	ensure.Stderr = os.Stderr
	out, err := ensure.Output()
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	bin := strings.TrimSpace(string(out))
	if _, err := os.Stat(filepath.Join(bin, "pgbench")); err != nil {
		return "", fmt.Errorf("PostgreSQL in %s comes without pgbench, which is what the server is measured against: %w", bin, err)
	}
	return bin, nil
}

func databaseUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("ask for the module: go env GOMOD: %w", err)
	}
	path := strings.TrimSpace(string(out))
	if path == "" || path == os.DevNull {
		return "", fmt.Errorf("go env GOMOD says %q: run bench inside the module", path)
	}
	return filepath.Dir(path), nil
}
