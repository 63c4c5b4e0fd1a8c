package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

type usersCmd struct {
	Create      usersCreate  `cmd:"" help:"Make an account. The password comes from the terminal or one line of standard input."`
	List        usersList    `cmd:"" help:"List accounts by e-mail address."`
	Show        usersShow    `cmd:"" help:"Show one account."`
	Grant       usersGrant   `cmd:"" help:"Grant a role."`
	Ungrant     usersUngrant `cmd:"" help:"Take a role back."`
	SetPassword usersSetPass `cmd:"" help:"Replace a password and end every session of the account."`
	Disable     usersDisable `cmd:"" help:"Disable an account and end all its sessions."`
	Enable      usersEnable  `cmd:"" help:"Enable a disabled account."`
	Import      usersImport  `cmd:"" help:"Import accounts with their password hashes, one JSON object a line."`
}

// userView is an account as the command line prints it.
type userView struct {
	ID         string   `json:"id"`
	Email      string   `json:"email"`
	CreatedAt  string   `json:"created_at"`
	DisabledAt string   `json:"disabled_at,omitempty"`
	Roles      []string `json:"roles"`
	Password   bool     `json:"has_password"`
}

func viewUser(u account.User) userView {
	roles := u.Roles
	if roles == nil {
		roles = []string{}
	}
	return userView{u.ID.String(), u.Email, instant(u.CreatedAt), instant(u.DisabledAt), roles, u.HasPassword}
}

// printUser prints one account, as one object with --json.
func (e *environment) printUser(u account.User) error {
	if e.json {
		return e.print(viewUser(u), nil)
	}
	return e.printUsers(u)
}

func (e *environment) printUsers(users ...account.User) error {
	views := make([]userView, len(users))
	for i, u := range users {
		views[i] = viewUser(u)
	}
	return e.print(views, func() [][]string {
		rows := [][]string{{"ID", "EMAIL", "CREATED", "ROLES", "STATE"}}
		for _, v := range views {
			state := "enabled"
			if v.DisabledAt != "" {
				state = "disabled " + v.DisabledAt
			}
			if !v.Password {
				state += ", no password"
			}
			rows = append(rows, []string{v.ID, v.Email, v.CreatedAt, strings.Join(v.Roles, " "), state})
		}
		return rows
	})
}

type usersCreate struct {
	Email    string   `arg:"" help:"E-mail address."`
	Admin    bool     `help:"Grant the role admin."`
	Role     []string `help:"Grant this role; may be repeated."`
	Generate bool     `help:"Make a password and print it, instead of asking for one."`
}

func (c *usersCreate) Run(e *environment) error {
	email, err := account.ParseEmail(c.Email)
	if err != nil {
		return usageError(err)
	}
	if err := e.filled("role", c.Role, "a role"); err != nil {
		return err
	}
	roles := c.Role
	if c.Admin {
		roles = append(roles, account.RoleAdmin)
	}
	for _, role := range roles {
		if _, err := account.ParseRole(role); err != nil {
			return usageError(err)
		}
	}
	if err := account.CheckRoles(roles); err != nil {
		return usageError(err)
	}
	in, err := e.open(app.ToFound)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	registry, err := e.registry(in)
	if err != nil {
		return err
	}
	given, err := e.newPassword(c.Generate)
	if err != nil {
		return err
	}
	u, err := registry.Create(e.ctx, email, given, roles, e.actor(), e.requestID())
	if errors.Is(err, account.ErrEmailTaken) {
		return fail(exitConflict, fmt.Errorf("an account %s exists", email), "authserver users set-password "+email.String()+", or users grant "+email.String()+" --role ROLE")
	}
	if err != nil {
		return err
	}
	if !c.Generate {
		return e.printUser(u)
	}
	if e.json {
		return e.print(generated{viewUser(u), given.Reveal()}, nil)
	}
	e.say("password: %s", given.Reveal())
	return e.printUsers(u)
}

// generated is a new account with the password that was made for it.
type generated struct {
	userView
	Password string `json:"password"`
}

// newPassword asks for a password or makes one of 160 bits.
func (e *environment) newPassword(generate bool) (secret.Text, error) {
	if !generate {
		return e.password()
	}
	return app.GeneratePassword(), nil
}

type usersList struct {
	After string `help:"Begin after this e-mail address."`
	Limit int    `default:"100" help:"At most this many, 1000 at most."`
}

func (c *usersList) Run(e *environment) error {
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	users, err := in.Engine.Accounts().List(e.ctx, account.EmailKey(c.After), c.Limit)
	if err != nil {
		return err
	}
	return e.printUsers(users...)
}

type usersShow struct {
	User string `arg:"" help:"E-mail address or id."`
}

func (c *usersShow) Run(e *environment) error {
	return e.withUser(c.User, func(_ *app.Installation, u account.User) error { return e.printUser(u) })
}

