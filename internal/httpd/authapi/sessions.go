package authapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// device is a session as its owner sees it. The id is a name, no credential.
type device struct {
	ID              string       `json:"id"`
	Current         bool         `json:"current"`
	DeviceName      string       `json:"device_name"`
	UserAgent       string       `json:"user_agent"`
	IP              string       `json:"ip"`
	CreatedAt       wire.Instant `json:"created_at"`
	LastRefreshedAt wire.Instant `json:"last_refreshed_at"`
	IdleExpiresAt   wire.Instant `json:"idle_expires_at"`
	ExpiresAt       wire.Instant `json:"expires_at"`
}

// listSessions is GET /v1/sessions: the living ones, newest first.
func (d *Door) listSessions(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	c, err := d.caller(s, r)
	if err != nil {
		return err
	}
	list, err := d.Sessions.Sessions(r.Context(), c.User, d.Refresh(c.Client), false)
	if err != nil {
		return fault.Trouble(err)
	}
	devices := make([]device, len(list))
	for i, one := range list {
		devices[i] = device{
			ID: one.ID.String(), Current: one.ID == c.Session,
			DeviceName: one.DeviceName, UserAgent: one.UserAgent, IP: one.IP,
			CreatedAt: wire.Instant(one.CreatedAt), LastRefreshedAt: wire.Instant(one.LastRefreshedAt),
			IdleExpiresAt: wire.Instant(one.IdleExpiresAt), ExpiresAt: wire.Instant(one.ExpiresAt),
		}
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Sessions []device `json:"sessions"`
	}{devices})
}

// endSession is DELETE /v1/sessions/{id}. An unknown session and a stranger's
// are the same answer.
func (d *Door) endSession(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	c, err := d.caller(s, r)
	if err != nil {
		return err
	}
	if err := wire.Bodiless(r); err != nil {
		return err
	}
	notFound := fault.New(fault.SessionNotFound, "You have no session of this id.")
	var one id.Session
	if one.UnmarshalText([]byte(wire.PathValue(r, "id"))) != nil {
		return notFound.WithReason("not_an_id")
	}
	n, err := d.endSessionsOf(r.Context(), session.End{
		User: c.User, Session: one, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: s.RequestID,
	})
	if err != nil {
		return err
	}
	if n == 0 { // none of this user's, or one that had ended: the second is done
		before, err := d.Sessions.Session(r.Context(), one, d.Refresh(c.Client))
		if err != nil {
			return fault.Trouble(err)
		}
		if before == nil || before.User != c.User {
			return notFound.WithReason("unknown_session")
		}
	}
	s.Outcome = "ended"
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endSessions is DELETE /v1/sessions: all of them, or with ?except=current all
// others. A query that is not understood is refused, and so is a body: an exception
// that is misspelt or stands in the wrong place would end the caller's own session, too.
func (d *Door) endSessions(s *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	c, err := d.caller(s, r)
	if err != nil {
		return err
	}
	if err := wire.Bodiless(r); err != nil {
		return err
	}
	end := session.End{User: c.User, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: s.RequestID}
	if r.URL.RawQuery != "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil || len(query) != 1 || len(query["except"]) != 1 || query.Get("except") != "current" {
			return fault.New(fault.InvalidRequest, "The query is not understood; want ?except=current, or none to end every session.")
		}
		end.Except = c.Session
	}
	if _, err := d.endSessionsOf(r.Context(), end); err != nil {
		return err
	}
	s.Outcome = "ended"
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endingsQueue is how many requests of one account may wait to end sessions.
const endingsQueue = 256

// endSessionsOf ends sessions, those of one account one request after the other: they
// lock the same row, and whoever waits for that holds a connection to the database,
// of which one account must not take all. Errors are faults.
func (d *Door) endSessionsOf(ctx context.Context, e session.End) (n int, err error) {
	leave, err := d.endings.Enter(ctx, e.User)
	if errors.Is(err, limit.ErrFull) {
		return 0, fault.New(fault.TooManyRequests, "Sessions of this account are being ended by too many requests at once.").After(time.Second).WithReason("endings_queue_full")
	}
	if err != nil {
		return 0, fault.Trouble(err)
	}
	defer leave()
	if n, err = d.Sessions.EndSessions(ctx, e); err != nil {
		return 0, fault.Trouble(err)
	}
	return n, nil
}
