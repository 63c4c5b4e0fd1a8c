package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
)

// errNoToken says that no starting token is left.
var errNoToken = errors.New("no starting token is left")

// supply hands out starting tokens, each of a family of its own.
type supply struct {
	o      *options
	target *target
	tokens []string
	read   bool
}

func newSupply(o *options, t *target) *supply {
	return &supply{o: o, target: t, tokens: o.tokens}
}

// next returns a token that nobody used, or errNoToken.
func (s *supply) next(ctx context.Context) (string, error) {
	switch {
	case s.o.loginCommand != "":
		return s.command(ctx)
	case s.o.email != "":
		return s.logIn(ctx)
	}
	if s.o.tokenFile != "" && !s.read {
		s.read = true
		text, err := os.ReadFile(s.o.tokenFile)
		if err != nil {
			return "", err
		}
		s.tokens = append(s.tokens, strings.Fields(string(text))...)
	}
	if len(s.tokens) == 0 {
		return "", errNoToken
	}
	token := s.tokens[0]
	s.tokens = s.tokens[1:]
	return token, nil
}

// command runs --login-command, which the person at the keyboard wrote.
func (s *supply) command(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", s.o.loginCommand) //nolint:gosec // G204: running it is what the flag is for
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("--login-command: %w", err)
	}
	token := strings.TrimSpace(string(out))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("--login-command printed %d bytes; want one token", len(out))
	}
	return token, nil
}

// logIn opens a session at this project's own server.
func (s *supply) logIn(ctx context.Context) (string, error) {
	password := s.o.password
	if s.o.passwordFile != "" {
		text, err := os.ReadFile(s.o.passwordFile)
		if err != nil {
			return "", err
		}
		password = strings.TrimRight(string(text), "\r\n")
	}
	body, err := json.Marshal(map[string]string{"email": s.o.email, "password": password})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.beside("login"), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header = s.o.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", victimAgent)
	a := s.target.send(req)
	switch {
	case a.cut():
		return "", fmt.Errorf("%w: log in: %w", errUnreachable, a.err)
	case a.status != http.StatusOK || a.token == "":
		return "", fmt.Errorf("log in as %s: status %d %s; want 200 with a refresh_token", s.o.email, a.status, a.code)
	}
	return a.token, nil
}
