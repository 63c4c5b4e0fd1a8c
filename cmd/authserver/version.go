package main

import (
	"runtime"

	"example.com/authserver/internal/app"
)

type versionCmd struct{}

func (c *versionCmd) Run(e *environment) error {
	v := app.Build()
	return e.print(v, func() [][]string {
		row := "authserver " + v.Version
		if v.Revision != "" {
			row += " (" + v.Revision + ")"
		}
		return [][]string{{row + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}}
	})
}
