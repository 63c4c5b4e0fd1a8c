package httpd_test

import (
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/httpd/wire"
)

// Whatever happens, the log holds no secret, and its reasons are of a closed list.
func TestLog_holdsNoSecretAndKnowsItsReasons(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	_, cookie := h.loginCookie("ada@example.com")
	const typed = "Passw0rd-in-the-wrong-field here"
	secrets := []string{mine.Access, mine.Refresh, cookie.Value, goodWord, typed}
	for _, try := range []func(){
		func() { h.post("/v1/users", fields{"email": typed, "password": goodWord}) },
		func() { h.post("/v1/login", fields{"email": typed, "password": goodWord}) },
		func() { h.post("/v1/login", fields{typed: goodWord}) },
		func() { h.post("/v1/login", typed) },
		func() { h.post("/v1/login", fields{"email": "ada@example.com", "password": typed}) },
		func() { h.do("GET", "/v1/sessions/"+mine.Refresh, nil) },
		func() { h.do("DELETE", "/v1/sessions/"+mine.Refresh, nil, bearer(mine.Access)) },
		func() { h.do("GET", "/"+mine.Access+"?token="+mine.Refresh, nil) },
		func() { h.do("GET", "/v1/me", nil, bearer(mine.Access+"x")) },
		func() { h.do("GET", "/v1/me", nil, bearer(mine.Access[:len(mine.Access)-4])) },
		func() { h.do("GET", "/v1/me", nil, bearer(mine.Refresh)) },
		func() { h.do("GET", "/v1/me", nil) },
		func() { h.do("GET", "/v1/me", nil, header("Authorization", "Bearer a b")) },
		func() { h.do("DELETE", "/v1/sessions?except="+mine.Refresh, nil, bearer(mine.Access)) },
		func() { h.do("DELETE", "/v1/sessions/00000000-0000-4000-8000-000000000000", nil, bearer(mine.Access)) },
		func() {
			h.post("/v1/me/password", fields{"current_password": typed, "new_password": typed}, bearer(mine.Access))
		},
		func() {
			h.post("/v1/me/password", fields{"current_password": goodWord, "new_password": "short"}, bearer(mine.Access))
		},
		func() { h.refresh(mine.Refresh) },
		func() { h.refresh(mine.Refresh[:76]) },
		func() { h.refresh(mine.Refresh, h.cookie(cookie.Value)) },
		func() { h.refresh(cookie.Value) },
		func() { h.post("/v1/refresh", nil) },
		func() { h.post("/v1/refresh", nil, h.cookie(cookie.Value)) },
		func() { h.post("/v1/refresh", nil, header("Origin", "https://evil.example")) },
		func() { h.post("/v1/logout", nil, h.cookie(cookie.Value)) },
		func() { h.refresh(mine.Refresh, header("Idempotency-Key", typed)) },
		func() { h.advance(2 * time.Minute); h.refresh(mine.Refresh) },
		func() { h.refresh(mine.Refresh) },
		func() { h.engine.Close(); h.refresh(mine.Refresh) },
	} {
		try()
	}
	h.event(h.do("GET", "/none", nil))
	log := h.log.String()
	for _, s := range secrets {
		if strings.Contains(log, s) {
			t.Errorf("the log holds %q", s)
		}
		if i := strings.LastIndexByte(s, '.'); i > 0 && strings.Contains(log, s[i:]) {
			t.Errorf("the log holds the signature of a token")
		}
	}
	entries, _ := h.log.entries(t)
	seen := map[string]bool{}
	for _, e := range entries {
		if reason, ok := e["reason"].(string); ok {
			seen[reason] = true
			if !wire.KnownReason(reason) {
				t.Errorf("the reason %q is not on the closed list: %v", reason, e)
			}
		}
		if e["event"] == nil || e["level"] == nil || e["time"] == nil || e["msg"] == nil {
			t.Errorf("a record lacks its event, level, time or msg: %v", e)
		}
		if status, ok := e["status"].(float64); ok && status >= 400 && e["code"] == nil {
			t.Errorf("a refusal without its code: %v", e)
		}
	}
	if len(seen) < 15 {
		t.Errorf("only the reasons %v were met; want more of the list tried", seen)
	}
}
