package authapi

import (
	"net/http"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/refresh"
)

// refresh is POST /v1/refresh. Whatever it answers but 200, no cookie is taken
// away: the client keeps the token and may try again.
func (d *Door) refresh(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	s.ClientID = d.Client
	text, transport, err := d.presented(r)
	if err != nil {
		return err
	}
	alg, err := d.canSign()
	if err != nil {
		return err
	}
	red, err := d.Rotator.Redeem(r.Context(), refresh.Presentation{
		Token: text, Client: d.Client, Transport: transport,
		IdempotencyKey: r.Header.Get("Idempotency-Key"), InstallID: r.Header.Get("Authserver-Install-Id"),
		UserAgent: s.UserAgent, IP: s.IP(), RequestID: s.RequestID,
	})
	if !red.Family.IsZero() {
		s.Family = red.Family.String()
	}
	if err != nil {
		return err
	}
	s.Outcome, s.Reason = red.Verdict.String(), string(red.Reason)
	if !red.Verdict.Answers() {
		if next := &red.Next; !next.User.IsZero() {
			s.Subject, s.Session = next.User.String(), next.Session.String()
		}
		return refusal(red.Outcome)
	}
	return d.hand(s, w, answer{
		grant: byRefresh, alg: alg, family: &red.Next, token: red.Token, idleEnd: red.IdleEnd, now: red.Now,
	})
}

// refusal maps a verdict that does not answer.
func refusal(o refresh.Outcome) error {
	var f *fault.Fault
	switch o.Verdict {
	case refresh.Reused:
		f = fault.New(fault.RefreshReused, "This refresh token was used before, so two hold it. The session was ended; log in again.")
	case refresh.Revoked:
		f = fault.New(fault.RefreshRevoked, "The session of this refresh token has ended; log in again.")
	case refresh.Expired:
		f = fault.New(fault.RefreshExpired, "The session of this refresh token has expired; log in again.")
	default:
		f = fault.New(fault.RefreshInvalid, "This is no refresh token of a session here, or it does not travel the way its login chose; log in again.")
	}
	return f.WithReason(string(o.Reason))
}
