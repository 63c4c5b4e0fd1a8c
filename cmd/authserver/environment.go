package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"slices"
	"strings"
	"syscall"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/store"
)

// environment is what every verb works in.
type environment struct {
	ctx     context.Context
	config  *config.Config
	sources *config.Sources
	args    []string
	json    bool
	stdin   io.Reader // ends when the command is told to end
	stdout  io.Writer
	stderr  io.Writer
	request string // names this run in the audit log

	keyboard *os.File // standard input, if that is a terminal
}

// open checks the settings and opens the installation; the caller closes its
// Engine.
func (e *environment) open(use app.Use) (*app.Installation, error) {
	if err := e.checked(); err != nil {
		return nil, err
	}
	in, err := app.Open(e.ctx, e.config, use)
	if err != nil {
		return nil, opening(err)
	}
	if use == app.ToFound && in.Founded {
		e.say("made an installation with the issuer %s in %s", e.config.Issuer, in.Engine.Name())
		for _, note := range append(in.Notes, in.Warnings...) {
			e.say("%s", note)
		}
	}
	return in, nil
}

// opening gives the errors of opening an installation their exit codes.
func opening(err error) error {
	var mismatch *app.Mismatch
	if errors.As(err, &mismatch) {
		code := exitConfig
		switch mismatch.What {
		case app.SchemaMismatch:
			code = exitConflict
		case app.NoInstallation:
			code = exitNotFound
		}
		return fail(code, err, mismatch.Hint)
	}
	if code, hint := classify(err); code != exitFailure {
		return fail(code, err, hint)
	}
	var unfit *store.Unfit
	var network *net.OpError // which a firewall or a socket of a server that starts may refuse, too
	if errors.As(err, &unfit) || !errors.As(err, &network) && errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EROFS) {
		return fail(exitConfig, err, "authserver config print says where the settings came from")
	}
	return fail(exitUnreachable, err, "is the database up, and does AUTHSERVER_DATABASE_URL name it? of a file: is the directory there, and may this user write? authserver config print says where the values came from")
}

// checked refuses to go on with settings that cannot be right.
func (e *environment) checked() error {
	problems := e.config.Check()
	if len(problems) == 0 {
		return nil
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.Error()
		if flagGiven(e.args, p.Setting) {
			lines[i] = strings.Replace(lines[i], config.EnvName(p.Setting), "--"+p.Setting, 1)
		} else if origin := e.sources.Origin(p.Setting); origin != "default" && origin != config.EnvName(p.Setting) {
			lines[i] = origin + ": " + lines[i]
		}
	}
	return configError(errors.New(strings.Join(lines, "\n       ")))
}

// filled refuses a flag that was given and names nothing, as one has it that takes its
// value from a variable which is not set: it would mean what the command does without it.
func (e *environment) filled(flag string, list []string, want string) error {
	if slices.Contains(list, "") || len(list) == 0 && flagGiven(e.args, flag) {
		return usageError(fmt.Errorf("--%s is empty; want %s", flag, want))
	}
	return nil
}

// actor names who runs this command, for the audit log.
func (e *environment) actor() string {
	name := "unknown"
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		name = sudo
	} else if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return "operator:" + name
}

// requestID names this run.
func (e *environment) requestID() string {
	if e.request == "" {
		e.request = "cli-" + id.NewRequest()
	}
	return e.request
}

// registry is the room of accounts over an open installation.
func (e *environment) registry(in *app.Installation) (*account.Registry, error) {
	hasher, err := password.New(e.config.Passwords(), nil)
	if err != nil {
		return nil, err
	}
	rules := password.DefaultRules()
	rules.Words = e.config.PasswordWords()
	return account.NewRegistry(in.Engine.Accounts(), in.Engine.Ledger(), hasher, rules, e.config.Accounts()), nil
}

// checkLimit refuses a --limit that no list of the command line has.
func checkLimit(n int) error {
	if n < 1 || n > 1000 {
		return usageError(fmt.Errorf("--limit is %d; want 1 to 1000", n))
	}
	return nil
}

// checkUserName refuses what can be neither an e-mail address nor an id.
func checkUserName(name string) error {
	var uid id.User
	if !strings.Contains(name, "@") && uid.UnmarshalText([]byte(name)) != nil {
		return usageError(fmt.Errorf("%q is neither an e-mail address nor a user id", name))
	}
	return nil
}

// user finds an account by e-mail address or id.
func (e *environment) user(in *app.Installation, name string) (account.User, error) {
	var u account.User
	var err error
	if strings.Contains(name, "@") {
		u, err = in.Engine.Accounts().ByEmail(e.ctx, account.EmailKey(name))
	} else {
		if err := checkUserName(name); err != nil {
			return account.User{}, err
		}
		var uid id.User
		_ = uid.UnmarshalText([]byte(name)) // checked above
		u, err = in.Engine.Accounts().ByID(e.ctx, uid)
	}
	if errors.Is(err, account.ErrNotFound) {
		return account.User{}, fail(exitNotFound, fmt.Errorf("no account %s", name), "authserver users list")
	}
	return u, err
}
