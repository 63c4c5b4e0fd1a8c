package adminapi

import (
	"net/http"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// login is a session as an administrator sees it.
type login struct {
	ID              string        `json:"id"`
	UserID          string        `json:"user_id"`
	Kind            string        `json:"kind"`
	Client          string        `json:"client"`
	DeviceName      string        `json:"device_name"`
	UserAgent       string        `json:"user_agent"`
	IP              string        `json:"ip"`
	CreatedAt       wire.Instant  `json:"created_at"`
	LastRefreshedAt wire.Instant  `json:"last_refreshed_at"`
	IdleExpiresAt   wire.Instant  `json:"idle_expires_at"`
	ExpiresAt       wire.Instant  `json:"expires_at"`
	EndedAt         *wire.Instant `json:"ended_at,omitempty"`
	EndReason       string        `json:"end_reason,omitempty"`
}

func viewSession(s session.Session) login {
	return login{
		ID: s.ID.String(), UserID: s.User.String(), Kind: string(s.Kind), Client: s.Client,
		DeviceName: s.DeviceName, UserAgent: s.UserAgent, IP: s.IP,
		CreatedAt: wire.Instant(s.CreatedAt), LastRefreshedAt: wire.Instant(s.LastRefreshedAt),
		IdleExpiresAt: wire.Instant(s.IdleExpiresAt), ExpiresAt: wire.Instant(s.ExpiresAt),
		EndedAt: instant(s.EndedAt), EndReason: string(s.EndReason),
	}
}

// userIn reads ?user=, which names an account that exists.
func (d *Door) userIn(r *http.Request, more ...string) (uid id.User, ended bool, err error) {
	query, err := queryOf(r, append([]string{"user"}, more...)...)
	if err != nil {
		return uid, false, err
	}
	if uid.UnmarshalText([]byte(query.Get("user"))) != nil {
		return uid, false, fault.New(fault.InvalidRequest, "The parameter \"user\" is %.40q; want the id of an account, like 00000000-0000-4000-8000-000000000000.", query.Get("user"))
	}
	if ended, err = flagOf(query, "ended"); err != nil {
		return uid, false, err
	}
	_, err = d.Accounts.ByID(r.Context(), uid)
	return uid, ended, account.Missing(err)
}

// listSessions is GET /admin/v1/sessions?user=: the living ones, newest first,
// with ?ended=true those that ended and are still kept, too.
func (d *Door) listSessions(_ call, w http.ResponseWriter, r *http.Request) error {
	uid, ended, err := d.userIn(r, "ended")
	if err != nil {
		return err
	}
	list, err := d.Sessions.Sessions(r.Context(), uid, d.Refresh(""), ended)
	if err != nil {
		return err
	}
	logins := make([]login, len(list))
	for i, one := range list {
		logins[i] = viewSession(one)
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Sessions []login `json:"sessions"`
	}{logins})
}

// endSessions is DELETE /admin/v1/sessions?user=: all sessions of an account.
func (d *Door) endSessions(c call, w http.ResponseWriter, r *http.Request) error {
	if err := wire.Bodiless(r); err != nil {
		return err
	}
	uid, _, err := d.userIn(r)
	if err != nil {
		return err
	}
	n, err := d.end(c, r, session.End{User: uid})
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, ended{n})
}

func (d *Door) end(c call, r *http.Request, e session.End) (int, error) {
	e.Reason, e.Actor, e.RequestID = refresh.EndedByOperator, c.actor(), c.RequestID
	c.Outcome = "ended"
	return d.Sessions.EndSessions(r.Context(), e)
}

// sessionOf reads the session that the path names, of any state.
func (d *Door) sessionOf(r *http.Request) (*session.Session, error) {
	notFound := fault.New(fault.SessionNotFound, "There is no such session.")
	var sid id.Session
	if sid.UnmarshalText([]byte(wire.PathValue(r, "id"))) != nil {
		return nil, notFound.WithReason("not_an_id")
	}
	s, err := d.Sessions.Session(r.Context(), sid, d.Refresh(""))
	if err == nil && s == nil {
		err = notFound.WithReason("unknown_session")
	}
	return s, err
}

// showSession is GET /admin/v1/sessions/{id}.
func (d *Door) showSession(_ call, w http.ResponseWriter, r *http.Request) error {
	s, err := d.sessionOf(r)
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewSession(*s))
}

// endSession is DELETE /admin/v1/sessions/{id}. One that had ended before is no
// error.
func (d *Door) endSession(c call, w http.ResponseWriter, r *http.Request) error {
	if err := wire.Bodiless(r); err != nil {
		return err
	}
	s, err := d.sessionOf(r)
	if err != nil {
		return err
	}
	if _, err := d.end(c, r, session.End{User: s.User, Session: s.ID}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
