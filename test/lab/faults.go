package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fault is something that befalls the machines, above all one way in which a primary is lost.
type fault struct {
	name   string
	strike func(ctx context.Context, c *cluster, primary string) error
	// repair undoes it, once another primary was found and compared.
	repair func(ctx context.Context, c *cluster, former string) error
	// lasts is how long it is borne where no other machine takes over; 0: one does.
	lasts time.Duration
	// apart faults are struck only by their name.
	apart bool
}

// linger is how long a primary that is cut off from its replicas goes on being
// written to before it dies. It is shorter than what such a primary needs to
// notice.
const linger = 2 * time.Second

// faults in the order of the rounds. The first one is what loses most with
// asynchronous replication.
var faults = []fault{
	{
		name: "cut off, then killed", strike: func(ctx context.Context, c *cluster, primary string) error {
			if err := c.net.cut(ctx, c.net.around(primary)...); err != nil {
				return err
			}
			if err := wait(ctx, linger); err != nil {
				return err
			}
			return c.powerOff(primary)
		},
		repair: func(ctx context.Context, c *cluster, former string) error {
			return errors.Join(c.net.mend(ctx, c.net.around(former)...), restart(ctx, c, former))
		},
	},
	{name: "PostgreSQL killed", strike: killPostgres, repair: restart},
	severed("cut off, both alive", 0, (*network).around),
	{name: "machine killed", strike: func(_ context.Context, c *cluster, primary string) error { return c.powerOff(primary) }, repair: restart},
	{
		name: "cable out", strike: func(ctx context.Context, c *cluster, primary string) error { return c.net.isolate(ctx, primary) },
		repair: func(ctx context.Context, c *cluster, former string) error { return c.net.rejoin(ctx, former) },
	},
	severed("primary hears no peer", 0, (*network).towards),
	severed("no peer hears the primary", 0, (*network).from),
	severed("primary without etcd", 0, func(n *network, primary string) []way {
		return []way{{primary, arbiter}, {arbiter, primary}}
	}),
	// Patroni lets the primary be, and with synchronous replication its commits wait.
	severed("primary without replicas", 20*time.Second, func(n *network, primary string) (ways []way) {
		for _, w := range n.around(primary) {
			if w.from != arbiter && w.to != arbiter {
				ways = append(ways, w)
			}
		}
		return ways
	}),
	{
		// No machine dares to lead.
		name: "etcd away", lasts: 30 * time.Second,
		strike: func(ctx context.Context, c *cluster, _ string) error { return c.net.isolate(ctx, arbiter) },
		repair: func(ctx context.Context, c *cluster, _ string) error { return c.net.rejoin(ctx, arbiter) },
	},
	{
		// PostgreSQL notices after wal_sender_timeout, and another replica is waited for.
		name: "standby stopped", lasts: 20 * time.Second,
		strike: func(ctx context.Context, c *cluster, primary string) error {
			return c.signal(c.standby(ctx, primary), syscall.SIGSTOP)
		},
		repair: func(_ context.Context, c *cluster, _ string) error {
			for _, name := range machines {
				if err := c.signal(name, syscall.SIGCONT); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		// It wakes as a primary that has been replaced, with connections still open. Patroni
		// 3.0, which wakes with it, often takes the lock back without asking: the new primary
		// steps down, and what it has acknowledged is lost.
		name:   "machine stopped",
		strike: func(_ context.Context, c *cluster, primary string) error { return c.signal(primary, syscall.SIGSTOP) },
		repair: func(_ context.Context, c *cluster, former string) error { return c.signal(former, syscall.SIGCONT) },
		apart:  true,
	},
}

// severed cuts some ways between machines, and no machine dies.
func severed(name string, lasts time.Duration, ways func(n *network, primary string) []way) fault {
	return fault{
		name: name, lasts: lasts,
		strike: func(ctx context.Context, c *cluster, primary string) error {
			return c.net.cut(ctx, ways(c.net, primary)...)
		},
		repair: func(ctx context.Context, c *cluster, former string) error {
			return c.net.mend(ctx, ways(c.net, former)...)
		},
	}
}

func names(list []fault) (all []string) {
	for _, f := range list {
		all = append(all, f.name)
	}
	return all
}

func restart(_ context.Context, c *cluster, former string) error { return c.startMachine(former) }

// standby is the machine that commits wait for, or with asynchronous replication any
// replica.
func (c *cluster) standby(ctx context.Context, primary string) (name string) {
	for _, m := range machines {
		if m != primary && (name == "" || c.says(ctx, m, "synchronous")) {
			name = m
		}
	}
	return name
}

// signal sends a signal to all processes of a machine.
func (c *cluster) signal(name string, s syscall.Signal) error {
	sent := 0
	for _, pid := range c.net.pids(name) {
		if err := syscall.Kill(pid, s); err == nil {
			sent++
		} else if !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("%s to process %d of %s: %w", s, pid, name, err)
		}
	}
	if sent == 0 {
		return fmt.Errorf("nothing runs on %s", name)
	}
	return nil
}

// killPostgres ends all of a machine's processes but Patroni.
func killPostgres(_ context.Context, c *cluster, primary string) error {
	struck := false
	for _, pid := range c.net.pids(primary) {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || filepath.Base(exe) != "postgres" {
			continue
		}
		struck = syscall.Kill(pid, syscall.SIGKILL) == nil || struck
	}
	if !struck {
		return fmt.Errorf("no PostgreSQL runs on %s", primary)
	}
	return nil
}
