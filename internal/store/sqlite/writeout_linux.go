package sqlite

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeOut writes that part of the file that lies in memory to the disk, and waits
// for it. It promises nothing about a crash: that is for Sync, which then has
// little left to do.
func writeOut(file *os.File, from, length int64) error {
	return unix.SyncFileRange(int(file.Fd()), from, length,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}
