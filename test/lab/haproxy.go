package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/test/rig"
)

// door is HAProxy before the three machines: the other way to find the primary, with
// nothing in the URL of a server that tells of a cluster. It runs on the host, beside the
// servers, because a machine that is cut off from its peers is still to be written to.
type door struct {
	*rig.Process

	address string
}

// haproxyConfig leads to the machine whose Patroni says that it is the primary, in the way
// Patroni's documentation shows, with shorter intervals. Without shutdown-sessions a server
// would stay connected to a primary that has been replaced.
func (c *cluster) haproxyConfig(address string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `defaults
    mode tcp
    timeout connect 2s
    timeout check 1s
    timeout client 30m
    timeout server 30m
listen primary
    bind %s
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 3 rise 2 on-marked-down shutdown-sessions
`, address)
	for _, name := range machines {
		fmt.Fprintf(&b, "    server %s %s:5432 check port 8008\n", name, c.net.address(name))
	}
	return b.String()
}

// openDoor returns when a connection through HAProxy reaches a primary.
func (c *cluster) openDoor(ctx context.Context) (err error) {
	address, err := rig.FreeAddress()
	if err != nil {
		return err
	}
	file := filepath.Join(c.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(c.haproxyConfig(address)), 0o644); err != nil {
		return err
	}
	// HAProxy writes nothing to the file; as PostgreSQL's user it has no rights but to listen.
	cmd := exec.Command("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--", "haproxy", "-db", "-f", file)
	process, err := rig.Start(cmd, "haproxy", filepath.Join(c.dir, "haproxy.log"))
	if err != nil {
		return err
	}
	c.door = &door{process, address}
	// It takes all machines for up, and leads to any of them, until their checks have failed.
	if err := wait(ctx, 5*time.Second); err != nil {
		return err
	}
	return process.Await(ctx, time.Minute, func() error {
		conn, err := pgx.Connect(ctx, c.urlThroughDoor())
		if err == nil {
			conn.Close(ctx)
		}
		return err
	})
}

// urlThroughDoor is what an authserver gets that knows of one address only.
func (c *cluster) urlThroughDoor() string {
	return c.urlOf(c.door.address, database, "connect_timeout=2")
}
