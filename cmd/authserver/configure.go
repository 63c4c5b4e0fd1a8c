package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
)

type configCmd struct {
	Print     configPrint     `cmd:"" help:"Print every setting, its value and where it came from; secrets are redacted."`
	Check     configCheck     `cmd:"" help:"Check the settings without touching the database."`
	Docs      configDocs      `cmd:"" help:"Print the manual of all settings as Markdown."`
	SetIssuer configSetIssuer `cmd:"" help:"Change the issuer that the database was made for. Every access token signed before becomes invalid."`
}

type configPrint struct{}

func (c *configPrint) Run(e *environment) error {
	type view struct {
		Setting string `json:"setting"`
		Value   string `json:"value"`
		From    string `json:"from"`
	}
	var list []view
	for _, v := range config.Values(e.config) {
		from := e.sources.Origin(v.Flag)
		if flagGiven(e.args, v.Flag) {
			from = "flag"
		}
		list = append(list, view{v.Flag, v.Value, from})
	}
	return e.print(list, func() [][]string {
		rows := [][]string{{"SETTING", "VALUE", "FROM"}}
		for _, v := range list {
			rows = append(rows, []string{v.Setting, v.Value, v.From})
		}
		return rows
	})
}

func flagGiven(args []string, flag string) bool {
	for _, a := range args {
		if a == "--"+flag || len(a) > len(flag)+2 && a[:len(flag)+3] == "--"+flag+"=" {
			return true
		}
	}
	return false
}

type configCheck struct{}

func (c *configCheck) Run(e *environment) error {
	problems := e.config.Check()
	type view struct {
		Setting  string `json:"setting"`
		Seen     string `json:"seen"`
		Expected string `json:"expected"`
		Hint     string `json:"hint,omitempty"`
	}
	list := make([]view, len(problems))
	for i, p := range problems {
		list[i] = view(p)
	}
	if e.json {
		if err := e.print(list, nil); err != nil {
			return err
		}
	}
	if err := e.checked(); err != nil {
		return err
	}
	if err := app.CheckDatabaseURL(e.config); err != nil {
		return opening(err)
	}
	if !e.json {
		fmt.Fprintln(e.stdout, "the settings are fine")
	}
	return nil
}

type configDocs struct{}

func (c *configDocs) Run(e *environment) error {
	if e.json {
		return e.print(config.Settings(), nil)
	}
	return config.WriteDocs(e.stdout)
}

type configSetIssuer struct {
	Issuer string `arg:"" help:"The new issuer, exactly as it will stand in tokens."`
	Yes    bool   `help:"Do not ask."`
}

func (c *configSetIssuer) Run(e *environment) error {
	if err := e.checked(); err != nil {
		return err
	}
	e.config.Issuer = c.Issuer
	if problems := e.config.Check(); len(problems) > 0 { // nothing but the issuer has changed
		return usageError(fmt.Errorf("the issuer is %s; want %s", problems[0].Seen, problems[0].Expected))
	}
	if path, ok := e.config.SQLitePath(); ok {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fail(exitNotFound, fmt.Errorf("no file %s", path), "AUTHSERVER_DATA_DIR or AUTHSERVER_DATABASE_URL say where the database is")
		}
	}
	engine, err := app.OpenEngine(e.ctx, e.config, false)
	if err != nil {
		return opening(err)
	}
	defer engine.Close()
	facts, founded, err := engine.Founding().Facts(e.ctx)
	if err != nil {
		return opening(err)
	}
	if !founded {
		return fail(exitNotFound, fmt.Errorf("this database belongs to no installation yet"), "authserver serve --issuer "+c.Issuer)
	}
	if !c.Yes {
		if err := e.confirm(fmt.Sprintf("The issuer is %s. Access tokens signed for it become invalid; sessions stay, but a browser's cookie does not follow to another host or from http to https.", facts.Issuer), c.Issuer, ""); err != nil {
			return err
		}
	}
	if err := engine.Founding().SetIssuer(e.ctx, c.Issuer, e.actor()); err != nil {
		return err
	}
	return e.print(map[string]string{"issuer": c.Issuer, "former": facts.Issuer}, func() [][]string {
		return [][]string{{"issuer is now " + c.Issuer + "; set AUTHSERVER_ISSUER to it on every node and restart them"}}
	})
}
