package authapi

import (
	"net/http"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/session"
)

// caller is a person who may use a bearer endpoint.
type caller struct {
	wire.Identity
	session.Standing
}

// caller returns who asks, if the token and its session stand. Verification is
// local; that the session was not ended is read in the store every time.
func (d *Door) caller(s *wire.Scope, r *http.Request) (caller, error) {
	who, err := d.bearer.Read(s, r)
	if err != nil {
		return caller{}, err
	}
	if who.Expired {
		return caller{}, fault.New(fault.TokenExpired, "The access token has expired; refresh it.").WithReason("expired")
	}
	standing, err := d.Sessions.Standing(r.Context(), who.Session, who.User, d.Refresh(who.Client))
	if err != nil {
		return caller{}, fault.Trouble(err)
	}
	if !standing.Alive {
		return caller{}, fault.New(fault.SessionEnded, "The session of this access token has ended; log in again.").WithReason(string(standing.Why))
	}
	return caller{who, standing}, nil
}
