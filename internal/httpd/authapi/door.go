// Package authapi is the first-party JSON API under /v1: registration, login,
// refresh, logout and what people may see and end of their own sessions.
//
// It owns the shape of requests and answers and the two transports of a refresh
// token, body and cookie. It does not decide (the rooms do), does not persist,
// and does not know the middleware it stands behind (package httpd).
package authapi

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/token"
)

// Config is what the door knows of the configuration.
type Config struct {
	Issuer        string
	Audience      []string // of tokens, and accepted in bearer tokens; one at least
	AdminAudience string   // what sessions for the admin API have instead
	Scope         string   // what a token needs here; "" for nothing
	// Client is the reserved client that all sessions of this door belong to.
	Client string
	// Refresh gives the policy that a client's families are judged by.
	Refresh func(client string) refresh.Policy
}

// Rooms are what the door calls.
type Rooms struct {
	Ring     *keys.Ring
	Registry *account.Registry
	Desk     *login.Desk
	Rotator  *refresh.Rotator
	Minter   *token.Minter
	Sessions session.Store
	Observer Observer
}

// Observer is told what the door hands out, for metrics. Its methods must not
// block.
type Observer interface {
	// Issued reports a token that was handed out: by which grant (login or
	// refresh), of which type (access or refresh), under which algorithm.
	Issued(grant, tokenType, alg string)
	// Signed reports how long making an access token took.
	Signed(alg string, took time.Duration)
}

// Door answers under /v1. It is safe for concurrent use.
type Door struct {
	Config
	Rooms
	jar     jar
	bearer  *wire.Bearer
	leaving *wire.Bearer // of logouts, which takes what is for the admin API, too
	endings *limit.Turns[id.User]
}

// New returns a door. An error names what is missing or wrong.
func New(c Config, r Rooms) (*Door, error) {
	if r.Ring == nil || r.Registry == nil || r.Desk == nil || r.Rotator == nil || r.Minter == nil || r.Sessions == nil || r.Observer == nil || c.Refresh == nil {
		return nil, errors.New("first-party API: a room is missing")
	}
	if c.Client == "" {
		return nil, errors.New("first-party API: the client is not named")
	}
	if c.AdminAudience == "" {
		return nil, errors.New("first-party API: the audience of the admin API is not named")
	}
	b, err := wire.NewBearer(r.Ring, c.Issuer, c.Audience, c.Scope)
	if err != nil {
		return nil, fmt.Errorf("first-party API: %w", err)
	}
	leaving, err := wire.NewBearer(r.Ring, c.Issuer, append(slices.Clone(c.Audience), c.AdminAudience), "")
	if err != nil {
		return nil, fmt.Errorf("first-party API: %w", err)
	}
	return &Door{Config: c, Rooms: r, jar: jarFor(c.Issuer), bearer: b, leaving: leaving, endings: limit.NewTurns[id.User](1, endingsQueue)}, nil
}

// Routes adds the endpoints to r.
func (d *Door) Routes(r chi.Router) {
	r.Method("POST", "/v1/users", wire.Handler(d.register))
	r.Method("POST", "/v1/login", wire.Handler(d.logIn))
	r.Method("POST", "/v1/refresh", wire.Handler(d.refresh))
	r.Method("POST", "/v1/logout", wire.Handler(d.logOut))
	r.Method("GET", "/v1/me", wire.Handler(d.me))
	r.Method("POST", "/v1/me/password", wire.Handler(d.changePassword))
	r.Method("GET", "/v1/sessions", wire.Handler(d.listSessions))
	r.Method("DELETE", "/v1/sessions", wire.Handler(d.endSessions))
	r.Method("DELETE", "/v1/sessions/{id}", wire.Handler(d.endSession))
}
