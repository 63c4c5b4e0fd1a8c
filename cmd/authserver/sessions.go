package main

import (
	"errors"
	"fmt"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

type sessionsCmd struct {
	List   sessionsList   `cmd:"" help:"List the sessions of an account."`
	Revoke sessionsRevoke `cmd:"" help:"End sessions: one, all of an account, or all that are older than an instant."`
}

// sessionView is a session as the command line prints it.
type sessionView struct {
	ID              string `json:"id"`
	UserID          string `json:"user_id"`
	Kind            string `json:"kind"`
	Client          string `json:"client_id"`
	DeviceName      string `json:"device_name"`
	UserAgent       string `json:"user_agent"`
	IP              string `json:"ip"`
	CreatedAt       string `json:"created_at"`
	LastRefreshedAt string `json:"last_refreshed_at"`
	IdleExpiresAt   string `json:"idle_expires_at"`
	ExpiresAt       string `json:"expires_at"`
	EndedAt         string `json:"ended_at,omitempty"`
	EndReason       string `json:"end_reason,omitempty"`
}

func viewSession(s session.Session) sessionView {
	return sessionView{
		ID: s.ID.String(), UserID: s.User.String(), Kind: string(s.Kind), Client: s.Client,
		DeviceName: s.DeviceName, UserAgent: s.UserAgent, IP: s.IP,
		CreatedAt: instant(s.CreatedAt), LastRefreshedAt: instant(s.LastRefreshedAt),
		IdleExpiresAt: instant(s.IdleExpiresAt), ExpiresAt: instant(s.ExpiresAt),
		EndedAt: instant(s.EndedAt), EndReason: string(s.EndReason),
	}
}

type sessionsList struct {
	User  string `arg:"" help:"E-mail address or id."`
	Ended bool   `help:"Also those that ended and are still kept."`
}

func (c *sessionsList) Run(e *environment) error {
	return e.withUser(c.User, func(in *app.Installation, u account.User) error {
		sessions, err := in.Engine.Sessions().Sessions(e.ctx, u.ID, e.config.Refresh(""), c.Ended)
		if err != nil {
			return err
		}
		if len(sessions) == 0 && !c.Ended {
			e.say("no living session; --ended shows those that ended")
		}
		views := make([]sessionView, len(sessions))
		for i, s := range sessions {
			views[i] = viewSession(s)
		}
		return e.print(views, func() [][]string {
			rows := [][]string{{"ID", "DEVICE", "IP", "CREATED", "LAST REFRESH", "IDLE END", "END", "STATE"}}
			now := time.Now()
			for i, v := range views {
				state, device := "living", v.DeviceName
				switch {
				case v.EndedAt == "" && (!now.Before(sessions[i].IdleExpiresAt) || !now.Before(sessions[i].ExpiresAt)):
					state = "expired"
				case v.EndedAt != "":
					state = "ended " + v.EndedAt + " by " + v.EndReason
				}
				if device == "" {
					device = v.UserAgent
				}
				rows = append(rows, []string{v.ID, device, v.IP, v.CreatedAt, v.LastRefreshedAt, v.IdleExpiresAt, v.ExpiresAt, state})
			}
			return rows
		})
	})
}

type sessionsRevoke struct {
	Session      *string `arg:"" optional:"" help:"The id of one session."`
	User         *string `help:"All sessions of this account: e-mail address or id."`
	IssuedBefore *string `placeholder:"INSTANT" help:"All sessions of everybody that began before this instant (RFC 3339, or now), as after a restore of the database."`
	Yes          bool    `help:"Do not ask."`
}

func (c *sessionsRevoke) Run(e *environment) error {
	chosen := 0
	for _, set := range []bool{c.Session != nil, c.User != nil, c.IssuedBefore != nil} {
		if set {
			chosen++
		}
	}
	if chosen != 1 {
		return usageError(errors.New("want exactly one of a session id, --user and --issued-before"))
	}
	if c.User != nil {
		return e.withUser(*c.User, func(in *app.Installation, u account.User) error {
			return e.endSessions(in, session.End{User: u.ID})
		})
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	if c.IssuedBefore != nil {
		return c.raiseFloor(e, in)
	}
	var sid id.Session
	if err := sid.UnmarshalText([]byte(*c.Session)); err != nil {
		return usageError(err)
	}
	s, err := in.Engine.Sessions().Session(e.ctx, sid, e.config.Refresh(""))
	if err != nil {
		return err
	}
	if s == nil {
		return fail(exitNotFound, fmt.Errorf("no session %s", sid), "authserver sessions list EMAIL --ended")
	}
	return e.endSessions(in, session.End{User: s.User, Session: sid})
}

func (e *environment) endSessions(in *app.Installation, end session.End) error {
	end.Reason, end.Actor, end.RequestID = refresh.EndedByOperator, e.actor(), e.requestID()
	n, err := in.Engine.Sessions().EndSessions(e.ctx, end)
	if err != nil {
		return err
	}
	return e.printEnded(n)
}

// floorBatch is how many families are ended in one transaction.
const floorBatch = 500

func (c *sessionsRevoke) raiseFloor(e *environment, in *app.Installation) error {
	before, err := c.instant(e, in)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := e.confirm(fmt.Sprintf("This ends every session of everybody that began before %s.", instant(before)), "revoke", sayYes); err != nil {
			return err
		}
	}
	floor, err := in.Engine.Sessions().RaiseFloor(e.ctx, before, e.actor(), e.requestID())
	revoked := fmt.Sprintf("everything before %s IS revoked", instant(floor))
	if errors.Is(err, session.ErrUnsettled) {
		return done(revoked, err, tellAgain(floor))
	}
	if err != nil {
		return err
	}
	// From here on nothing below the floor is answered. What follows writes it
	// into the rows; a run that dies here is completed by the server.
	e.say("everything before %s is revoked; writing it into the rows", instant(floor))
	total := 0
	for {
		n, err := in.Engine.Sessions().EndBelowFloor(e.ctx, floorBatch)
		if err != nil {
			return done(revoked, err, serversEnd)
		}
		if n == 0 {
			return e.printEnded(total)
		}
		total += n
	}
}

// tellAgain is the hint of a floor that the revocation feed has not heard of whole. It takes
// the very instant: one that is a moment less changes nothing and tells nobody.
func tellAgain(floor time.Time) string {
	return "authserver sessions revoke --issued-before " + floor.UTC().Format(time.RFC3339Nano) + " --yes"
}

// instant reads the instant and compares it with the store's clock.
func (c *sessionsRevoke) instant(e *environment, in *app.Installation) (time.Time, error) {
	ring, err := in.Engine.Keys().ReadRing(e.ctx)
	if err != nil {
		return time.Time{}, err
	}
	return floorOf(*c.IssuedBefore, ring.StoreNow, time.Now())
}

// floorOf reads a floor. One that lies in the future would keep everybody from
// logging in until then, and no floor ever sinks; what the feed says to verifiers is dated by the
// store's clock in any case.
func floorOf(text string, store, here time.Time) (time.Time, error) {
	if store.Sub(here) > keys.SmallLeap {
		return time.Time{}, fmt.Errorf("the database's clock says %s, this machine's %s: if the database's is ahead, nobody could log in until then; set right the one that is wrong, and try again", instant(store), instant(here))
	}
	if text == "now" {
		return store, nil
	}
	before, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, usageError(fmt.Errorf("--issued-before is %q; want an instant like %s, or now", text, instant(store)))
	}
	if before.After(store) {
		return time.Time{}, usageError(fmt.Errorf("--issued-before is %s, which lies in the future; the database's clock says %s", instant(before), instant(store)))
	}
	return before, nil
}
