package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/obs"
)

type serveCmd struct{}

func (c *serveCmd) Run(e *environment) error {
	tuneRuntime()
	// Before anything is founded: who meets a port that is taken goes on to name another
	// one, and another issuer with it, and an installation keeps the first.
	if err := e.checked(); err != nil {
		return err
	}
	if err := e.addressesFree(); err != nil {
		return err
	}
	in, err := e.open(app.ToServe)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	var level slog.Level
	if err := level.UnmarshalText([]byte(e.config.LogLevel)); err != nil {
		return configError(err)
	}
	if f, ok := e.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && e.sources.Origin("drain-delay") == "default" {
		e.config.DrainDelay = 0 // a person at a terminal has no load balancer to wait for
	}
	log := obs.NewLogger(e.stderr, level, obs.Format(e.config.LogFormat))
	for _, note := range in.Notes {
		log.Info(note, "event", "start")
	}
	for _, warning := range in.Warnings {
		log.Warn(warning, "event", "start")
	}
	server, err := app.New(e.ctx, in, log)
	if err != nil {
		return opening(err)
	}
	public, err := listen(e.config.Addr, "AUTHSERVER_ADDR")
	if err != nil {
		return err
	}
	defer public.Close()
	operations, err := listen(e.config.AdminAddr, "AUTHSERVER_ADMIN_ADDR")
	if err != nil {
		return err
	}
	defer operations.Close()
	log.Info("serving", "event", "start", "version", app.Build().Version, "issuer", e.config.Issuer,
		"addr", public.Addr().String(), "admin_addr", operations.Addr().String(), "database", in.Engine.Name())
	e.greet(public.Addr(), log)

	// A second signal ends the drain at once.
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.ctx))
	defer cancel()
	go func() {
		<-e.ctx.Done()
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		cancel()
		<-again
		os.Exit(exitFailure)
	}()
	if err := server.Run(ctx, public, operations); err != nil {
		return err
	}
	log.Info("stopped", "event", "stop")
	return nil
}

// addressesFree reports an address that cannot be listened on.
func (e *environment) addressesFree() error {
	for _, a := range []struct{ addr, setting string }{{e.config.Addr, "AUTHSERVER_ADDR"}, {e.config.AdminAddr, "AUTHSERVER_ADMIN_ADDR"}} {
		l, err := listen(a.addr, a.setting)
		if err != nil {
			return err
		}
		defer l.Close() // both are held together: they may be one
	}
	return nil
}

func listen(addr, setting string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fail(exitConflict, fmt.Errorf("%s is %s, which is taken: by another program, or by the other address of this one", setting, addr), "stop that program or set "+setting+"; before the first start, AUTHSERVER_ISSUER=http://localhost:PORT goes with another AUTHSERVER_ADDR")
	}
	if err != nil {
		return nil, configError(fmt.Errorf("%s: %w", setting, err))
	}
	return l, nil
}

// greet prints what a newcomer needs next, on standard output: the issuer and
// three lines to copy.
func (e *environment) greet(public net.Addr, log *slog.Logger) {
	named, listened, differ := otherPort(e.config.Issuer, public)
	if differ {
		log.Warn("the issuer names another port than this server listens on: unless something passes requests on, tokens name a key set that is not there",
			"event", "start", "issuer_port", named, "addr_port", listened, "hint", "set AUTHSERVER_ISSUER before the first start; later: authserver config set-issuer")
	}
	fmt.Fprintf(e.stdout, "issuer: %s\n", e.config.Issuer)
	if e.config.FirstPartyAPI != "on" {
		return
	}
	at := e.config.Issuer
	if u, err := url.Parse(at); differ && err == nil && u.Scheme == "http" { // what listens at the issuer's port is another program
		u.Host = net.JoinHostPort(u.Hostname(), listened)
		at = u.String()
	}
	register := fmt.Sprintf(`curl -s %s/v1/users -H 'Content-Type: application/json' -d '{"email":"ada@example.com","password":"correct horse battery"}'`, at)
	if e.config.Registration != "open" {
		register = `echo 'correct horse battery' | authserver users create ada@example.com`
	}
	fmt.Fprintf(e.stdout, `
  %[2]s
  curl -s %[1]s/v1/login -H 'Content-Type: application/json' -d '{"email":"ada@example.com","password":"correct horse battery"}'
  curl -s %[1]s/v1/refresh -H 'Content-Type: application/json' -d '{"refresh_token":"PASTE IT HERE"}'

`, at, register)
}

// otherPort compares the port of a loopback issuer, behind which there is seldom a
// proxy, with that of the listener.
func otherPort(issuer string, public net.Addr) (named, listened string, differ bool) {
	u, err := url.Parse(issuer)
	if err != nil || !config.IsLoopback(u.Hostname()) {
		return "", "", false
	}
	if named = u.Port(); named == "" {
		named = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	_, listened, err = net.SplitHostPort(public.String())
	return named, listened, err == nil && named != listened
}
