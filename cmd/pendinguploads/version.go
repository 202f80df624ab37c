package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/molecule-ai/pendinguploads/handlers"
)

// version is set at link time for releases.
var version = "dev"

func build() handlers.Build {
	b := handlers.Build{Version: version}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

type versionCmd struct{}

func (versionCmd) Run(out output) error {
	b := build()
	_, err := fmt.Fprintf(out, "pendinguploads %s %s %s/%s %s\n", b.Version, b.Revision, runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}
