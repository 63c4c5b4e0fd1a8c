package httpd_test

import (
	"strings"
	"testing"
	"time"
)

func TestLogout_whateverNamesASessionEndsIt(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		for name, try := range map[string]func(first, head tokens) answer{
			"the head": func(_, head tokens) answer { return h.post("/v1/logout", fields{"refresh_token": head.Refresh}) },
			"an older generation": func(first, _ tokens) answer {
				return h.post("/v1/logout", fields{"refresh_token": first.Refresh})
			},
			"a bearer token": func(_, head tokens) answer { return h.post("/v1/logout", nil, bearer(head.Access)) },
			"an expired bearer token": func(first, _ tokens) answer {
				h.advance(11 * time.Minute)
				return h.post("/v1/logout", nil, bearer(first.Access))
			},
			"both": func(_, head tokens) answer {
				return h.post("/v1/logout", fields{"refresh_token": head.Refresh}, bearer(head.Access))
			},
			"a refresh token beside a bad bearer": func(_, head tokens) answer {
				return h.post("/v1/logout", fields{"refresh_token": head.Refresh}, bearer("rubbish"))
			},
		} {
			t.Run(name, func(t *testing.T) {
				first := h.login("ada@example.com")
				other := h.login("ada@example.com")
				head := into[tokens](h.refresh(first.Refresh).is(200))
				a := try(first, head).is(204)
				if len(a.body) > 0 || len(a.cookies()) > 0 {
					t.Errorf("body %q, cookies %v", a.body, a.cookies())
				}
				if e := h.event(a); e["outcome"] != "ended" || e["session_id"] != first.Session {
					t.Errorf("the event is %v", e)
				}
				h.refresh(head.Refresh).refused(401, "refresh_revoked")
				h.refresh(first.Refresh).refused(401, "refresh_revoked")
				h.do("GET", "/v1/me", nil, bearer(head.Access)).is(401)
				h.refresh(other.Refresh).is(200)
				if again := try(first, head).is(204); h.event(again)["outcome"] != "nothing_to_end" {
					t.Errorf("the second logout: %v", h.event(again))
				}
			})
		}
	})
}

func TestLogout_anExpiredRefreshToken(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	first := h.login("ada@example.com")
	h.advance(721 * time.Hour)
	h.post("/v1/logout", fields{"refresh_token": first.Refresh}).is(204)
	h.refresh(first.Refresh).refused(401, "refresh_revoked") // no longer "expired": it was ended
}

func TestLogout_nothingToEnd(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	h.post("/v1/logout", nil).is(204)
	h.post("/v1/logout", fields{}).is(204)
	h.post("/v1/logout", fields{"refresh_token": nil}).is(204)
	h.post("/v1/logout", fields{"refresh_token": "asrt_unknown"}).is(204)
	h.post("/v1/logout", nil, h.cookie("asrt_unknown")).is(204)
	h.refresh(mine.Refresh).is(200)
}

func TestLogout_aBadBearerIsRefused(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	body := mine.Access[:strings.LastIndexByte(mine.Access, '.')+1]
	for _, bad := range []string{"rubbish", body + strings.Repeat("A", 86), mine.Refresh} {
		h.post("/v1/logout", nil, bearer(bad)).refused(401, "token_invalid")
		h.post("/v1/logout", fields{"refresh_token": "asrt_unknown"}, bearer(bad)).refused(401, "token_invalid")
	}
	h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200)
}
