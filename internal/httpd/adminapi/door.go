// Package adminapi is the admin API under /admin/v1 of the operations listener:
// accounts, sessions, keys and the audit log, for whoever has the role admin.
//
// It owns the shape of requests and answers, and it asks at every request
// whether the caller may: role, user and session are read in the store, so what
// was taken away counts at once. It does not decide what an act does (the rooms
// do, the same ones that the command line calls), takes no cookies and speaks
// no CORS.
package adminapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Audience is the audience of tokens for this API.
func Audience(issuer string) string { return issuer + "/admin" }

// Config is what the door knows of the configuration.
type Config struct {
	Issuer string
	// Refresh gives the policy that a client's families are judged by.
	Refresh func(client string) refresh.Policy
}

// Rooms are what the door calls.
type Rooms struct {
	Ring     *keys.Ring
	Accounts account.Store
	Sessions session.Store
	Audit    audit.Store
	Vault    admin.Vault
}

// Door answers under /admin/v1. It is safe for concurrent use.
type Door struct {
	Config
	Rooms
	bearer *wire.Bearer
}

// New returns a door. An error names what is missing or wrong.
func New(c Config, r Rooms) (*Door, error) {
	if r.Ring == nil || r.Accounts == nil || r.Sessions == nil || r.Audit == nil || r.Vault.Custodian == nil || c.Refresh == nil {
		return nil, errors.New("admin API: a room is missing")
	}
	b, err := wire.NewBearer(r.Ring, c.Issuer, []string{Audience(c.Issuer)}, "")
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	return &Door{Config: c, Rooms: r, bearer: b}, nil
}

// Routes adds the endpoints to r.
func (d *Door) Routes(r chi.Router) {
	r.Method("GET", "/admin/v1/users", d.forAdmins(d.listUsers))
	r.Method("GET", "/admin/v1/users/{id}", d.forAdmins(d.showUser))
	r.Method("POST", "/admin/v1/users/{id}/disable", d.forAdmins(d.disableUser))
	r.Method("POST", "/admin/v1/users/{id}/enable", d.forAdmins(d.enableUser))
	r.Method("PUT", "/admin/v1/users/{id}/roles/{role}", d.forAdmins(d.grantRole))
	r.Method("DELETE", "/admin/v1/users/{id}/roles/{role}", d.forAdmins(d.revokeRole))
	r.Method("GET", "/admin/v1/sessions", d.forAdmins(d.listSessions))
	r.Method("DELETE", "/admin/v1/sessions", d.forAdmins(d.endSessions))
	r.Method("GET", "/admin/v1/sessions/{id}", d.forAdmins(d.showSession))
	r.Method("DELETE", "/admin/v1/sessions/{id}", d.forAdmins(d.endSession))
	r.Method("GET", "/admin/v1/keys", d.forAdmins(d.showKeys))
	r.Method("GET", "/admin/v1/keys/{kid}", d.forAdmins(d.showKey))
	r.Method("POST", "/admin/v1/keys/rotate", d.forAdmins(d.rotateKeys))
	r.Method("POST", "/admin/v1/keys/cancel", d.forAdmins(d.cancelRotation))
	r.Method("POST", "/admin/v1/keys/back", d.forAdmins(d.rotateBack))
	r.Method("POST", "/admin/v1/keys/{kid}/revoke", d.forAdmins(d.revokeKey))
	r.Method("GET", "/admin/v1/audit", d.forAdmins(d.listEvents))
}

// act answers one request of an administrator.
type act func(c call, w http.ResponseWriter, r *http.Request) error

// call is one request with who asks.
type call struct {
	*wire.Scope
	wire.Caller
}

// actor names who asks, for the audit log.
func (c call) actor() string { return audit.ByAdmin(c.User) }

// forAdmins lets nobody through but people who have the role now, with a token
// that was made for this API.
func (d *Door) forAdmins(do act) http.Handler {
	return wire.Handler(func(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
		who, err := d.bearer.Caller(s, r, d.Sessions, d.Refresh)
		if err != nil {
			return err
		}
		if !slices.Contains(who.Roles, account.RoleAdmin) {
			return fault.New(fault.Forbidden, "This account does not have the role %q any more.", account.RoleAdmin).WithReason("role_missing")
		}
		err = do(call{s, who}, w, r)
		if f := (*fault.Fault)(nil); err != nil && !errors.As(err, &f) {
			err = fault.Trouble(err) // of a store: what was asked for may or may not have happened
		}
		return err
	})
}
