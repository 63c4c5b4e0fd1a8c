package httpd_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type device struct {
	ID              string `json:"id"`
	Current         bool   `json:"current"`
	DeviceName      string `json:"device_name"`
	UserAgent       string `json:"user_agent"`
	IP              string `json:"ip"`
	CreatedAt       string `json:"created_at"`
	LastRefreshedAt string `json:"last_refreshed_at"`
	IdleExpiresAt   string `json:"idle_expires_at"`
	ExpiresAt       string `json:"expires_at"`
}

func (h *house) sessions(token string) []device {
	h.t.Helper()
	return into[map[string][]device](h.do("GET", "/v1/sessions", nil, bearer(token)).is(200))["sessions"]
}

func TestSessions_listed(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		h.register("grace@example.com")
		h.login("grace@example.com")
		born := h.clock.Now()
		phone := into[tokens](h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, "device_name": "phone"}, header("User-Agent", "Phone/1")).is(200))
		h.advance(time.Hour)
		laptop := h.login("ada@example.com", header("User-Agent", "Laptop/1"))
		phone = into[tokens](h.refresh(phone.Refresh, header("User-Agent", "Phone/2")).is(200))

		text := func(at time.Time) string { return at.Format("2006-01-02T15:04:05.000Z") }
		now := h.clock.Now()
		want := []device{
			{laptop.Session, false, "", "Laptop/1", "127.0.0.1", text(now), text(now), laptop.IdleExpires, laptop.SessionExpires},
			{phone.Session, true, "phone", "Phone/2", "127.0.0.1", text(born), text(now), phone.IdleExpires, phone.SessionExpires},
		}
		if diff := cmp.Diff(want, h.sessions(phone.Access)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestSessions_endOne(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		h.register("mallory@example.com")
		mine, other := h.login("ada@example.com"), h.login("ada@example.com")
		stranger := h.login("mallory@example.com")

		for _, id := range []string{mine.Session, "00000000-0000-4000-8000-000000000000", "x", "..", "%2e%2e", "../" + mine.Session} {
			a := h.do("DELETE", "/v1/sessions/"+id, nil, bearer(stranger.Access))
			if a.StatusCode != 404 {
				t.Errorf("%q: got %d, want 404", id, a.StatusCode)
			}
		}
		h.do("DELETE", "/v1/sessions/"+mine.Session, nil, bearer(stranger.Access)).refused(404, "session_not_found")
		h.refresh(mine.Refresh).is(200)

		h.do("DELETE", "/v1/sessions/"+other.Session, nil, bearer(mine.Access)).is(204)
		h.do("DELETE", "/v1/sessions/"+other.Session, nil, bearer(mine.Access)).is(204)
		h.refresh(other.Refresh).refused(401, "refresh_revoked")
		if list := h.sessions(mine.Access); len(list) != 1 || list[0].ID != mine.Session {
			t.Errorf("left is %v", list)
		}
		a := h.do("DELETE", "/v1/sessions/"+mine.Session, nil, bearer(mine.Access)).is(204)
		if len(a.cookies()) > 0 {
			t.Errorf("only a logout expires the cookie; this set %v", a.cookies())
		}
		h.do("GET", "/v1/sessions", nil, bearer(mine.Access)).refused(401, "session_ended")
	})
}

func TestSessions_endAllOrAllOthers(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		mine, other := h.login("ada@example.com"), h.login("ada@example.com")

		for _, query := range []string{"?except=other", "?excpt=current", "?except=", "?except", "?except=current&except=current", "?except=current&x=1", "?%zz"} {
			a := h.do("DELETE", "/v1/sessions"+query, nil, bearer(mine.Access))
			a.refused(400, "invalid_request")
		}
		// An exception that stands in the body would be overlooked.
		h.do("DELETE", "/v1/sessions", map[string]any{"except": "current"}, bearer(mine.Access)).refused(400, "invalid_request")
		h.do("DELETE", "/v1/sessions/"+other.Session, map[string]any{"x": 1}, bearer(mine.Access)).refused(400, "invalid_request")
		h.refresh(other.Refresh).is(200)

		h.do("DELETE", "/v1/sessions?except=current", nil, bearer(mine.Access)).is(204)
		h.refresh(other.Refresh).refused(401, "refresh_revoked")
		h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200)

		h.do("DELETE", "/v1/sessions", nil, bearer(mine.Access)).is(204)
		h.do("GET", "/v1/me", nil, bearer(mine.Access)).refused(401, "session_ended")
		h.refresh(mine.Refresh).refused(401, "refresh_revoked")
	})
}
