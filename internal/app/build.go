package app

import (
	"runtime/debug"
)

// version is the release; the linker may set another one:
// -ldflags "-X example.com/authserver/internal/app.version=1.2.3".
var version = "0.2.0"

// BuildInfo names what is running.
type BuildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, where the build knows it
	Go       string `json:"go"`
}

// Build returns what is running.
func Build() BuildInfo {
	b := BuildInfo{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Go = info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}
