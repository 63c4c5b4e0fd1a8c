//go:build darwin || dragonfly || freebsd || linux

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"example.com/authserver/internal/store"
)

// fileLock is the lock file that a server holds. The kernel gives the lock back
// when the process ends, however it ends; the file stays, because deleting it
// would let two servers lock two files of one name.
type fileLock struct{ f *os.File }

// takeLock takes the lock file at path, or says store.ErrInUse.
func takeLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, fmt.Errorf("%w: %s is locked%s", store.ErrInUse, path, holderOf(f))
	}
	// Who holds the lock is written for people; a torn write misleads nobody else.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &fileLock{f}, nil
}

func holderOf(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		return fmt.Sprintf(" by process %d", pid)
	}
	return ""
}

func (l *fileLock) release() {
	if l != nil {
		l.f.Close()
	}
}

// lockDirectory keeps other processes from migrating in the same directory and
// waits for one that does. It leaves no file behind.
func lockDirectory(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			err = pause(ctx, busyStep)
		}
		if err != nil {
			d.Close()
			return nil, err
		}
	}
}

// statDisk returns the bytes that this process may still write beside the database,
// and whether the file system is one of the network's.
func statDisk(dir string) (free uint64, network string, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, "", err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), networkName(&s), nil //nolint:unconvert // signed on some systems
}
