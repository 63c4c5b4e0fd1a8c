package limit

import (
	"testing"
	"testing/fstest"
)

func TestMemory_isTheLeastOfAllLimits(t *testing.T) {
	const meminfo = "MemFree:         1024 kB\nMemTotal:       16777216 kB\n"
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"nothing known":  {fstest.MapFS{}, unknownMemory},
		"bare machine":   {fstest.MapFS{"proc/meminfo": file(meminfo)}, 16 << 30},
		"v2, no limit":   {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("max\n")}, 16 << 30},
		"v2, container":  {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("536870912\n")}, 512 << 20},
		"v2, ancestor":   {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/a.slice/b.service\n"), "sys/fs/cgroup/a.slice/memory.max": file("1073741824\n"), "sys/fs/cgroup/a.slice/b.service/memory.max": file("max\n")}, 1 << 30},
		"v2, outer path": {fstest.MapFS{"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/../../host/path\n"), "sys/fs/cgroup/memory.max": file("536870912\n")}, 512 << 20},
		"v1": {fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("268435456\n"),
		}, 256 << 20},
		"v1, no limit": {fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 16 << 30},
	} {
		if got := Memory(c.files); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}
