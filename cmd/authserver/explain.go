package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

type explainCmd struct {
	What string `arg:"" default:"-" help:"A request id, a session id or a refused token; - reads it from standard input."`
}

// story is what explain found.
type story struct {
	Families []familyView `json:"families"`
	Events   []eventView  `json:"events"`
}

// familyView is the life of a family as explain prints it.
type familyView struct {
	ID             string `json:"id"`
	SessionID      string `json:"session_id"`
	UserID         string `json:"user_id"`
	Client         string `json:"client_id"`
	Transport      string `json:"transport"`
	BornAt         string `json:"born_at"`
	Generation     int32  `json:"generation"`
	HeadBorn       string `json:"head_born"`
	UsedAt         string `json:"used_at"`
	UserAgent      string `json:"user_agent"`
	IP             string `json:"ip"`
	IdleEnd        string `json:"idle_expires_at"`
	AbsoluteEnd    string `json:"expires_at"`
	State          string `json:"state"`
	EndedAt        string `json:"ended_at,omitempty"`
	EndReason      string `json:"end_reason,omitempty"`
	EndRequest     string `json:"end_request_id,omitempty"`
	RefusedAt      string `json:"first_refused_at,omitempty"`
	RefusedAs      string `json:"first_refused_as,omitempty"`
	RefusedRequest string `json:"first_refused_request_id,omitempty"`
	// Presented is the generation of the token that was asked about.
	Presented int32 `json:"presented_generation,omitempty"`
}

func (e *environment) viewFamily(f refresh.Family, now time.Time) familyView {
	policy := e.config.Refresh(f.Client)
	state := "living"
	switch {
	case !f.EndedAt.IsZero():
		state = "ended"
	case f.Disabled:
		state = "user disabled"
	case f.BornAt.Before(f.Floor):
		state = "revoked with everything before " + instant(f.Floor)
	case !now.Before(f.AbsoluteEnd):
		state = "expired"
	case !now.Before(f.IdleEnd(policy)):
		state = "idle for too long"
	}
	return familyView{
		ID: f.ID.String(), SessionID: f.Session.String(), UserID: f.User.String(), Client: f.Client, Transport: string(f.Transport),
		BornAt: instant(f.BornAt), Generation: f.Generation, HeadBorn: instant(f.HeadBorn), UsedAt: instant(f.UsedAt),
		UserAgent: f.UserAgent, IP: f.IP, IdleEnd: instant(f.IdleEnd(policy)), AbsoluteEnd: instant(f.AbsoluteEnd), State: state,
		EndedAt: instant(f.EndedAt), EndReason: string(f.EndReason), EndRequest: f.EndRequest,
		RefusedAt: instant(f.RefusedAt), RefusedAs: string(f.RefusedAs), RefusedRequest: f.RefusedRequest,
	}
}

