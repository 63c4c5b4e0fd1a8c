//go:build darwin || dragonfly || freebsd

package sqlite

import "syscall"

// networkName names the kind of a network file system. On these the shared
// memory of the write-ahead log does not work between machines, and locks often
// do not either.
func networkName(s *syscall.Statfs_t) string {
	name := make([]byte, 0, len(s.Fstypename))
	for _, c := range s.Fstypename {
		if c == 0 {
			break
		}
		name = append(name, byte(c))
	}
	switch n := string(name); n {
	case "nfs", "smbfs", "afpfs", "webdav", "macfuse", "fusefs":
		return n
	}
	return ""
}
