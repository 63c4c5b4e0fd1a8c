package adminapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
)

// user is an account as an administrator sees it.
type user struct {
	ID          string        `json:"id"`
	Email       string        `json:"email"`
	CreatedAt   wire.Instant  `json:"created_at"`
	DisabledAt  *wire.Instant `json:"disabled_at,omitempty"`
	Roles       []string      `json:"roles"`
	HasPassword bool          `json:"has_password"`
}

func view(u account.User) user {
	v := user{
		ID: u.ID.String(), Email: u.Email, CreatedAt: wire.Instant(u.CreatedAt), DisabledAt: instant(u.DisabledAt),
		Roles: u.Roles, HasPassword: u.HasPassword,
	}
	if v.Roles == nil {
		v.Roles = []string{}
	}
	return v
}

// instant is nil for an instant that never was.
func instant(t time.Time) *wire.Instant {
	if t.IsZero() {
		return nil
	}
	i := wire.Instant(t)
	return &i
}

// How many accounts one page has.
const (
	usersPage = 100
	usersMost = 1000
)

// listUsers is GET /admin/v1/users: by e-mail address, page by page, or with
// ?email= the one account of that address.
func (d *Door) listUsers(_ call, w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "after", "limit", "email")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, usersPage, usersMost)
	if err != nil {
		return err
	}
	page := struct {
		Users []user `json:"users"`
		Next  string `json:"next,omitempty"`
	}{Users: []user{}}
	var list []account.User
	if query.Has("email") {
		u, err := d.Accounts.ByEmail(r.Context(), account.EmailKey(query.Get("email")))
		switch {
		case err == nil:
			list = []account.User{u}
		case !errors.Is(err, account.ErrNotFound):
			return err
		}
	} else {
		after, err := base64.RawURLEncoding.DecodeString(query.Get("after"))
		if err != nil {
			return fault.New(fault.InvalidRequest, "The parameter \"after\" is not what an answer called \"next\".")
		}
		if list, err = d.Accounts.List(r.Context(), string(after), limit); err != nil {
			return err
		}
		if len(list) == limit {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(account.EmailKey(list[limit-1].Email)))
		}
	}
	for _, u := range list {
		page.Users = append(page.Users, view(u))
	}
	return wire.WriteJSON(w, http.StatusOK, page)
}

// userOf reads the account that the path names.
func (d *Door) userOf(r *http.Request) (account.User, error) {
	uid, err := userID(r)
	if err != nil {
		return account.User{}, err
	}
	u, err := d.Accounts.ByID(r.Context(), uid)
	return u, account.Missing(err)
}

func userID(r *http.Request) (uid id.User, err error) {
	if uid.UnmarshalText([]byte(wire.PathValue(r, "id"))) != nil {
		return uid, fault.New(fault.UserNotFound, "There is no such account.").WithReason("not_an_id")
	}
	return uid, nil
}

// showUser is GET /admin/v1/users/{id}.
func (d *Door) showUser(_ call, w http.ResponseWriter, r *http.Request) error {
	u, err := d.userOf(r)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, view(u))
}

// ended tells how many sessions an act ended.
type ended struct {
	Sessions int `json:"sessions_ended"`
}

// disableUser is POST /admin/v1/users/{id}/disable. It is idempotent.
func (d *Door) disableUser(c call, w http.ResponseWriter, r *http.Request) error {
	uid, err := bodiless(r)
	if err != nil {
		return err
	}
	n, err := d.Accounts.Disable(r.Context(), uid, c.actor(), c.RequestID)
	if err != nil {
		return account.Missing(err)
	}
	c.Outcome = "disabled"
	return wire.WriteJSON(w, http.StatusOK, ended{n})
}

// enableUser is POST /admin/v1/users/{id}/enable. It is idempotent.
func (d *Door) enableUser(c call, w http.ResponseWriter, r *http.Request) error {
	uid, err := bodiless(r)
	if err != nil {
		return err
	}
	if err := d.Accounts.Enable(r.Context(), uid, c.actor(), c.RequestID); err != nil {
		return account.Missing(err)
	}
	c.Outcome = "enabled"
	return d.showUser(c, w, r)
}

// bodiless reads the account of a request that takes no body.
func bodiless(r *http.Request) (id.User, error) {
	if err := wire.Bodiless(r); err != nil {
		return id.User{}, err
	}
	return userID(r)
}

// grantRole is PUT /admin/v1/users/{id}/roles/{role}.
func (d *Door) grantRole(c call, w http.ResponseWriter, r *http.Request) error {
	return d.setRole(c, w, r, true)
}

// revokeRole is DELETE /admin/v1/users/{id}/roles/{role}.
func (d *Door) revokeRole(c call, w http.ResponseWriter, r *http.Request) error {
	return d.setRole(c, w, r, false)
}

func (d *Door) setRole(c call, w http.ResponseWriter, r *http.Request, granted bool) error {
	uid, err := bodiless(r)
	if err != nil {
		return err
	}
	u, err := account.SetRole(r.Context(), d.Accounts, uid, wire.PathValue(r, "role"), granted, c.actor(), c.RequestID)
	if err != nil {
		return account.Missing(err)
	}
	c.Outcome = "role_changed"
	return wire.WriteJSON(w, http.StatusOK, view(u))
}
