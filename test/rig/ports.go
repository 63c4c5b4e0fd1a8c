package rig

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// The ports that are lent: below those that kernels give to whoever asks for any, and below
// those of scripts/with-postgres.
const (
	firstPort = 10_000
	morePorts = 5_000
)

// lent keeps what reserves the ports of this process.
var lent struct {
	sync.Mutex

	files []*os.File
}

// FreeAddress returns an address of 127.0.0.1 that nobody listens on. As long as this process
// lives it is lent to nobody else who asks here, in this process or in another one of this
// user: whoever it is for starts later, and may be killed and started again.
func FreeAddress() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("authserver-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var failed error
	for range 200 {
		address, file, err := reserve(dir, firstPort+rand.IntN(morePorts))
		if err == nil {
			lent.Lock()
			defer lent.Unlock()
			lent.files = append(lent.files, file)
			return address, nil
		}
		failed = err
	}
	return "", fmt.Errorf("find a free port: %w", failed)
}

// reserve locks the file that stands for a port. The lock ends with the process.
func reserve(dir string, port int) (address string, file *os.File, err error) {
	file, err = os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, file, l.Close()
		}
	}
	return "", nil, errors.Join(err, file.Close())
}

// FreeAddresses returns two of them.
func FreeAddresses() (one, other string, err error) {
	if one, err = FreeAddress(); err != nil {
		return "", "", err
	}
	other, err = FreeAddress()
	return one, other, err
}
