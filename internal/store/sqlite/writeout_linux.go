package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// writeOut writes that part of the file that lies in memory to the disk, and waits
// for it. It promises nothing about a crash: that is for Sync, which then has
// little left to do. errors.ErrUnsupported where the file system knows no parts, or
// a sandbox forbids the call.
func writeOut(file *os.File, from, length int64) error {
	for {
		err := unix.SyncFileRange(int(file.Fd()), from, length,
			unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		switch err {
		case nil, unix.EIO, unix.ENOSPC, unix.EDQUOT:
			return os.NewSyscallError("sync_file_range", err)
		case unix.EINTR:
		default:
			return errors.ErrUnsupported
		}
	}
}
