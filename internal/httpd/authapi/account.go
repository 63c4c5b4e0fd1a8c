package authapi

import (
	"net/http"

	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/secret"
)

// me is GET /v1/me.
func (d *Door) me(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	c, err := d.caller(s, r)
	if err != nil {
		return err
	}
	roles := c.Roles
	if roles == nil {
		roles = []string{}
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		user
		Roles []string `json:"roles"`
	}{user{c.User.String(), c.Email, wire.Instant(c.UserCreatedAt)}, roles})
}

// changePassword is POST /v1/me/password. The session that asks stays, all
// others end.
func (d *Door) changePassword(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	c, err := d.caller(s, r)
	if err != nil {
		return err
	}
	var current, next secret.Text
	if err := wire.ReadObject(r, wire.Secret("current_password", &current), wire.Secret("new_password", &next)); err != nil {
		return err
	}
	_, err = d.Desk.ChangePassword(r.Context(), login.PasswordChange{
		User: c.User, Email: c.Email, Session: c.Session, Current: current, New: next,
		Network: s.Network(), RequestID: s.RequestID,
	})
	if err != nil {
		return err
	}
	s.Outcome = "changed"
	w.WriteHeader(http.StatusNoContent)
	return nil
}
