package authapi

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
)

// user is an account as its owner sees it.
type user struct {
	ID        string       `json:"id"`
	Email     string       `json:"email"`
	CreatedAt wire.Instant `json:"created_at"`
}

// register is POST /v1/users.
func (d *Door) register(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	var email string
	var password secret.Text
	if err := wire.ReadObject(r, wire.Text("email", &email), wire.Secret("password", &password)); err != nil {
		return err
	}
	u, err := d.Registry.Register(r.Context(), account.Registration{
		Email: email, Password: password, Network: s.Network(), RequestID: s.RequestID,
	})
	if err != nil {
		return err
	}
	s.Outcome, s.Subject = "registered", u.ID.String()
	return wire.WriteJSON(w, http.StatusCreated, user{u.ID.String(), u.Email, wire.Instant(u.CreatedAt)})
}

// audienceAdmin asks for a token for the admin API.
const audienceAdmin = "admin"

// logIn is POST /v1/login.
func (d *Door) logIn(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	s.ClientID = d.Client
	var transport, audience string
	req := login.Request{
		Network: s.Network(), IP: s.IP(), UserAgent: s.UserAgent,
		InstallID: r.Header.Get("Authserver-Install-Id"), RequestID: s.RequestID,
	}
	err := wire.ReadObject(r,
		wire.Text("email", &req.Email),
		wire.Secret("password", &req.Password),
		wire.Optional(wire.Text("device_name", &req.DeviceName)),
		wire.Optional(wire.Bool("remember", &req.Remember)),
		wire.Optional(wire.OneOf("transport", &transport, string(refresh.InBody), string(refresh.InCookie))),
		wire.Optional(wire.OneOf("audience", &audience, audienceAdmin)),
	)
	if err == nil {
		err = checkNames(req)
	}
	if err != nil {
		return err
	}
	req.Transport, req.Admin = refresh.InBody, audience == audienceAdmin
	if transport != "" {
		req.Transport = refresh.Transport(transport)
	}
	if err = d.recognise(s, r, &req); err != nil {
		return err
	}
	alg, err := d.canSign() // before a session is opened that nobody could use
	if err != nil {
		return err
	}
	opened, err := d.Desk.LogIn(r.Context(), req)
	if err != nil {
		if !opened.User.IsZero() {
			s.Subject = opened.User.String()
		}
		return err
	}
	s.Outcome = "opened"
	return d.hand(s, w, answer{
		grant: byLogin, alg: alg, family: &opened.Family, token: opened.Token, idleEnd: opened.IdleEnd, now: opened.Family.BornAt,
	})
}

// maxDeviceName is counted in code points.
const maxDeviceName = 128

func checkNames(r login.Request) error {
	switch n := utf8.RuneCountInString(r.DeviceName); {
	case n > maxDeviceName:
		return fault.New(fault.InvalidRequest, "The member \"device_name\" has %d characters; want at most %d.", n, maxDeviceName)
	case strings.ContainsFunc(r.DeviceName, unicode.IsControl):
		return fault.New(fault.InvalidRequest, "The member \"device_name\" holds a control character; want none.")
	case strings.ContainsFunc(r.Email, unicode.IsControl):
		return fault.New(fault.InvalidRequest, "The member \"email\" holds a control character; want none.")
	}
	return nil
}

// recognise notes whether a living cookie or access token came with a login. It
// earns its owner a budget of wrong passwords that no stranger can use up; the
// cookie's session, moreover, ends with the login. A token that is no longer
// good is no reason to refuse a login.
func (d *Door) recognise(s *wire.Scope, r *http.Request, req *login.Request) error {
	family, err := d.liveCookie(r)
	if err != nil {
		return err
	}
	if family != nil {
		req.LiveUser, req.LiveSession, req.Replaces = family.User, family.Session, family.Session
		return nil
	}
	if r.Header["Authorization"] == nil {
		return nil
	}
	stranger := *s // whom a mere companion speaks of is not whom the event tells of
	who, err := d.bearer.Read(&stranger, r)
	switch {
	case fault.Is(err, fault.TokenInvalid), who.Expired:
		return nil
	case err != nil:
		return err
	}
	standing, err := d.Sessions.Standing(r.Context(), who.Session, who.User, d.Refresh(who.Client))
	if err != nil {
		return fault.Trouble(err)
	}
	if standing.Alive {
		req.LiveUser, req.LiveSession = who.User, who.Session
	}
	return nil
}

// liveCookie returns the living family of the cookie that came with a login, if
// one did.
func (d *Door) liveCookie(r *http.Request) (*refresh.Family, error) {
	cookies := d.jar.find(r)
	if len(cookies) == 0 {
		return nil, nil
	}
	_, family, err := d.pick(r.Context(), cookies)
	if fault.Is(err, fault.InvalidRequest) {
		return nil, nil // several: nobody could say whose they are, and a login needs none
	}
	if err != nil || family == nil || family.Transport != refresh.InCookie || family.Client != d.Client {
		return nil, err
	}
	return family, nil
}
