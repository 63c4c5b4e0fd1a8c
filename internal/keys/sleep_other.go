//go:build !linux

package keys

import "time"

// asleep is not known here: a machine that wakes up seems to have a clock that leapt.
func asleep() time.Duration { return 0 }
