package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const jwksPath = "/.well-known/jwks.json"

// bareVerb makes this program the bare handler: a process of its own, so that
// it has a heap and a scheduler to itself, as the server has.
const bareVerb = "bare-handler"

// serveBare answers every request with the bytes of a file.
func serveBare(args []string) error {
	body, err := os.ReadFile(strings.Join(args, " "))
	if err != nil {
		return err
	}
	return serveChild(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(body) // whoever went away needs no answer
	}))
}

// serveChild serves on a port that it prints, until its standard input ends, which is
// when the process that started it does. See startSelf.
func serveChild(handler http.Handler) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: handler}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is all that matters
		server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// startBare starts the bare handler and returns its address.
func (b *bench) startBare(body []byte) (c *child, address string, err error) {
	file := filepath.Join(b.dir, "bare-body")
	if err := os.WriteFile(file, body, 0o644); err != nil {
		return nil, "", err
	}
	return b.startSelf("bare handler", nil, bareVerb, file)
}

// startSelf starts this program as a server that prints its address and ends
// with its standard input.
func (b *bench) startSelf(name string, env []string, args ...string) (c *child, address string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), env...)
	if _, err := cmd.StdinPipe(); err != nil { // held open for as long as we live
		return nil, "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if c, err = startChild(cmd, name, filepath.Join(b.dir, args[0]+".log"), syscall.SIGKILL, nil); err != nil {
		return nil, "", err
	}
	address, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.stop(syscall.SIGTERM, time.Second)
		return nil, "", fmt.Errorf("the %s did not tell its address (%w): %s", name, err, tail(c.log))
	}
	return c, strings.TrimSpace(address), nil
}

// getter asks for one thing over and over and wants the same bytes each time.
type getter struct{ sent, want []byte }

// request implements caller.
func (g *getter) request() []byte { return g.sent }

// answered implements caller.
func (g *getter) answered(status int, body []byte) error {
	if status != 200 || !bytes.Equal(body, g.want) {
		return fmt.Errorf("the key set: %d %.300s", status, body)
	}
	return nil
}

// measureJWKS compares the key set's endpoint with a bare net/http handler that
// writes the same bytes. The handler in question sets one header; the server
// all those that a key set should come with.
func (b *bench) measureJWKS() error {
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	body, err := fetch(b.ctx, "http://"+s.public+jwksPath)
	if err != nil {
		return err
	}
	bare, bareAddress, err := b.startBare(body)
	if err != nil {
		return err
	}
	defer bare.stop(syscall.SIGTERM, 5*time.Second)

	ask := func(address string, pid, seconds int) (tally, error) {
		callers := make([]caller, 64)
		for n := range callers {
			callers[n] = &getter{fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\n\r\n", jwksPath, address, userAgent), body}
		}
		return drive(b.ctx, address, callers, seconds, 0, func() time.Duration { return cpuOf(pid) })
	}
	var ratios, ours, theirs, cost, bareCost []float64
	for round := range b.rounds {
		var o, t tally
		turns := []func() error{
			func() (err error) { o, err = ask(s.public, s.pid(), max(2, b.seconds/2)); return err },
			func() (err error) { t, err = ask(bareAddress, bare.pid(), max(2, b.seconds/2)); return err },
		}
		for _, turn := range []int{round % 2, 1 - round%2} {
			if err := turns[turn](); err != nil {
				return err
			}
		}
		say("  round %d: %.0f/s, bare handler %.0f/s", round+1, o.rate(), t.rate())
		ratios, ours, theirs = append(ratios, o.rate()/t.rate()), append(ours, o.rate()), append(theirs, t.rate())
		cost, bareCost = append(cost, o.each(o.cpu[0])), append(bareCost, t.each(t.cpu[0]))
	}
	b.report.atLeast("key set / bare handler, 64 clients", median(ratios), "", 0.8, "%.0f/s and %.0f/s; CPU each %.1f and %.1f us; %s",
		median(ours), median(theirs), median(cost), median(bareCost), spread(ratios))
	return b.profile(s, "jwks", func(seconds int) error {
		_, err := ask(s.public, s.pid(), seconds)
		return err
	})
}
