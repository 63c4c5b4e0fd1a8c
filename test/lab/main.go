// Command lab proves that no acknowledged rotation is lost when a database
// fails over, and that it would notice if one were.
//
//	make lab                          as root, with etcd-server, patroni and haproxy installed
//	make lab ARGS="--rounds 2"
//
// Three machines, each in a network namespace of this host, run PostgreSQL under
// Patroni; etcd has a namespace of its own. Two servers use them, one by a URL that names all
// three and one through HAProxy, and a storm of clients refreshes through both servers. The primary is killed and cut off again and again, in
// eight ways, and in three more rounds no other machine takes over. After each the
// generations that the clients were answered are compared with those in the primary.
//
// With synchronous replication in strict mode nothing may be missing. With
// asynchronous replication, the negative control, something must be: a lab that
// finds no loss there would find none anywhere. No client may ever be answered
// with anything but 200 and 503, in either mode: a token from above the head is
// proof enough that the store, not the client, forgot.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/authserver/test/rig"
)

// options are the flags.
type options struct {
	rounds  int // with synchronous replication
	control int // with asynchronous replication
	clients int
	faults  []fault // in turns
	keep    bool
	tmp     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	var o options
	f := flag.NewFlagSet("lab", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", len(faults)-1, "faults with synchronous replication")
	f.IntVar(&o.control, "control", 5, "faults with asynchronous replication")
	f.IntVar(&o.clients, "clients", 40, "clients that refresh, half of them held still during a failover")
	only := f.String("fault", "", "the only fault: "+strings.Join(names(faults), ", ")+" (default: all in turns but the last, which only shows what Patroni does)")
	f.BoolVar(&o.keep, "keep", false, "keep the directory with all logs")
	f.StringVar(&o.tmp, "dir", "", "where the directory of the run is made; 3 GB are needed (default: the temporary directory)")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.faults = slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		if *only == "" {
			return f.apart
		}
		return f.name != *only
	})
	if len(o.faults) == 0 {
		return fmt.Errorf("no fault is named %q; there are %s", *only, strings.Join(names(faults), ", "))
	}
	if f.NArg() > 0 || o.rounds < 0 || o.control < 0 || o.rounds+o.control == 0 || o.clients < 2 {
		return errors.New("want no arguments, a round of either kind and two --clients at least")
	}
	postgres, err := findPrograms(ctx)
	if err != nil {
		return err
	}
	removeLeftovers(ctx)
	dir, err := os.MkdirTemp(o.tmp, "authserver-lab.")
	if err != nil {
		return err
	}
	if o.keep {
		say("logs are in %s", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user passes through it
		return err
	}
	l := &lab{options: o, dir: dir, postgres: postgres, binary: filepath.Join(dir, "authserver"), master: newMasterKey()}
	if err := rig.Build(ctx, "", l.binary); err != nil {
		return err
	}

	var reports []*report
	for _, mode := range []struct {
		synchronous bool
		rounds      int
	}{{true, o.rounds}, {false, o.control}} {
		if mode.rounds == 0 {
			continue
		}
		r, failed := l.measure(ctx, mode.synchronous, mode.rounds)
		reports = append(reports, r)
		if err = errors.Join(err, failed); ctx.Err() != nil {
			break
		}
	}
	for _, r := range reports {
		r.print(os.Stdout)
		if ctx.Err() == nil {
			err = errors.Join(err, r.verdict())
		}
	}
	return err
}

func newMasterKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return base64.StdEncoding.EncodeToString(key)
}

// findPrograms returns the directory of PostgreSQL's programs. What is missing
// is not installed: Debian's packages of etcd, Patroni and HAProxy would start services.
func findPrograms(ctx context.Context) (postgres string, err error) {
	if os.Geteuid() != 0 {
		return "", errors.New("network namespaces need root")
	}
	var missing []string
	for _, program := range []string{"ip", "setpriv", "etcd", "patroni", "haproxy"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("not found: %s\nhint: RUNLEVEL=1 apt-get install --no-install-recommends iproute2 util-linux etcd-server patroni haproxy", strings.Join(missing, ", "))
	}
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(strings.TrimSpace(string(gomod))), "scripts", "ensure"), "postgres").Output()
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// say reports progress on standard error; the results go to standard output.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
