package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// machine describes where the figures come from.
type machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`
	MemoryGB float64 `json:"memory_gb"`
	Kernel   string  `json:"kernel"`
	Go       string  `json:"go"`
	Postgres string  `json:"postgres,omitempty"`
	// SyncMicros is how long it takes to make 8 KiB durable on the disk of the
	// run, the median of 200: what a lone commit waits for.
	SyncMicros float64 `json:"fdatasync_us"`
}

// String implements fmt.Stringer.
func (m machine) String() string {
	s := fmt.Sprintf("%d cores (%s), %.0f GB, Linux %s, %s", m.Cores, m.CPU, m.MemoryGB, m.Kernel, m.Go)
	if m.Postgres != "" {
		s += ", PostgreSQL " + m.Postgres
	}
	return s + fmt.Sprintf(", fdatasync of 8 KiB %.0f us", m.SyncMicros)
}

func describeMachine(dir string) machine {
	m := machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Go: runtime.Version(),
		MemoryGB: float64(memoryTotal()) / (1 << 30), SyncMicros: micros(syncTime(dir)),
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel, _, _ = strings.Cut(strings.TrimSpace(string(release)), "-") // what follows names the builder
	return m
}

// field returns the value of the first line that begins with the name.
func field(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.SplitSeq(string(text), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func memoryTotal() int64 {
	var kb int64
	_, _ = fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d", &kb) // stays 0
	return kb << 10
}

func syncTime(dir string) time.Duration {
	path := filepath.Join(dir, "sync")
	f, err := os.Create(path)
	if err != nil {
		return 0
	}
	defer os.Remove(path)
	defer f.Close()
	page := make([]byte, 8<<10)
	var took []time.Duration
	for n := range int64(220) {
		began := time.Now()
		if _, err := f.WriteAt(page, n%16*int64(len(page))); err != nil {
			return 0
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0
		}
		if n >= 20 { // the first ones allocate
			took = append(took, time.Since(began))
		}
	}
	return median(took)
}