// withUser opens the installation, finds an account and calls act with both.
func (e *environment) withUser(name string, act func(in *app.Installation, u account.User) error) error {
	if err := checkUserName(name); err != nil {
		return err
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	u, err := e.user(in, name)
	if err != nil {
		return err
	}
	return act(in, u)
}

type usersGrant struct {
	User string `arg:"" help:"E-mail address or id."`
	Role string `required:"" help:"The role, as admin."`
}

func (c *usersGrant) Run(e *environment) error { return e.setRole(c.User, c.Role, true) }

type usersUngrant struct {
	User string `arg:"" help:"E-mail address or id."`
	Role string `required:"" help:"The role, as admin."`
}

func (c *usersUngrant) Run(e *environment) error { return e.setRole(c.User, c.Role, false) }

func (e *environment) setRole(name, role string, granted bool) error {
	if _, err := account.ParseRole(role); err != nil {
		return usageError(err)
	}
	return e.withUser(name, func(in *app.Installation, u account.User) error {
		after, err := account.SetRole(e.ctx, in.Engine.Accounts(), u.ID, role, granted, e.actor(), e.requestID())
		if fault.Is(err, fault.Conflict) {
			return fail(exitConflict, err, "authserver users ungrant "+u.Email+" --role ...")
		}
		if err != nil {
			return err
		}
		return e.printUser(after)
	})
}

// printFresh prints the account as it stands after a change.
func (e *environment) printFresh(in *app.Installation, u account.User) error {
	u, err := in.Engine.Accounts().ByID(e.ctx, u.ID)
	if err != nil {
		return err
	}
	return e.printUser(u)
}

type usersSetPass struct {
	User     string `arg:"" help:"E-mail address or id."`
	Generate bool   `help:"Make a password and print it, instead of asking for one."`
}

func (c *usersSetPass) Run(e *environment) error {
	return e.withUser(c.User, func(in *app.Installation, u account.User) error {
		registry, err := e.registry(in)
		if err != nil {
			return err
		}
		given, err := e.newPassword(c.Generate)
		if err != nil {
			return err
		}
		ended, err := registry.SetPassword(e.ctx, u, given, e.actor(), e.requestID())
		if err != nil {
			return err
		}
		if c.Generate && e.json {
			return e.print(map[string]any{"sessions_ended": ended, "password": given.Reveal()}, nil)
		}
		if c.Generate {
			e.say("password: %s", given.Reveal())
		}
		return e.printEnded(ended)
	})
}

// printEnded tells how many sessions an act ended.
func (e *environment) printEnded(n int) error {
	return e.print(map[string]int{"sessions_ended": n}, func() [][]string {
		return [][]string{{fmt.Sprintf("sessions ended: %d", n)}}
	})
}

type usersDisable struct {
	User string `arg:"" help:"E-mail address or id."`
}

func (c *usersDisable) Run(e *environment) error {
	return e.withUser(c.User, func(in *app.Installation, u account.User) error {
		ended, err := in.Engine.Accounts().Disable(e.ctx, u.ID, e.actor(), e.requestID())
		if err != nil {
			return err
		}
		return e.printEnded(ended)
	})
}

type usersEnable struct {
	User string `arg:"" help:"E-mail address or id."`
}

func (c *usersEnable) Run(e *environment) error {
	return e.withUser(c.User, func(in *app.Installation, u account.User) error {
		if err := in.Engine.Accounts().Enable(e.ctx, u.ID, e.actor(), e.requestID()); err != nil {
			return err
		}
		return e.printFresh(in, u)
	})
}

type usersImport struct {
	File   string `arg:"" default:"-" help:"NDJSON file; - is standard input. Members: email, password_hash, roles, disabled, created_at."`
	DryRun bool   `help:"Only check: nothing is written."`
}

func (c *usersImport) Run(e *environment) error {
	var from io.Reader = e.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return usageError(err)
		}
		defer f.Close()
		from = f
	}
	use := app.ToFound
	if c.DryRun {
		use = app.ToOperate // which makes nothing
	}
	in, err := e.open(use)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	registry, err := e.registry(in)
	if err != nil {
		return err
	}
	begun := time.Now()
	done, err := registry.Import(e.ctx, from, begun, c.DryRun, e.actor(), e.requestID())
	for _, w := range done.Warnings {
		who := ""
		if w.Email != "" {
			who = printable(w.Email) + ": "
		}
		e.say("line %d: %s%s", w.Line, who, printable(w.Reason))
	}
	if printErr := e.print(done, func() [][]string {
		verb := "created"
		if c.DryRun {
			verb = "would be created"
		}
		rows := [][]string{{fmt.Sprintf("%d lines, %d %s, %d refused, in %s", done.Lines, done.Created, verb, done.Refused, time.Since(begun).Round(time.Millisecond))}}
		for scheme, n := range done.Schemes {
			rows = append(rows, []string{fmt.Sprintf("%d with %s", n, scheme)})
		}
		return rows
	}); printErr != nil {
		return printErr
	}
	if err != nil {
		return err
	}
	if done.Refused > 0 {
		return fail(exitFailure, fmt.Errorf("%d lines were refused", done.Refused), "")
	}
	return nil
}
