//go:build darwin || dragonfly || freebsd || linux

package sqlite

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"example.com/authserver/internal/store"
)

// writable refuses what this process may not write, by name: SQLite opens such a database
// for reading, and every write of a server that looks well would fail. So it is after a
// restore by another user. Asking opens nothing: see place.
func writable(path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		err := unix.Faccessat(unix.AT_FDCWD, name, unix.W_OK, unix.AT_EACCESS)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
			return &store.Unfit{Err: fmt.Errorf("%s may not be written by this user; want its owner to be who runs the server, and mode 0600", name)}
		}
	}
	return nil
}
