package prove

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// at reports messages of one kind while the connection does what the label says.
func at(d faultproxy.Direction, kind byte, label string) func(faultproxy.Message) bool {
	return func(m faultproxy.Message) bool { return m.Direction == d && m.Kind == kind && m.Label == label }
}

// commitAfter fits the COMMIT that follows a statement.
func commitAfter(label string) func(faultproxy.Message) bool {
	seen := false
	return func(m faultproxy.Message) bool {
		seen = seen || m.Label == label
		return seen && m.Commits()
	}
}

// once is a script that does one thing to the first message that fits.
func once(fits func(faultproxy.Message) bool, act faultproxy.Act) (faultproxy.Script, <-chan struct{}) {
	met := make(chan struct{})
	done := false
	return func(m faultproxy.Message) faultproxy.Act {
		if done || !fits(m) {
			return faultproxy.Act{}
		}
		done = true
		close(met)
		return act
	}, met
}

const batch = "refresh.rotate_batch"

// A connection that goes silent, before the commit or after it, costs its
// client a while and nothing else.
func TestFaults_aConnectionThatGoesSilent(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		database := database(t)
		type scene struct {
			name   string
			fits   func(faultproxy.Message) bool
			logout bool
			l      *lab
			token  string
		}
		scenes := []*scene{
			{name: "the statement", fits: at(faultproxy.ToServer, 'B', batch)},
			{name: "the commit of a batch", fits: at(faultproxy.ToServer, 'S', batch)},
			{name: "the first answer to a batch", fits: at(faultproxy.ToClient, '2', batch)},
			{name: "the answer to the commit of a batch", fits: at(faultproxy.ToClient, 'Z', batch)},
			{name: "a COMMIT", fits: faultproxy.Message.Commits, logout: true},
			{name: "the answer to a COMMIT", fits: faultproxy.Message.Committed, logout: true},
		}
		for _, s := range scenes {
			s.l = newLab(t, database)
			s.token = person(t, s.l.http, s.l.url, crand.Text()+"@example.com").Field("refresh_token")
			if a, err := s.l.refreshed(s.token); err != nil || a.Status != http.StatusOK {
				t.Fatalf("%v %s", err, a)
			} else {
				s.token = a.Field("refresh_token") // the connections are warm
			}
		}
		var all sync.WaitGroup
		for _, s := range scenes {
			all.Go(func() {
				script, met := once(s.fits, faultproxy.Mute())
				s.l.proxy.Arm(script)
				if s.logout {
					if err := s.l.logOut(t.Context(), s.token); err != nil {
						t.Errorf("%s is swallowed: %v", s.name, err)
					}
					a, err := s.l.refreshed(s.token)
					if err != nil || a.Field("code") != "refresh_revoked" {
						t.Errorf("%s was swallowed; a refresh after the answer to logout: %v %s", s.name, err, a)
					}
				} else {
					h := s.l.holder(s.token)
					for range 2 { // what was acknowledged is good
						if err := h.Refresh(t.Context()); err != nil {
							t.Errorf("%s is swallowed: %v", s.name, err)
						}
					}
				}
				select {
				case <-met:
				default:
					t.Errorf("%s never came by", s.name)
				}
			})
		}
		all.Wait()
		provetest.Figure(t, "faults at a message of the database protocol, swallowed", len(scenes))
		auditAll(t, scenes[0].l.in.Engine)
	})
}

// holder is a well-behaved client of this node.
func (l *lab) holder(token string) *provetest.Holder {
	return &provetest.Holder{
		HTTP: l.http, Node: func() string { return l.url }, Timeout: 5 * time.Second, Patience: 4 * time.Minute,
		Pause: 20 * time.Millisecond, Agent: "a device", Token: token,
	}
}

