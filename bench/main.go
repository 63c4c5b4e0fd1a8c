// Command bench measures the server: refreshes against what pgbench reaches on
// the same table, what a rotation costs the database, logins against the bare
// hash, the key set against a bare handler, start, memory and size. Rivals take
// turns in one run on one machine, so that what counts are ratios.
//
//	go run ./bench                    everything, with a million families
//	go run ./bench --quick            the same in small, to see that it works
//	go run ./bench --only refresh     one of the measurements
//	go run ./bench --scale            what takes hours and 40 GB: ten million families, purge, wear, soak
//
// It starts a PostgreSQL server and the authserver binary it builds, both in a
// new directory, and ends both. It owns no rule of the server. Two of its
// formats it repeats on purpose, the refresh token and the row of a family, so
// that nothing of the server's own code makes or checks what it is measured by.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	families  int
	seconds   int // of one measurement
	rounds    int
	rotations int // of the wear measurement
	starts    int
	scale     bool
	scaleOf   int // families of the large table
	churn     int // rotations of a small one
	soak      time.Duration
	rate      int // requests a second where the load is fixed
	only      string
	quick     bool
	socket    bool
	jsonFile  string
	profiles  string
	tmp       string
	binary    string
	settings  []string // of the server, as KEY=VALUE
}

// measurement is one part of the program.
type measurement struct {
	name     string
	postgres bool // needs the cluster with its families
	threads  int  // of this process; 0: one for each core
	take     func(*bench) error
	scale    bool // taken with --scale, or when --only names it
}

// measurements in the order they are taken. wear comes before refresh, because
// it also brings the table into the state of one that has been in use. Load comes
// from one thread, which suffices and spares the cores the search of idle threads
// for work.
var measurements = []measurement{
	{"size", false, 0, (*bench).measureSize, false},
	{"start", false, 0, (*bench).measureStart, false},
	{"mint", false, 0, (*bench).measureMint, false},
	{"sqlite", false, 1, (*bench).measureSQLite, false},
	{"wear", true, 1, (*bench).measureWear, false},
	{"refresh", true, 1, (*bench).measureRefresh, false},
	{"floor", true, 1, (*bench).measureFloor, false},
	{"cost", true, 1, (*bench).measureCost, false},
	{"jwks", true, 1, (*bench).measureJWKS, false},
	{"login", true, 0, (*bench).measureLogin, false},
	{"logins", true, 1, (*bench).measureLogins, false},
	{"storm", true, 1, (*bench).measureStorm, false},
	{"scale-sqlite", false, 1, (*bench).measureScaleSQLite, true},
	{"purge-sqlite", false, 1, (*bench).measurePurgeSQLite, true},
	{"churn-sqlite", false, 1, (*bench).measureChurnSQLite, true},
	{"churn", false, 1, (*bench).measureChurn, true},
	{"purge", false, 1, (*bench).measurePurge, true},
	{"scale", false, 1, (*bench).measureScale, true},
	{"soak-sqlite", false, 1, (*bench).measureSoakSQLite, true},
	{"soak", false, 1, (*bench).measureSoak, true},
}

// wanted reports whether a run takes a measurement.
func (o options) wanted(m measurement) bool {
	if o.only != "" {
		return slices.Contains(strings.Split(o.only, ","), m.name)
	}
	return m.scale == o.scale
}

func names() string {
	list := make([]string, len(measurements))
	for i, m := range measurements {
		list[i] = m.name
	}
	return strings.Join(list, ", ")
}

// bench is one run.
type bench struct {
	options
	ctx     context.Context
	dir     string // everything this run writes
	server  string // path of the binary that is measured
	cluster *cluster
	fleet   *fleet // the families in the cluster
	report  report
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case bareVerb:
			exit(serveBare(os.Args[2:]))
		case floorVerb:
			exit(serveFloor(context.Background()))
		}
	}
	// Children are started on this thread alone. They are told to end when the
	// thread that started them does, and this one lives as long as the process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("bench reads /proc and runs on linux only, not on %s", runtime.GOOS)
	}
	b := &bench{options: o, ctx: ctx}
	if b.dir, err = os.MkdirTemp(o.tmp, "authserver-bench."); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o755); err != nil { // the database's user passes through it
		return err
	}
	if err := b.build(); err != nil {
		return err
	}
	err = b.takeAll()
	if b.cluster != nil {
		b.cluster.stop()
	}
	b.report.print(os.Stdout)
	if o.jsonFile != "" {
		err = errors.Join(err, b.report.writeJSON(o.jsonFile))
	}
	return err
}

