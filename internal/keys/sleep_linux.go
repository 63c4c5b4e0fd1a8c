package keys

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep returns for how long this machine has been suspended since it started: time
// that has passed and that the monotonic clock of package time leaves out. A machine
// that wakes up has no clock that leapt.
func asleep() time.Duration {
	var boot, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - awake.Nano())
}