// logOut tries until it has an answer.
func (l *lab) logOut(ctx context.Context, token string) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := provetest.Send(attempt, l.http, "POST", l.url+"/v1/logout", map[string]string{"refresh_token": token})
		cancel()
		switch {
		case err == nil && a.Status == http.StatusNoContent:
			return nil
		case err == nil && a.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("logout: %s", a)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// No request that goes away, and no deadline of its client, cancels a commit
// that was sent.
func TestCommit_isNeverCancelledByWhoeverAsked(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		email := crand.Text() + "@example.com"
		first := person(t, l.http, l.url, email)
		second := must(t, l.http, http.StatusOK, "POST", l.url+"/v1/login", map[string]string{"email": email, "password": goodPassword})
		token := second.Field("refresh_token")
		a, err := l.refreshed(token)
		if err != nil {
			t.Fatal(err)
		}
		l.wantNext(token, a)
		token = a.Field("refresh_token")

		for _, act := range []struct {
			name string
			fits func(faultproxy.Message) bool
			do   func(ctx context.Context) (provetest.Answer, error)
			done func(f *refresh.Family) bool
		}{
			{
				"a refresh", at(faultproxy.ToServer, 'S', batch),
				func(ctx context.Context) (provetest.Answer, error) { return l.refresh(ctx, token, crand.Text()) },
				func(f *refresh.Family) bool { return f.Generation == 3 },
			},
			{
				"a password change", commitAfter("account.set_password"),
				func(ctx context.Context) (provetest.Answer, error) {
					return provetest.Send(ctx, l.http, "POST", l.url+"/v1/me/password",
						map[string]string{"current_password": goodPassword, "new_password": "another " + goodPassword},
						"Authorization", "Bearer "+first.Field("access_token"))
				},
				func(f *refresh.Family) bool { return f.EndReason == refresh.EndedByPassword },
			},
		} {
			release := make(chan struct{})
			script, met := once(act.fits, faultproxy.Hold(release))
			l.proxy.Arm(script)
			ctx, giveUp := context.WithCancel(t.Context())
			answered := make(chan error, 1)
			go func() {
				a, err := act.do(ctx)
				if err == nil {
					t.Logf("%s was answered: %s", act.name, a)
				}
				answered <- err
			}()
			select {
			case <-met:
			case <-time.After(time.Minute):
				t.Fatalf("the commit of %s never came by", act.name)
			}
			giveUp()
			if err := <-answered; err == nil {
				t.Errorf("%s was answered before its commit was passed on", act.name)
			}
			close(release)
			await(t, act.name+" whose client went away to be committed", func() bool { return act.done(l.family(token)) })
		}
		if n := l.proxy.Cancels(); n > 0 {
			t.Errorf("%d cancel requests were sent, want none", n)
		}
		auditAll(t, l.in.Engine)
	})
}

// What goes in one round trip is tried again, too, where the database breaks a tie against
// it, over the connection that has it prepared.
func TestFaults_whatGoesAtOnceIsTriedAgain(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		policy := l.in.Config.Refresh(config.FirstParty)
		for _, act := range []struct {
			label string
			do    func() error
		}{
			{"refresh.sweep", func() error {
				_, _, err := l.in.Engine.Families().Sweep(t.Context(), refresh.Edge, 10, policy, time.Now())
				return err
			}},
			{"revocation.number", func() error {
				token := person(t, l.http, l.url, crand.Text()+"@example.com").Field("refresh_token")
				if err := l.logOut(t.Context(), token); err != nil {
					return err
				}
				_, err := l.in.Engine.Revocations().Read(t.Context(), 0, 1000)
				return err
			}},
		} {
			for _, code := range []string{"40001", "40P01"} {
				if err := act.do(); err != nil { // whole, and prepared
					t.Fatalf("%s: %v", act.label, err)
				}
				script, met := once(at(faultproxy.ToServer, 'B', act.label), faultproxy.Fail(code))
				l.proxy.Arm(script)
				err := act.do()
				l.proxy.Arm(nil)
				select {
				case <-met:
				default:
					t.Errorf("%s never came by", act.label)
				}
				if err != nil {
					t.Errorf("%s, told %s once: %v", act.label, code, err)
				}
			}
		}
	})
}

// family reads the row of a token's family.
func (l *lab) family(token string) *refresh.Family {
	l.Helper()
	ring := keys.NewRing(l.in.Engine.Keys(), l.in.Masters, l.in.Config.Keys(), time.Now, nil)
	if err := ring.Start(l.Context()); err != nil {
		l.Fatal(err)
	}
	parsed, err := refresh.Parse(l.Context(), ring, token)
	if err != nil {
		l.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		f, _, err := l.in.Engine.Families().Family(l.Context(), parsed.Family())
		switch {
		case err == nil && f != nil:
			return f
		case err == nil || time.Now().After(deadline): // a connection may have been cut before
			l.Fatalf("%v %v", f, err)
		}
	}
}

func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}
