package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// options is the command line.
type options struct {
	url       *url.URL
	style     string // "oauth" or "v1"
	revokeURL string

	auth, clientID, clientSecret, scope string
	header                              http.Header

	tokens        []string
	tokenFile     string
	loginCommand  string
	email         string
	password      string
	passwordFile  string
	racers        int
	rounds        int
	late          time.Duration
	timeout       time.Duration
	answerTimeout time.Duration
	maxRequests   int
	scenarios     []string
	json, list    bool

	pause func(context.Context, time.Duration) // how --late passes
}

// errHelp says that help was printed.
var errHelp = errors.New("help was asked for")

const help = `refreshtorture URL tries races, lost answers, old tokens and a thief at a token
endpoint and says what became of the honest user. Use it on servers of your own.

  refreshtorture --style=v1 --email=ada@example.com --password-file=pw http://localhost:8080/v1/refresh
  refreshtorture --client-id=app --token-file=tokens http://localhost:4444/oauth2/token

Every scenario uses up one family: a refresh token of a login of its own.

`

// parse reads the command line; help goes to w.
func parse(args []string, w io.Writer) (*options, error) {
	o := &options{header: http.Header{}, pause: pause}
	var own bool
	f := flag.NewFlagSet("refreshtorture", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.style, "style", "oauth", "oauth: RFC 6749 form; v1: authserver's JSON")
	f.StringVar(&o.revokeURL, "revoke-url", "", "RFC 7009 endpoint; with --style=v1 logout beside the URL")
	f.StringVar(&o.auth, "auth", "none", "client authentication: none, basic, post")
	f.StringVar(&o.clientID, "client-id", "", "client_id")
	f.StringVar(&o.clientSecret, "client-secret", "", "client_secret, with --auth=basic or post")
	f.StringVar(&o.scope, "scope", "", "scope to ask for")
	f.Func("header", "`Name: value` for every request; repeated", func(s string) error {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New("want Name: value")
		}
		o.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		return nil
	})
	f.Func("token", "a starting refresh `token`; repeated, one per scenario", func(s string) error {
		o.tokens = append(o.tokens, s)
		return nil
	})
	f.StringVar(&o.tokenFile, "token-file", "", "file of starting tokens, one a line")
	f.StringVar(&o.loginCommand, "login-command", "", "shell command that logs in and prints one refresh token")
	f.StringVar(&o.email, "email", "", "with --style=v1: log in as this account, at login beside the URL")
	f.StringVar(&o.password, "password", "", "its password")
	f.StringVar(&o.passwordFile, "password-file", "", "file with its password")
	f.IntVar(&o.racers, "racers", 20, "requests at once in a race, 2 to 200")
	f.IntVar(&o.rounds, "rounds", 8, "rounds of races and of thief and victim, 4 to 50")
	f.DurationVar(&o.late, "late", 0, "how long after a rotation an old token is theft: longer than the server's grace, leeway or retry window, at most 5m; 0 leaves those scenarios out")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "for everything, at most 1h")
	f.DurationVar(&o.answerTimeout, "answer-timeout", 30*time.Second, "for one answer")
	f.IntVar(&o.maxRequests, "max-requests", 20000, "in all, at most 100000")
	f.Func("scenario", "only this `name`; repeated (see --list)", func(s string) error {
		o.scenarios = append(o.scenarios, s)
		return nil
	})
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	f.BoolVar(&o.list, "list", false, "list the scenarios")
	f.BoolVar(&own, "i-own-this-server", false, "the URL is not of this machine, and you may attack it")

	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(w, help)
		f.SetOutput(w)
		f.PrintDefaults()
		return nil, errHelp
	}
	if err == nil && !o.list {
		err = o.check(f.Args(), own)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return o, nil
}

// check bounds what was asked for.
func (o *options) check(args []string, own bool) error {
	if len(args) != 1 {
		return fmt.Errorf("want one URL after the flags, have %d", len(args))
	}
	u, err := url.Parse(args[0])
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("want an http or https URL, have %q", args[0])
	case !own && !loopback(u.Hostname()):
		return fmt.Errorf("%s is not this machine: it takes --i-own-this-server", u.Hostname())
	case o.style != "oauth" && o.style != "v1":
		return fmt.Errorf("--style is oauth or v1, not %q", o.style)
	case !slices.Contains([]string{"none", "basic", "post"}, o.auth):
		return fmt.Errorf("--auth is none, basic or post, not %q", o.auth)
	case o.auth != "none" && o.clientID == "":
		return fmt.Errorf("--auth=%s takes --client-id", o.auth)
	case o.racers < 2 || o.racers > 200:
		return errors.New("--racers is 2 to 200")
	case o.rounds < 4 || o.rounds > 50:
		return errors.New("--rounds is 4 to 50")
	case o.late < 0 || o.late > 5*time.Minute:
		return errors.New("--late is at most 5m")
	case o.timeout <= 0 || o.timeout > time.Hour:
		return errors.New("--timeout is at most 1h")
	case o.answerTimeout <= 0:
		return errors.New("--answer-timeout is more than 0")
	case o.maxRequests < 1 || o.maxRequests > 100000:
		return errors.New("--max-requests is 1 to 100000")
	}
	o.url = u
	if o.style == "v1" && o.revokeURL == "" {
		o.revokeURL = o.beside("logout")
	}
	if o.revokeURL != "" {
		r, err := url.Parse(o.revokeURL)
		if err != nil || r.Host != u.Host {
			return fmt.Errorf("--revoke-url is of the same host, %s", u.Host)
		}
	}
	for _, name := range o.scenarios {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("no scenario is named %q", name)
		}
	}
	return o.checkSupply()
}

// checkSupply wants exactly one way to get starting tokens.
func (o *options) checkSupply() error {
	ways := 0
	for _, given := range []bool{len(o.tokens) > 0 || o.tokenFile != "", o.loginCommand != "", o.email != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("want starting tokens one way: --token and --token-file, --login-command, or --email and --password")
	case o.email != "" && o.style != "v1":
		return errors.New("--email logs in at login beside the URL: it takes --style=v1")
	}
	return nil
}

func (o *options) wants(name string) bool {
	return len(o.scenarios) == 0 || slices.Contains(o.scenarios, name)
}

// loopback reports whether a host name is this machine by its spelling; nothing
// is looked up, because a name server may say 127.0.0.1 today.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// beside is the URL of another endpoint of the first-party API.
func (o *options) beside(name string) string {
	return o.url.ResolveReference(&url.URL{Path: name}).String()
}
