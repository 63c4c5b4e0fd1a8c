package main

import (
	"errors"
	"fmt"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/keys"
)

type doctorCmd struct {
	Live    bool `help:"Only ask the running server on this host whether it is ready, as a health check."`
	Offline bool `help:"Do not ask the public URL."`
}

func (c *doctorCmd) Run(e *environment) error {
	if c.Live {
		ready, detail, err := app.Live(e.ctx, e.config)
		if err != nil {
			return fail(exitUnreachable, err, "is the server running? its operations listener is AUTHSERVER_ADMIN_ADDR")
		}
		if !ready {
			return fail(exitFailure, errors.New("not ready: "+detail), "")
		}
		return e.print(map[string]bool{"ready": true}, func() [][]string { return [][]string{{"ready"}} })
	}
	x := &app.Examination{}
	x.ExamineSettings(e.config)
	wrong := x.Worst() == app.Grave
	var opened error
	if wrong {
		x.ExamineSite(e.config)
	} else {
		wrong, opened = c.examine(e, x)
	}
	if err := e.print(x.Remarks, func() [][]string {
		rows := [][]string{{"STATE", "CHECK", "SEEN", "EXPECTED", "HINT"}}
		for _, r := range x.Remarks {
			rows = append(rows, []string{r.State, r.Check, r.Seen, r.Expected, r.Hint})
		}
		return rows
	}); err != nil {
		return err
	}
	switch {
	case opened != nil:
		return opened
	case wrong:
		return configError(errors.New("there are wrong settings above"))
	}
	if x.Worst() == app.Grave {
		return fail(exitFailure, errors.New("there are errors above"), "")
	}
	return nil
}

// examine looks at the installation, and at its site: the issuer is in the database. wrong
// says that a server would not start with the one that is set here.
func (c *doctorCmd) examine(e *environment, x *app.Examination) (wrong bool, err error) {
	set := ""
	if e.sources.Origin("issuer") != "default" || flagGiven(e.args, "issuer") {
		set = e.config.Issuer
	}
	in, err := e.open(app.ToOperate)
	wrong = !x.ExamineIssuer(e.config, set)
	x.ExamineSite(e.config)
	if err != nil {
		return wrong, fmt.Errorf("the installation cannot be opened: %w", err)
	}
	defer in.Engine.Close()
	x.ExamineInstallation(e.ctx, in)
	if c.Offline {
		return wrong, nil
	}
	status, err := keys.NewCustodian(in.Engine.Keys(), in.Masters, e.config.Keys(), nil).Status(e.ctx)
	if err != nil {
		return wrong, err
	}
	var kids []string
	for _, k := range status.Keys {
		// One that was published a moment ago is on its way to every node.
		if k.InJWKS && status.At.Sub(k.PublishedAt) > 5*time.Second {
			kids = append(kids, k.KID)
		}
	}
	x.ExaminePublic(e.ctx, e.config, kids)
	return wrong, nil
}
