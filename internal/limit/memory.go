package limit

import (
	"io/fs"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// unknownMemory is assumed where the system tells nothing about its memory.
const unknownMemory = 1 << 30

// Memory returns how many bytes this process may use: the least of
// physical memory, the limits of its cgroup and those above it, and the
// runtime's own limit (GOMEMLIMIT or debug.SetMemoryLimit, as set by now).
// root is the root of the file system.
func Memory(root fs.FS) int64 {
	limits := []int64{debug.SetMemoryLimit(-1)} // a negative argument only asks
	limits = append(limits, physicalMemory(root))
	limits = append(limits, cgroupLimits(root)...)
	const none = 1 << 60 // cgroup v1 and the runtime say "no limit" with a huge number
	least := int64(none)
	for _, limit := range limits {
		if limit > 0 {
			least = min(least, limit)
		}
	}
	if least == none {
		return unknownMemory
	}
	return least
}

func physicalMemory(root fs.FS) int64 {
	text, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if kib, found := strings.CutPrefix(line, "MemTotal:"); found {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kib), " kB"), 10, 64)
			return n << 10
		}
	}
	return 0
}

// cgroupLimits reads the limits of this process's cgroup and its ancestors,
// of version 2 ("0::/path") and version 1 ("4:memory:/path"). Inside a
// container the path may be the host's and not exist here; then the root,
// which is the container's own group, has the answer.
func cgroupLimits(root fs.FS) []int64 {
	var limits []int64
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		var mount, file string
		switch controllers := "," + fields[1] + ","; {
		case fields[0] == "0" && fields[1] == "":
			mount, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(controllers, ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			limit, _ := fs.ReadFile(root, path.Join(mount, group, file))
			if n, err := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64); err == nil { // not "max"
				limits = append(limits, n)
			}
			if group == "/" {
				break
			}
		}
	}
	return limits
}
