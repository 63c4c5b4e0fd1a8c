package prove

import (
	crand "crypto/rand"
	"errors"
	"net/http"
	"testing"

	"example.com/authserver/internal/session"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// Whichever statement fails of what revokes everything before an instant: no error means
// that everything is dead, ErrUnsettled too, and any other one that it is dead or alive.
func TestRevocation_ofEverythingWhateverStatementFails(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		failed, unsettled := 0, 0
		for k := 1; k <= mostMessages; k++ {
			victim := person(l, l.http, l.url, crand.Text()+"@example.com")
			ring, err := l.in.Engine.Keys().ReadRing(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fired := l.breakAt(k, fault{act: faultproxy.Fail("53100"), to: faultproxy.ToServer}, nil)
			_, err = l.in.Engine.Sessions().RaiseFloor(t.Context(), ring.StoreNow, "operator:x", "floor")
			l.proxy.Arm(nil)
			after, trouble := l.refreshed(victim.Field("refresh_token"))
			if trouble != nil {
				t.Fatal(trouble)
			}
			dead := after.Is(http.StatusUnauthorized, "refresh_revoked")
			switch {
			case errors.Is(err, session.ErrUnsettled) && dead:
				unsettled++
			case err == nil && dead:
			case err != nil && !errors.Is(err, session.ErrUnsettled) && (dead || after.Status == http.StatusOK):
				failed++
			default:
				t.Fatalf("message %d: %v, and a refresh afterwards %s", k, err, after)
			}
			if !fired.Load() {
				break
			}
		}
		if failed == 0 || unsettled == 0 {
			t.Errorf("%d times it failed, %d times it was not settled; want some of each", failed, unsettled)
		}
		auditAll(t, l.in.Engine)
	})
}

// Whichever statement of a revocation fails, as on a full disk, and is not tried again: 204
// means that the session is dead, and 503 that it is alive or dead, and nothing in between.
func TestRevocation_whateverStatementFails(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l, seed := newLab(t, database(t)), provetest.Seed(t)
		for _, act := range []struct {
			name  string
			step  int // one in so many statements fails, at an effort of 1
			do    func(mine provetest.Answer) (provetest.Answer, error)
			other bool // what ends is another session of the same account
		}{
			{"logout", 1, func(mine provetest.Answer) (provetest.Answer, error) {
				return provetest.Send(t.Context(), l.http, "POST", l.url+"/v1/logout", map[string]string{"refresh_token": mine.Field("refresh_token")})
			}, false},
			{"the end of a session", 2, func(mine provetest.Answer) (provetest.Answer, error) {
				return provetest.Send(t.Context(), l.http, "DELETE", l.url+"/v1/sessions/"+mine.Field("session_id"), nil, "Authorization", "Bearer "+mine.Field("access_token"))
			}, false},
			{"password change", 5, func(mine provetest.Answer) (provetest.Answer, error) {
				return provetest.Send(t.Context(), l.http, "POST", l.url+"/v1/me/password",
					map[string]string{"current_password": goodPassword, "new_password": "another " + goodPassword}, "Authorization", "Bearer "+mine.Field("access_token"))
			}, true},
		} {
			step := max(1, act.step/provetest.Effort(t))
			failed := 0
			for k := 1 + provetest.Dice(seed, step).IntN(step); k <= mostMessages; k += step {
				email := crand.Text() + "@example.com"
				mine := person(l, l.http, l.url, email)
				victim := mine
				if act.other {
					victim = must(l, l.http, http.StatusOK, "POST", l.url+"/v1/login", map[string]string{"email": email, "password": goodPassword})
				}
				fired := l.breakAt(k, fault{act: faultproxy.Fail("53100"), to: faultproxy.ToServer}, nil)
				a, err := act.do(mine)
				l.proxy.Arm(nil)
				after, trouble := l.refreshed(victim.Field("refresh_token"))
				if trouble != nil {
					t.Fatal(trouble)
				}
				dead := after.Status == http.StatusUnauthorized && after.Field("code") == "refresh_revoked"
				switch {
				case err != nil:
					t.Fatalf("%s, message %d: %v", act.name, k, err)
				case a.Status == http.StatusNoContent && dead:
				case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "" && (dead || after.Status == http.StatusOK):
					failed++
				default:
					t.Fatalf("%s, message %d: it said %s, and a refresh afterwards %s", act.name, k, a, after)
				}
				if !fired.Load() {
					break
				}
			}
			if failed == 0 {
				t.Errorf("not one message failed the %s", act.name)
			}
			t.Logf("%s: %d times it failed", act.name, failed)
		}
		auditAll(t, l.in.Engine)
	})
}
