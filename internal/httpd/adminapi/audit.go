package adminapi

import (
	"errors"
	"net/http"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
)

// event is one row of the audit log.
type event struct {
	ID        string            `json:"id"`
	At        wire.Instant      `json:"at"`
	Kind      string            `json:"kind"`
	Actor     string            `json:"actor"`
	UserID    string            `json:"user_id,omitempty"`
	SessionID string            `json:"session_id,omitempty"`
	FamilyID  string            `json:"family_id,omitempty"`
	RequestID string            `json:"request_id"`
	Details   map[string]string `json:"details"`
}

// How many events one answer has.
const (
	eventsPage = 100
	eventsMost = 1000
)

// listEvents is GET /admin/v1/audit: the newest events that match, newest
// first.
func (d *Door) listEvents(_ call, w http.ResponseWriter, r *http.Request) error {
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	list, err := d.Audit.Events(r.Context(), filter)
	if errors.Is(err, audit.ErrNoEvent) {
		return fault.New(fault.InvalidRequest, "The parameter \"after\" is %s, which is no event, or is deleted by now.", filter.After)
	}
	if err != nil {
		return err
	}
	events := make([]event, len(list))
	for i, e := range list {
		events[i] = event{
			ID: e.ID.String(), At: wire.Instant(e.At), Kind: string(e.Kind), Actor: e.Actor,
			UserID: spell(e.User), SessionID: spell(e.Session), FamilyID: spell(e.Family),
			RequestID: e.RequestID, Details: e.Details,
		}
		if e.Details == nil {
			events[i].Details = map[string]string{}
		}
	}
	page := struct {
		Events []event `json:"events"`
		Next   string  `json:"next,omitempty"`
	}{Events: events}
	if len(events) == filter.Limit {
		page.Next = events[len(events)-1].ID
	}
	return wire.WriteJSON(w, http.StatusOK, page)
}

func filterOf(r *http.Request) (f audit.Filter, err error) {
	query, err := queryOf(r, "user", "session", "kind", "request_id", "before", "after", "limit")
	if err != nil {
		return f, err
	}
	f.Kind, f.RequestID = audit.Kind(query.Get("kind")), query.Get("request_id")
	if f.Kind != "" && !f.Kind.Known() {
		return f, fault.New(fault.InvalidRequest, "The parameter \"kind\" is %.64q, which is no kind of event.", string(f.Kind))
	}
	if f.User, err = idIn(query, "user", f.User); err != nil {
		return f, err
	}
	if f.Session, err = idIn(query, "session", f.Session); err != nil {
		return f, err
	}
	if f.Before, err = instantOf("before", query.Get("before")); err != nil {
		return f, err
	}
	if f.After, err = idIn(query, "after", f.After); err != nil {
		return f, err
	}
	f.Limit, err = limitOf(query, eventsPage, eventsMost)
	return f, err
}

// spell is "" for no id.
func spell[K any](i id.Of[K]) string {
	if i.IsZero() {
		return ""
	}
	return i.String()
}
