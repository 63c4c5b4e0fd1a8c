package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/authserver/test/rig"
)

// network is a bridge of this host with one namespace for each machine of the
// lab behind it. The host itself, where the servers and the clients run, is on
// the bridge with address 1. The addresses are from 198.18.0.0/15, which is set
// apart for tests of networks (RFC 2544).
type network struct {
	prefix  string // of the addresses, "198.18.7."
	bridge  string
	owner   string // what the names of its devices and namespaces begin with
	members []string
}

// namePrefix begins the names of all that labs leave in the kernel; the id of
// the process comes next.
const namePrefix = "aslab"

// newNetwork makes the bridge and, for each member, a namespace with address
// 11, 12, ...
func newNetwork(ctx context.Context, members []string) (*network, error) {
	prefix, err := freePrefix(ctx)
	if err != nil {
		return nil, err
	}
	owner := namePrefix + strconv.Itoa(os.Getpid())
	n := &network{prefix: prefix, owner: owner, bridge: owner + "b", members: members}
	if err := n.build(ctx); err != nil {
		n.remove()
		return nil, err
	}
	return n, nil
}

func (n *network) build(ctx context.Context) error {
	commands := []string{
		"link add " + n.bridge + " type bridge",
		"addr add " + n.prefix + "1/24 dev " + n.bridge,
		"link set " + n.bridge + " up",
	}
	for i, m := range n.members {
		ns, host := n.namespace(m), n.hostSide(i)
		commands = append(commands,
			"netns add "+ns,
			"link add "+host+" type veth peer name eth0 netns "+ns,
			"link set "+host+" master "+n.bridge+" up",
			"-n "+ns+" link set lo up",
			"-n "+ns+" addr add "+n.address(m)+"/24 dev eth0",
			"-n "+ns+" link set eth0 up",
		)
	}
	for _, c := range commands {
		if err := ip(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) index(member string) int {
	for i, m := range n.members {
		if m == member {
			return i
		}
	}
	panic("the lab has no machine " + member)
}

func (n *network) namespace(member string) string { return n.owner + "-" + member }
func (n *network) hostSide(i int) string          { return fmt.Sprintf("%sv%d", n.owner, i+1) }
func (n *network) address(member string) string {
	return n.prefix + strconv.Itoa(11+n.index(member))
}

// isolate takes a machine's cable out. Nobody is told: what is sent vanishes.
func (n *network) isolate(ctx context.Context, member string) error {
	return ip(ctx, "link set "+n.hostSide(n.index(member))+" down")
}

// rejoin puts it back.
func (n *network) rejoin(ctx context.Context, member string) error {
	return ip(ctx, "link set "+n.hostSide(n.index(member))+" up")
}

// nowhere is a link-layer address that no machine has.
const nowhere = "02:00:00:00:de:ad"

// way is how one machine sends to another; what comes back goes another way.
type way struct{ from, to string }

// cut keeps what is sent on some ways from arriving, while the host still reaches all
// machines: frames go to a machine that does not exist, so they vanish and no error tells
// of it.
func (n *network) cut(ctx context.Context, ways ...way) error {
	var failed []error
	for _, w := range ways {
		failed = append(failed, ip(ctx, "-n "+n.namespace(w.from)+" neigh replace "+n.address(w.to)+" lladdr "+nowhere+" dev eth0 nud permanent"))
	}
	return errors.Join(failed...)
}

// mend undoes cut.
func (n *network) mend(ctx context.Context, ways ...way) error {
	var failed []error
	for _, w := range ways {
		failed = append(failed, ip(ctx, "-n "+n.namespace(w.from)+" neigh del "+n.address(w.to)+" dev eth0"))
	}
	return errors.Join(failed...)
}

// from are the ways from a machine to its peers.
func (n *network) from(member string) (ways []way) {
	for _, peer := range n.members {
		if peer != member {
			ways = append(ways, way{member, peer})
		}
	}
	return ways
}

// towards are those from its peers to a machine.
func (n *network) towards(member string) (ways []way) {
	for _, w := range n.from(member) {
		ways = append(ways, way{w.to, w.from})
	}
	return ways
}

// around are both.
func (n *network) around(member string) []way {
	return append(n.from(member), n.towards(member)...)
}

// pids are the processes of a machine.
func (n *network) pids(member string) []int { return pidsIn(n.namespace(member)) }

func pidsIn(namespace string) (list []int) {
	out, _ := exec.Command("ip", "netns", "pids", namespace).Output() // a namespace that is gone has none
	for field := range strings.FieldsSeq(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// kill ends every process in a namespace at once, as a power cut does, and
// waits until all are gone.
func kill(namespace string) error {
	return rig.Poll(context.Background(), 20*time.Second, func() error {
		left := pidsIn(namespace)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
		if len(left) > 0 {
			return fmt.Errorf("processes %v of %s are still there", left, namespace)
		}
		return nil
	})
}

// remove ends all that runs on the machines and takes the network down.
func (n *network) remove() {
	for i, m := range n.members {
		_ = kill(n.namespace(m))
		_ = ip(context.Background(), "link del "+n.hostSide(i))
		_ = ip(context.Background(), "netns del "+n.namespace(m))
	}
	_ = ip(context.Background(), "link del "+n.bridge)
}

// removeLeftovers takes down what labs left behind that were killed outright.
func removeLeftovers(ctx context.Context) {
	out, _ := exec.CommandContext(ctx, "ip", "netns", "list").Output()
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if gone(name) {
			_ = kill(name)
			_ = ip(ctx, "netns del "+name)
		}
	}
	out, _ = exec.CommandContext(ctx, "ip", "-brief", "link").Output()
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "@")
		if gone(name) {
			_ = ip(ctx, "link del "+name)
		}
	}
}

// gone reports whether a name belongs to a lab whose process is no more.
func gone(name string) bool {
	var pid int
	if _, err := fmt.Sscanf(name, namePrefix+"%d", &pid); err != nil {
		return false
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// freePrefix finds a network that no device of the host has.
func freePrefix(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "ip", "-4", "-brief", "addr").Output()
	if err != nil {
		return "", fmt.Errorf("ip addr: %w", err)
	}
	for i := range 250 {
		prefix := fmt.Sprintf("198.18.%d.", 1+(os.Getpid()+i)%250)
		if !strings.Contains(string(out), " "+prefix) {
			return prefix, nil
		}
	}
	return "", errors.New("198.18.0.0/16 is full")
}

func ip(ctx context.Context, args string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}
