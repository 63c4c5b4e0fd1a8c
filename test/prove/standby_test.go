package prove

import (
	crand "crypto/rand"
	"net/http"
	"testing"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// A commit that PostgreSQL warns of, because it may not have reached the
// standby, is not acknowledged, though it stands: the answer is 503, and the
// same request again finds it done.
func TestCommit_thatMayBeOnOneServerAloneIsNotAcknowledged(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		token := l.secondGeneration()
		key := crand.Text()
		for _, c := range []struct {
			name string
			fits func(faultproxy.Message) bool
			do   func() (provetest.Answer, error)
			then int
			done func(f *refresh.Family) bool
		}{
			{
				"refresh, before its rows", at(faultproxy.ToClient, '2', batch),
				func() (provetest.Answer, error) { return l.refresh(t.Context(), token, key) }, http.StatusOK,
				func(f *refresh.Family) bool { return f.Generation == 3 },
			},
			{
				"refresh, before the end of its answer", at(faultproxy.ToClient, 'Z', batch),
				func() (provetest.Answer, error) { return l.refresh(t.Context(), token, key) }, http.StatusOK,
				func(f *refresh.Family) bool { return f.Generation == 4 },
			},
			{
				"logout", faultproxy.Message.Committed,
				func() (provetest.Answer, error) {
					return provetest.Send(t.Context(), l.http, "POST", l.url+"/v1/logout", map[string]string{"refresh_token": token})
				}, http.StatusNoContent,
				func(f *refresh.Family) bool { return f.EndReason == refresh.EndedByLogout },
			},
		} {
			script, met := once(c.fits, faultproxy.Warn())
			l.proxy.Arm(script)
			a, err := c.do()
			if err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
				t.Errorf("%s with a warning: %v %s; want 503 with Retry-After", c.name, err, a)
			}
			select {
			case <-met:
			default:
				t.Errorf("%s: no such message", c.name)
			}
			l.proxy.Arm(nil)
			if f := l.family(token); !c.done(f) {
				t.Errorf("%s with a warning is not in the database, so this test shows nothing: %+v", c.name, f)
			}
			again, err := patiently(c.do)
			if err != nil || again.Status != c.then {
				t.Errorf("%s again: %v %s; want %d", c.name, err, again, c.then)
			}
			if next := again.Field("refresh_token"); next != "" {
				l.wantNext(token, again)
				token, key = next, crand.Text()
			}
		}
		auditAll(t, l.in.Engine)
	})
}

// secondGeneration is the token of somebody new who has refreshed once.
func (l *lab) secondGeneration() string {
	l.Helper()
	a, err := l.refreshed(person(l, l.http, l.url, crand.Text()+"@example.com").Field("refresh_token"))
	if err != nil || a.Status != http.StatusOK {
		l.Fatalf("%v %s", err, a)
	}
	return a.Field("refresh_token")
}

// What the database refuses at the very end, after its rows went out, is not acknowledged
// either. A server that answered from the rows would be found out by nobody who asks it: it
// makes up for a token that is newer than the database.
func TestCommit_thatFailsIsNotAcknowledged(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		token := l.secondGeneration()
		for _, c := range []struct {
			name string
			fits func(faultproxy.Message) bool
			path func() faultproxy.Script
		}{
			{"in a batch", at(faultproxy.ToServer, 'S', batch), func() faultproxy.Script { return nil }},
			{"alone", faultproxy.Message.Commits, refusedTwice},
		} {
			for _, code := range []string{"40001", "25006", "53100"} {
				fails, met := once(c.fits, faultproxy.Fail(code))
				before := c.path()
				l.proxy.Arm(func(m faultproxy.Message) faultproxy.Act {
					if before != nil {
						if act := before(m); act != (faultproxy.Act{}) {
							return act
						}
					}
					return fails(m)
				})
				key := crand.Text()
				a, err := l.refresh(t.Context(), token, key)
				l.proxy.Arm(nil)
				select {
				case <-met:
				default:
					t.Errorf("%s, %s: no such message", c.name, code)
				}
				switch {
				case err == nil && a.Status == http.StatusOK: // it was tried again
					l.wantStored(a)
				case err != nil || a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "":
					t.Errorf("%s, %s: %v %s; want 200, or 503 with Retry-After", c.name, code, err, a)
				}
				again, err := patiently(func() (provetest.Answer, error) { return l.refresh(t.Context(), token, key) })
				if err != nil {
					t.Fatal(err)
				}
				l.wantNext(token, again)
				l.wantStored(again)
				token = again.Field("refresh_token")
			}
		}
		auditAll(t, l.in.Engine)
	})
}
