//go:build !(darwin || dragonfly || freebsd || linux)

package sqlite

import (
	"context"
	"errors"
)

type fileLock struct{}

var errNoLocks = errors.New("this system has no flock(2), and without it two servers could use one SQLite file; use Postgres")

func takeLock(string) (*fileLock, error) { return nil, errNoLocks }

func (*fileLock) release() {}

// lockDirectory locks nothing: no server runs here, and of two commands that
// migrate at once one is told to try again.
func lockDirectory(context.Context, string) (unlock func(), err error) { return func() {}, nil }

func statDisk(string) (free uint64, network string, err error) {
	return 0, "", errors.ErrUnsupported
}

// writable asks nothing: there is no server here that could look well.
func writable(string) error { return nil }
