package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// writeOut writes that part of the file that lies in memory to the disk, and waits
// for it. It promises nothing about a crash: that is for Sync, which then has
// little left to do. errors.ErrUnsupported where the file system has no parts.
func writeOut(file *os.File, from, length int64) error {
	err := unix.SyncFileRange(int(file.Fd()), from, length,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ESPIPE):
		return errors.ErrUnsupported
	case err != nil:
		return os.NewSyscallError("sync_file_range", err)
	}
	return nil
}
