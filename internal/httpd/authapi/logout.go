package authapi

import (
	"context"
	"net/http"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
)

// logOut is POST /v1/logout. It ends the session of whatever the request
// carries: a refresh token of any generation, the cookie, a bearer token, also
// expired ones. Nothing left to end is 204 as well; what could not be made
// durable is 503, and the cookie stays.
func (d *Door) logOut(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	s.ClientID = d.Client
	var given secret.Text
	if _, err := wire.ReadMaybe(r, wire.Optional(wire.Secret("refresh_token", &given))); err != nil {
		return err
	}
	tokens := d.jar.find(r)
	hadCookie := len(tokens) > 0
	switch {
	case hadCookie && !given.IsEmpty():
		return d.bothTransports()
	case len(tokens) > maxCookies:
		return fault.New(fault.InvalidRequest, "The request carries %d cookies named %q; want one.", len(tokens), d.jar.name)
	case !given.IsEmpty():
		tokens = append(tokens, given)
	}
	s.Outcome = "nothing_to_end"
	known := false
	for _, t := range tokens {
		f, err := d.Rotator.Find(r.Context(), t)
		if err != nil {
			return err
		}
		if f == nil || f.Client != d.Client {
			continue
		}
		known = true
		s.Family = f.ID.String()
		if err := d.end(r.Context(), s, f.User, f.Session, refresh.EndedByLogout); err != nil {
			return err
		}
	}
	who, err := d.leaving.Read(s, r)
	switch {
	case err == nil:
		if err := d.end(r.Context(), s, who.User, who.Session, refresh.EndedByLogout); err != nil {
			return err
		}
	case fault.Of(err).Reason == wire.NoCredentials:
	case known && fault.Is(err, fault.TokenInvalid): // what was asked for has happened
	default:
		return err
	}
	if hadCookie {
		d.jar.expire(w)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// end ends one session. One that had ended before is no error.
func (d *Door) end(ctx context.Context, s *wire.Scope, u id.User, one id.Session, why refresh.EndReason) error {
	s.Subject, s.Session = u.String(), one.String()
	n, err := d.endSessionsOf(ctx, session.End{
		User: u, Session: one, Reason: why, Actor: audit.ByUser, RequestID: s.RequestID,
	})
	if err != nil {
		return err
	}
	if n > 0 {
		s.Outcome = "ended"
	}
	return nil
}