// takeAll goes on to the next measurement when one fails; the errors come
// together at the end.
func (b *bench) takeAll() error {
	b.report.Machine = describeMachine(b.dir)
	b.report.Families, b.report.Seconds, b.report.Rounds = b.families, b.seconds, b.rounds
	var failed []error
	for _, m := range measurements {
		if !b.wanted(m) {
			continue
		}
		if m.postgres && b.fleet == nil {
			if err := b.prepare(); err != nil {
				return errors.Join(append(failed, err)...)
			}
		}
		say("%s ...", m.name)
		began := time.Now()
		threads := runtime.GOMAXPROCS(m.threads) // 0 changes nothing
		if err := m.take(b); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
			say("%s failed: %v", m.name, err)
		}
		runtime.GOMAXPROCS(threads)
		say("%s took %s", m.name, time.Since(began).Round(time.Second))
		if b.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// ensureCluster starts the cluster, once.
func (b *bench) ensureCluster() (err error) {
	if b.cluster != nil {
		return nil
	}
	b.cluster, err = startCluster(b.ctx, filepath.Join(b.dir, "postgres"), b.socket)
	if err == nil {
		b.report.Machine.Postgres = b.cluster.version
	}
	return err
}

// prepare starts the cluster and fills its own database.
func (b *bench) prepare() (err error) {
	if err := b.ensureCluster(); err != nil {
		return err
	}
	say("seeding %d families ...", b.families)
	began := time.Now()
	b.fleet, err = seedPostgres(b.ctx, b.cluster, filepath.Join(b.dir, "data"), b.families, 0)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	say("seeding took %s", time.Since(began).Round(time.Second))
	return nil
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.families, "families", 1_000_000, "live families in Postgres")
	f.IntVar(&o.seconds, "seconds", 12, "length of one measurement")
	f.IntVar(&o.rounds, "rounds", 5, "rounds in which rivals take turns; medians are reported")
	f.IntVar(&o.rotations, "rotations", 1_000_000, "rotations after which the table's growth is measured")
	f.IntVar(&o.starts, "starts", 20, "starts of the server on an empty directory")
	f.BoolVar(&o.scale, "scale", false, "take the measurements of great numbers and long times, and only those")
	f.IntVar(&o.scaleOf, "scale-families", 10_000_000, "families of the large table; half as many expired rows are purged, and SQLite gets a tenth")
	f.IntVar(&o.churn, "churn", 10_000_000, "rotations over a hundredth as many families; SQLite gets a tenth")
	f.DurationVar(&o.soak, "soak", time.Hour, "length of the soak; SQLite gets a tenth")
	f.IntVar(&o.rate, "rate", 200, "requests a second where the load is fixed")
	f.StringVar(&o.only, "only", "", "take only these measurements, with commas: "+names())
	f.BoolVar(&o.quick, "quick", false, "100,000 families, short measurements, one round: to see that it works")
	f.BoolVar(&o.socket, "socket", false, "reach Postgres through its Unix socket and not by TCP, server and pgbench alike")
	f.StringVar(&o.jsonFile, "json", "", "write the figures to this file, too")
	f.StringVar(&o.profiles, "profile", "", "write CPU profiles of the server to this directory, taken in rounds that do not count")
	f.StringVar(&o.tmp, "dir", "", "where the directory of the run is made; 8 GB are needed, 40 with --scale (default: the temporary directory)")
	f.StringVar(&o.binary, "binary", "", "an authserver binary to measure, instead of building one")
	f.Func("env", "KEY=VALUE for the server's environment; may be repeated", func(pair string) error {
		if !strings.Contains(pair, "=") {
			return errors.New("want KEY=VALUE")
		}
		o.settings = append(o.settings, pair)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.quick {
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, small := range map[string]string{
			"families": "100000", "seconds": "3", "rounds": "1", "rotations": "100000", "starts": "5",
			"scale-families": "200000", "churn": "200000", "soak": "30s",
		} {
			if !given[name] {
				_ = f.Set(name, small) // these are numbers
			}
		}
	}
	for _, name := range strings.Split(o.only, ",") {
		if o.only != "" && !slices.ContainsFunc(measurements, func(m measurement) bool { return m.name == name }) {
			return o, fmt.Errorf("--only names %q; want some of %s", name, names())
		}
	}
	if o.scaleOf < 100_000 || o.churn < 100_000 || o.soak < 10*time.Second || o.rate < 10 {
		return o, errors.New("want at least 100000 --scale-families and --churn, 10s of --soak and a --rate of 10")
	}
	if o.families < 1000 || o.rounds < 1 || o.seconds < 1 || o.starts < 1 || o.rotations < 1 {
		return o, errors.New("want at least 1000 --families, and 1 of --rounds, --seconds, --starts and --rotations")
	}
	return o, nil
}

// say reports progress on standard error; the results go to standard output.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
