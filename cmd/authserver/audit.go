package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
)

type auditCmd struct {
	List     auditList     `cmd:"" default:"withargs" help:"List events, newest first."`
	Sessions auditSessions `cmd:"" help:"Re-read the whole database and report every broken invariant."`
}

// eventView is an audit event as the command line prints it.
type eventView struct {
	ID        string            `json:"id"`
	At        string            `json:"at"`
	Kind      string            `json:"kind"`
	Actor     string            `json:"actor"`
	UserID    string            `json:"user_id,omitempty"`
	SessionID string            `json:"session_id,omitempty"`
	FamilyID  string            `json:"family_id,omitempty"`
	RequestID string            `json:"request_id,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

func viewEvent(ev audit.Event) eventView {
	v := eventView{ID: ev.ID.String(), At: instant(ev.At), Kind: string(ev.Kind), Actor: ev.Actor, RequestID: ev.RequestID, Details: ev.Details}
	if !ev.User.IsZero() {
		v.UserID = ev.User.String()
	}
	if !ev.Session.IsZero() {
		v.SessionID = ev.Session.String()
	}
	if !ev.Family.IsZero() {
		v.FamilyID = ev.Family.String()
	}
	return v
}

// subject names what an event is about, for a table.
func (v eventView) subject() string {
	for _, s := range []struct{ name, id string }{{"session", v.SessionID}, {"family", v.FamilyID}, {"user", v.UserID}} {
		if s.id != "" {
			return s.name + " " + s.id
		}
	}
	return ""
}

func (v eventView) details() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(v.Details)) {
		parts = append(parts, k+"="+v.Details[k])
	}
	return strings.Join(parts, " ")
}

func (e *environment) printEvents(events []audit.Event) error {
	views := make([]eventView, len(events))
	for i, ev := range events {
		views[i] = viewEvent(ev)
	}
	return e.print(views, func() [][]string {
		rows := [][]string{{"AT", "EVENT", "BY", "ABOUT", "REQUEST", "DETAILS"}}
		for _, v := range views {
			rows = append(rows, []string{v.At, v.Kind, v.Actor, v.subject(), v.RequestID, v.details()})
		}
		return rows
	})
}

type auditList struct {
	User    *string   `help:"Only events about this account: e-mail address or id."`
	Session *string   `help:"Only events about this session."`
	Kind    string    `help:"Only this kind, as refresh.reused."`
	Before  time.Time `help:"Only events before this instant (RFC 3339)."`
	After   *string   `placeholder:"ID" help:"Only what comes after this event in the list, by the id that --json shows: the next page."`
	Limit   int       `default:"100" help:"At most this many, 1000 at most."`
}

func (c *auditList) Run(e *environment) error {
	kind := audit.Kind(c.Kind)
	if kind != "" && !kind.Known() {
		return usageError(fmt.Errorf("--kind is %q; want one of %s", c.Kind, join(audit.Kinds())))
	}
	if err := checkLimit(c.Limit); err != nil {
		return err
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	f := audit.Filter{Kind: kind, Before: c.Before, Limit: c.Limit}
	if c.User != nil {
		u, err := e.user(in, *c.User)
		if err != nil {
			return err
		}
		f.User = u.ID
	}
	if c.Session != nil {
		var sid id.Session
		if err := sid.UnmarshalText([]byte(*c.Session)); err != nil {
			return usageError(err)
		}
		f.Session = sid
	}
	if c.After != nil {
		if err := f.After.UnmarshalText([]byte(*c.After)); err != nil {
			return usageError(err)
		}
	}
	events, err := in.Engine.Audit().Events(e.ctx, f)
	if errors.Is(err, audit.ErrNoEvent) {
		return fail(exitNotFound, fmt.Errorf("%s is no event, or is deleted by now", f.After), "authserver audit list --json shows the ids")
	}
	if err != nil {
		return err
	}
	return e.printEvents(events)
}

type auditSessions struct{}

func (c *auditSessions) Run(e *environment) error {
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	violations, err := in.Engine.AuditSessions(e.ctx)
	if err != nil {
		return err
	}
	type view struct {
		Invariant string `json:"invariant"`
		Subject   string `json:"subject"`
		Detail    string `json:"detail"`
	}
	list := make([]view, len(violations))
	for i, v := range violations {
		list[i] = view(v)
	}
	if err := e.print(map[string]any{"violations": list, "count": len(list)}, func() [][]string {
		var rows [][]string
		for _, v := range list {
			rows = append(rows, []string{v.Invariant, v.Subject, v.Detail})
		}
		return append(rows, []string{fmt.Sprintf("%d violations", len(list))})
	}); err != nil {
		return err
	}
	if len(list) > 0 {
		return fail(exitNotFound, fmt.Errorf("%d broken invariants", len(list)), "")
	}
	return nil
}

func join(kinds []audit.Kind) string {
	list := make([]string, len(kinds))
	for i, k := range kinds {
		list[i] = string(k)
	}
	return strings.Join(list, ", ")
}

// sortByTime puts events in the order they happened; events of one transaction
// share their instant and are ordered by kind, so that two looks at one story
// tell it alike.
func sortByTime(events []audit.Event) {
	slices.SortStableFunc(events, func(a, b audit.Event) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind))
	})
}
