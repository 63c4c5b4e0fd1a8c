package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"example.com/authserver/internal/app"
)

type migrateCmd struct {
	Plan bool `help:"Only say what would be applied."`
}

func (c *migrateCmd) Run(e *environment) error {
	if err := e.checked(); err != nil {
		return err
	}
	if path, ok := e.config.SQLitePath(); ok && c.Plan {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fail(exitNotFound, fmt.Errorf("no file %s", path), "authserver migrate makes one")
		}
	}
	engine, err := app.OpenEngine(e.ctx, e.config, false)
	if err != nil {
		return opening(err)
	}
	defer engine.Close()
	schema, err := engine.Schema(e.ctx)
	if err != nil {
		return opening(err)
	}
	if err := schema.Check(); err != nil {
		return err
	}
	applied := []string{}
	if !c.Plan {
		if applied, err = engine.Migrate(e.ctx); err != nil {
			return err
		}
		if schema, err = engine.Schema(e.ctx); err != nil {
			return err
		}
	}
	if applied == nil {
		applied = []string{}
	}
	pending := schema.Pending
	if pending == nil {
		pending = []string{}
	}
	return e.print(map[string]any{
		"migration": schema.Applied, "newest": schema.Newest, "compatible_from": schema.CompatibleFrom,
		"applied": applied, "pending": pending,
	}, func() [][]string {
		rows := [][]string{{fmt.Sprintf("the schema is at migration %04d, this binary knows %04d", schema.Applied, schema.Newest)}}
		if len(applied) > 0 {
			rows = append(rows, []string{"applied: " + strings.Join(applied, ", ")})
		}
		if len(pending) > 0 {
			rows = append(rows, []string{"pending: " + strings.Join(pending, ", ")})
		}
		return rows
	})
}
