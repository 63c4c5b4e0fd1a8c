package wire

import (
	"net/http"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Caller is a person who may use a bearer endpoint.
type Caller struct {
	Identity
	session.Standing
}

// Caller returns who asks, if the token and its session stand. Verification is
// local; that the session was not ended is read in the store every time. Errors
// are faults: token_invalid, token_expired, session_ended and
// temporarily_unavailable.
func (b *Bearer) Caller(s *Scope, r *http.Request, sessions session.Store, policy func(client string) refresh.Policy) (Caller, error) {
	who, err := b.Read(s, r)
	if err != nil {
		return Caller{}, err
	}
	if who.Expired {
		return Caller{}, fault.New(fault.TokenExpired, "The access token has expired; refresh it.").WithReason("expired")
	}
	standing, err := sessions.Standing(r.Context(), who.Session, who.User, policy(who.Client))
	if err != nil {
		return Caller{}, fault.Trouble(err)
	}
	if !standing.Alive {
		return Caller{}, fault.New(fault.SessionEnded, "The session of this access token has ended; log in again.").WithReason(string(standing.Why))
	}
	return Caller{who, standing}, nil
}
