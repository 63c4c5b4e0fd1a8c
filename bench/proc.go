package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// tick is the unit of CPU time in /proc/PID/stat: USER_HZ, which is 100 on
// every Linux.
const tick = time.Second / 100

// stat is what is used of /proc/PID/stat.
type stat struct {
	parent   int
	own      time.Duration // user and system time
	children time.Duration // the same of children that ended and were waited for
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the name in parentheses, which may hold anything.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields, want 15 at least", pid, len(fields))
	}
	n := func(field int) time.Duration { // numbered as in proc(5)
		v, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return time.Duration(v)
	}
	return stat{parent: int(n(4)), own: (n(14) + n(15)) * tick, children: (n(16) + n(17)) * tick}, nil
}

// cpuOf returns the CPU time of one process; 0 once it is gone.
func cpuOf(pid int) time.Duration {
	s, _ := readStat(pid)
	return s.own
}

// cpuOfFamily returns the CPU time of a process and all its children, living
// or dead. Between two readings it never goes back.
func cpuOfFamily(pid int) time.Duration {
	parent, _ := readStat(pid)
	total := parent.own + parent.children
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil && s.parent == pid {
			total += s.own
		}
	}
	return total
}

// cpuOfSelf returns the CPU time of this process.
func cpuOfSelf() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// busyTime is the CPU time that all of the machine has spent on anything.
func busyTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	var total time.Duration
	for n, f := range fields {
		if n == 0 || n == 4 || n == 5 || n > 8 { // the name, idle, iowait; guests are counted twice
			continue
		}
		v, _ := strconv.ParseInt(f, 10, 64)
		total += time.Duration(v) * tick
	}
	return total
}

const mib = 1 << 20

// memoryOf reads one field in kB of a file in /proc/PID: VmRSS of status, Pss
// of smaps_rollup. It returns bytes; 0 when it cannot be read.
func memoryOf(pid int, file, field string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// watchRSS looks at a process's resident memory ten times a second until ctx
// ends and keeps the most it saw.
func watchRSS(ctx context.Context, pid int) (most *atomic.Int64) {
	most = new(atomic.Int64)
	go func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			most.Store(max(most.Load(), memoryOf(pid, "status", "VmRSS")))
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return most
}