func (c *explainCmd) Run(e *environment) error {
	what, err := e.readToken(c.What, "request id, session id or token")
	if err != nil {
		return err
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	ring, err := e.ring(in)
	if err != nil {
		return err
	}
	var found []refresh.Family
	var presented int32
	var filters []audit.Filter
	var sid id.Session
	ofSession := func() (err error) {
		found, err = in.Engine.Sessions().Families(e.ctx, sid)
		filters = append(filters, audit.Filter{Session: sid, Limit: 1000})
		return err
	}
	ofRequest := func() (err error) {
		if len(found) == 0 {
			found, err = in.Engine.Sessions().ByRequest(e.ctx, what)
		}
		filters = append(filters, audit.Filter{RequestID: what, Limit: 1000})
		return err
	}
	switch {
	case strings.HasPrefix(what, refresh.Prefix):
		t, err := refresh.Parse(e.ctx, ring, what)
		if errors.Is(err, refresh.ErrForged) {
			return fail(exitNotFound, errors.New("not a token of this server: its shape, its root key or its MAC is wrong"), "is it whole? a refresh token has 77 characters")
		}
		if err != nil {
			return err
		}
		presented = t.Generation()
		f, _, err := in.Engine.Families().Family(e.ctx, t.Family())
		if err != nil {
			return err
		}
		if f != nil {
			found = append(found, *f)
		}
		filters = append(filters, audit.Filter{Family: t.Family(), Limit: 1000})
	case strings.HasPrefix(what, "eyJ") && strings.Count(what, ".") == 2:
		if sid, err = sessionOf(what); err != nil {
			return fail(exitNotFound, err, "authserver token inspect shows what is in it")
		}
		e.say("an access token leaves no trace itself: this is of the session %s that it names; authserver token verify says whether it is valid", sid)
		if err := ofSession(); err != nil {
			return err
		}
	case sid.UnmarshalText([]byte(what)) == nil:
		if err := ofSession(); err != nil {
			return err
		}
		if len(found) == 0 { // the log of the server names families, too
			f, _, err := in.Engine.Families().Family(e.ctx, id.Family(sid))
			if err != nil {
				return err
			}
			if f != nil {
				found = append(found, *f)
			}
		}
		if err := ofRequest(); err != nil { // many a proxy calls its requests so
			return err
		}
	default:
		if err := ofRequest(); err != nil {
			return err
		}
	}
	for _, f := range found {
		filters = append(filters, audit.Filter{Family: f.ID, Limit: 1000}, audit.Filter{Session: f.Session, Limit: 1000})
	}
	events, err := e.events(in, filters)
	if err != nil {
		return err
	}
	if len(found) == 0 { // a request that opened a session, or ended some
		for _, sid := range sessionsOf(events) {
			families, err := in.Engine.Sessions().Families(e.ctx, sid)
			if err != nil {
				return err
			}
			found = append(found, families...)
		}
	}
	if len(found) == 0 && len(events) == 0 {
		return fail(exitNotFound, fmt.Errorf("the database holds nothing about %s", short(what)),
			"what changed nothing (a wrong password, a forged token, a second refusal) is in the server's log alone, under its request_id; what ended is kept for 7 days")
	}
	return e.tell(found, presented, events, ring.Now())
}

// sessionOf reads the session that an access token names, which nobody has verified.
func sessionOf(jwt string) (sid id.Session, err error) {
	var claims struct {
		Session string `json:"sid"`
	}
	if err := readPart(jwt, 1, &claims); err != nil {
		return sid, err
	}
	if err := sid.UnmarshalText([]byte(claims.Session)); err != nil {
		return sid, fmt.Errorf("a JWT that names no session: its sid is %.60q", claims.Session)
	}
	return sid, nil
}

// sessionsOf returns the sessions that events are about, each once, but no more than a
// person would read of.
func sessionsOf(events []audit.Event) []id.Session {
	const most = 10
	var list []id.Session
	for _, ev := range events {
		if !ev.Session.IsZero() && !slices.Contains(list, ev.Session) && len(list) < most {
			list = append(list, ev.Session)
		}
	}
	return list
}

// short keeps a token out of an error message.
func short(what string) string {
	if strings.HasPrefix(what, refresh.Prefix) {
		return "this token"
	}
	return fmt.Sprintf("%.60q", what)
}

// events gathers the events of several filters, each once, oldest first.
func (e *environment) events(in *app.Installation, filters []audit.Filter) ([]audit.Event, error) {
	seen := map[id.Event]bool{}
	var all []audit.Event
	for _, f := range filters {
		events, err := in.Engine.Audit().Events(e.ctx, f)
		if err != nil {
			return nil, err
		}
		for _, ev := range events {
			if !seen[ev.ID] {
				seen[ev.ID] = true
				all = append(all, ev)
			}
		}
	}
	sortByTime(all)
	return all, nil
}

func (e *environment) tell(found []refresh.Family, presented int32, events []audit.Event, now time.Time) error {
	s := story{Families: []familyView{}, Events: []eventView{}}
	for _, f := range found {
		v := e.viewFamily(f, now)
		v.Presented = presented
		s.Families = append(s.Families, v)
	}
	for _, ev := range events {
		s.Events = append(s.Events, viewEvent(ev))
	}
	return e.print(s, func() [][]string {
		var rows [][]string
		for _, f := range s.Families {
			rows = append(rows, []string{"family", f.ID}, []string{"session", f.SessionID}, []string{"user", f.UserID}, []string{"state", f.state()},
				[]string{"last used", f.UsedAt + " from " + f.IP + " by " + f.UserAgent})
			if f.Presented != 0 {
				rows = append(rows, []string{"this token", fmt.Sprintf("generation %d of %d", f.Presented, f.Generation)})
			}
			rows = append(rows, []string{""}, []string{f.BornAt, "born at login"}, []string{f.HeadBorn, fmt.Sprintf("generation %d, the last one, was made", f.Generation)})
			if f.EndedAt != "" {
				rows = append(rows, []string{f.EndedAt, "ended: " + f.EndReason + ", request " + f.EndRequest})
			}
			if f.RefusedAt != "" {
				rows = append(rows, []string{f.RefusedAt, "first refusal: " + f.RefusedAs + ", request " + f.RefusedRequest})
			}
			rows = append(rows, []string{""})
		}
		for _, ev := range s.Events {
			rows = append(rows, []string{ev.At, ev.Kind + " by " + ev.Actor, ev.RequestID, ev.details()})
		}
		return rows
	})
}

func (v familyView) state() string {
	switch {
	case v.EndedAt != "":
		return "ended at " + v.EndedAt + ": " + v.EndReason
	case v.State == "living":
		return "living until " + v.IdleEnd + " if it is not used"
	default:
		return v.State
	}
}
