package main

import (
	"os"
	"runtime/debug"

	"example.com/authserver/internal/limit"
)

// gcPercent lets the heap grow to five times what is alive before it is
// collected. What is alive here is a few megabytes, so at Go's default of 100
// the collector would run all the time under load and take a tenth of the CPU.
const gcPercent = 400

// tuneRuntime tells Go's runtime how much memory there is, unless the
// environment says so already (GOGC, GOMEMLIMIT).
func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit.Memory(os.DirFS("/")) / 10 * 8)
	}
}
