package sqlite

import "syscall"

// networkName names the kind of a network file system by its magic number, see
// statfs(2). On these the shared memory of the write-ahead log does not work
// between machines, and locks often do not either.
func networkName(s *syscall.Statfs_t) string {
	switch uint32(s.Type) {
	case 0x6969:
		return "nfs"
	case 0xff534d42, 0xfe534d42, 0x517b:
		return "smb"
	case 0x01021997:
		return "9p"
	case 0x00c36400:
		return "ceph"
	case 0x5346414f:
		return "afs"
	case 0x65735546:
		return "fuse"
	}
	return ""
}
