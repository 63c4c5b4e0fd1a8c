// Command authserver logs people in, signs access tokens, keeps rotating
// refresh tokens and publishes its keys. One short file per verb: parse flags,
// call a room, print.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
)

// cli is the whole command line. The settings of package config are flags of
// every verb, because every verb works on the same installation; help shows
// them where they matter.
type cli struct {
	config.Config
	ConfigFile string `name:"config" placeholder:"FILE" env:"AUTHSERVER_CONFIG" help:"YAML file with settings."`
	JSON       bool   `name:"json" help:"Print JSON instead of a table."`

	PrintVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Serve    serveCmd    `cmd:"" help:"Run the server."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the database schema up to this binary, or look at it."`
	Users    usersCmd    `cmd:"" help:"Make, list, import, disable accounts; set passwords and roles."`
	Sessions sessionsCmd `cmd:"" help:"List and end sessions."`
	Keys     keysCmd     `cmd:"" help:"Look at, rotate, revoke and export keys."`
	Token    tokenCmd    `cmd:"" help:"Mint, verify and inspect access tokens."`
	Explain  explainCmd  `cmd:"" help:"Say what happened to a request, a session or a refused token."`
	Doctor   doctorCmd   `cmd:"" help:"Look for mistakes in the settings, the database, the clock and the proxy."`
	Audit    auditCmd    `cmd:"" help:"Read the audit log; check the database for broken invariants."`
	Settings configCmd   `cmd:"" name:"config" help:"Print, check or document the settings."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	exited := -1 // set when kong printed help
	parser, err := kong.New(&c,
		kong.Name("authserver"),
		kong.Description("Logs people in, signs access tokens, keeps rotating refresh tokens, publishes its keys.\nWith no configuration at all: authserver serve"),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.ExplicitGroups([]kong.Group{{Key: "settings", Title: "Settings (also AUTHSERVER_... variables and keys of the file):"}}),
		kong.Help(help),
		kong.TypeMapper(reflect.TypeFor[time.Time](), kong.MapperFunc(instants)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.UsageOnError(),
		kong.Vars{"version": "authserver " + app.Build().Version},
	)
	if err != nil {
		return report(stderr, fmt.Errorf("command line: %w", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	file := configFile(args, environ)
	if !needsSettings(args) {
		file, environ = "", nil
	}
	sources, err := config.ReadSources(file, environ, config.Flags())
	if err != nil {
		return report(stderr, configError(err))
	}
	if err := kong.Resolvers(sources).Apply(parser); err != nil {
		return report(stderr, err)
	}
	parsed, err := parser.Parse(shieldKIDs(args))
	if exited >= 0 {
		return exited
	}
	if err != nil {
		return report(stderr, parseError(err, sources))
	}
	e := &environment{
		ctx: ctx, config: &c.Config, sources: sources, args: args, json: c.JSON,
		stdin: whileWanted{ctx, stdin}, stdout: stdout, stderr: stderr,
	}
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		e.keyboard = f
	}
	for _, warning := range sources.Warnings() {
		fmt.Fprintln(stderr, "warning:", warning)
	}
	return report(stderr, pointAt(parsed, parsed.Run(e)))
}

// needsSettings is false of a call for help, for the version or for the manual of the settings:
// that has to come where the settings are broken.
func needsSettings(args []string) bool {
	var verb []string
	for i, arg := range args {
		switch {
		case arg == "--":
			return true
		case arg == "--help" || arg == "-h" || arg == "--version":
			return false
		case !strings.HasPrefix(arg, "-") && (i == 0 || args[i-1] != "--config"):
			verb = append(verb, arg)
		}
	}
	return !slices.Equal(verb, []string{"version"}) && !slices.Equal(verb, []string{"config", "docs"})
}

// configFile finds the configuration file before the flags are parsed, because
// the file is one of the sources they are parsed from.
func configFile(args, environ []string) string {
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if path, ok := strings.CutPrefix(arg, "--config="); ok {
			return path
		}
		if arg == "--config" && i+1 < len(args) {
			return args[i+1]
		}
	}
	for _, pair := range slices.Backward(environ) {
		if path, ok := strings.CutPrefix(pair, "AUTHSERVER_CONFIG="); ok {
			return path
		}
	}
	return ""
}

// help shows the settings only where a person looks for them.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	selected := ctx.Selected()
	if selected == nil || selected.Name != "serve" {
		for _, flag := range ctx.Model.Flags {
			if flag.Group != nil && flag.Group.Key == "settings" && flag.Name != "database-url" && flag.Name != "data-dir" {
				flag.Hidden = true
			}
		}
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// parseError tells a wrong setting of the environment or the file (exit 78)
// from a wrong command line (exit 2).
func parseError(err error, sources *config.Sources) error {
	var source *config.SourceError
	if errors.As(err, &source) {
		return configError(source)
	}
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		for _, flag := range config.Flags() {
			if origin := sources.Origin(flag); origin != "default" && strings.Contains(err.Error(), "--"+flag) {
				return configError(fmt.Errorf("%s: %w", origin, err))
			}
		}
		return pointAt(parse.Context, usageError(err))
	}
	return usageError(err)
}

// pointAt makes the hint of a wrong command line the help of its verb.
func pointAt(parsed *kong.Context, err error) error {
	var wrong *failure
	if !errors.As(err, &wrong) || wrong.hint != generalHelp || parsed == nil {
		return err
	}
	for i := range parsed.Path {
		if command := parsed.Path[i].Command; command != nil {
			wrong.hint = command.FullPath() + " --help"
		}
	}
	return err
}

// instants reads the flags that are instants.
func instants(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("instant", &text); err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("%q is no instant; want an instant like %s", text, instant(time.Now()))
	}
	target.Set(reflect.ValueOf(at))
	return nil
}
