package httpd_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/account"
)

func TestRefresh_rotates(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		h.advance(5*time.Minute + 500*time.Millisecond)
		a := h.refresh(first.Refresh).is(200)
		got := into[tokens](a)
		want := tokens{
			Access: got.Access, Type: "Bearer", ExpiresIn: 600, Refresh: got.Refresh, RefreshExpires: 720 * 3600,
			Session: first.Session, SessionExpires: first.SessionExpires,
			IdleExpires: h.clock.Now().Add(720 * time.Hour).Format("2006-01-02T15:04:05.000Z"), Scope: "account",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a refresh moves the idle end and nothing else (-want +got)\n%s", diff)
		}
		if got.Refresh == first.Refresh || got.Access == first.Access {
			t.Error("the tokens are the old ones")
		}
		if len(a.cookies()) > 0 {
			t.Errorf("body transport sets %v", a.cookies())
		}
		if e := h.event(a); e["outcome"] != "rotated" || e["reason"] != "head" || e["family_id"] == nil || e["level"] != "INFO" {
			t.Errorf("the event is %v", e)
		}
		// Nearer to the absolute end that is what counts.
		for range 4 {
			h.advance(500 * time.Hour)
			got = into[tokens](h.refresh(got.Refresh).is(200))
		}
		if got.IdleExpires != got.SessionExpires {
			t.Errorf("the idle end %s is not capped by the absolute end %s", got.IdleExpires, got.SessionExpires)
		}
		left := instant(t, got.SessionExpires).Sub(h.clock.Now())
		if got.RefreshExpires != int64(left/time.Second) && got.RefreshExpires != int64(left/time.Second)+1 {
			t.Errorf("refresh_expires_in is %d, the session has %s left", got.RefreshExpires, left)
		}
	})
}

func TestRefresh_aRetryGetsTheSameSuccessor(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		want := into[tokens](h.refresh(first.Refresh).is(200)).Refresh
		h.advance(89 * time.Second)
		a := h.refresh(first.Refresh).is(200)
		if got := into[tokens](a); got.Refresh != want {
			t.Error("the retry got another successor")
		}
		if e := h.event(a); e["outcome"] != "replayed" {
			t.Errorf("the event is %v", e)
		}
	})
}

func TestRefresh_aHundredAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		token := h.login("ada@example.com").Refresh
		for range 3 {
			var all sync.WaitGroup
			successors := make([]string, 100)
			for i := range successors {
				all.Go(func() {
					if a := h.refresh(token); a.StatusCode == 200 {
						successors[i] = into[tokens](a).Refresh
					} else {
						t.Errorf("%d: %s", a.StatusCode, a.body)
					}
				})
			}
			all.Wait()
			for _, s := range successors {
				if s != successors[0] {
					t.Fatal("two answers carry different successors")
				}
			}
			token = successors[0]
		}
	})
}

func TestRefresh_retryKeyProvesALateRetry(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		key := header("Idempotency-Key", "0123456789abcdef-1")
		h.refresh(first.Refresh, key).is(200)
		h.advance(10 * time.Hour)
		h.refresh(first.Refresh, key).is(200)
	})
}

func TestRefresh_refusals(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")

		t.Run("reused", func(t *testing.T) {
			first := h.login("ada@example.com")
			next := into[tokens](h.refresh(first.Refresh).is(200))
			h.advance(2 * time.Minute)
			a := h.refresh(first.Refresh)
			a.refused(401, "refresh_reused")
			if e := h.event(a); e["outcome"] != "reused" || e["reason"] != "retry_window_over" || e["subject"] == nil {
				t.Errorf("the event is %v", e)
			}
			// The family has ended, also for whoever held the head.
			b := h.refresh(next.Refresh)
			b.refused(401, "refresh_revoked")
			if e := h.event(b); e["outcome"] != "revoked" || e["reason"] != "ended" {
				t.Errorf("the event is %v", e)
			}
			h.do("GET", "/v1/me", nil, bearer(next.Access)).refused(401, "session_ended")
		})
		t.Run("revoked by a ban", func(t *testing.T) {
			h.register("banned@example.com")
			first := h.login("banned@example.com")
			user, err := h.engine.Accounts().ByEmail(t.Context(), account.EmailKey("banned@example.com"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.engine.Accounts().Disable(t.Context(), user.ID, "operator:test", ""); err != nil {
				t.Fatal(err)
			}
			h.refresh(first.Refresh).refused(401, "refresh_revoked")
			h.do("GET", "/v1/me", nil, bearer(first.Access)).refused(401, "session_ended")
		})
		t.Run("idle", func(t *testing.T) {
			first := h.login("ada@example.com")
			h.advance(721 * time.Hour)
			a := h.refresh(first.Refresh)
			a.refused(401, "refresh_expired")
			if e := h.event(a); e["outcome"] != "expired" || e["reason"] != "idle" {
				t.Errorf("the event is %v", e)
			}
		})
		t.Run("absolute", func(t *testing.T) {
			token := h.login("ada@example.com").Refresh
			for range 3 {
				h.advance(719 * time.Hour)
				token = into[tokens](h.refresh(token).is(200)).Refresh
			}
			h.advance(719 * time.Hour)
			a := h.refresh(token)
			a.refused(401, "refresh_expired")
			if e := h.event(a); e["reason"] != "absolute" {
				t.Errorf("the event is %v", e)
			}
		})
		t.Run("forged", func(t *testing.T) {
			token := h.login("ada@example.com").Refresh
			for _, forged := range []string{"x", token[:76], token + "A", strings.ToLower(token), token[:40] + flip(token[40]) + token[41:]} {
				a := h.refresh(forged)
				a.refused(401, "refresh_invalid")
				if e := h.event(a); e["outcome"] != "unknown" || e["reason"] != "forged" || e["family_id"] != nil {
					t.Errorf("the event is %v", e)
				}
			}
		})
		t.Run("no token at all", func(t *testing.T) {
			h.post("/v1/refresh", nil).refused(401, "refresh_invalid")
			h.post("/v1/refresh", fields{}).refused(401, "refresh_invalid")
			h.post("/v1/refresh", fields{"refresh_token": ""}).refused(401, "refresh_invalid")
			h.post("/v1/refresh", fields{"refresh_token": nil}).refused(401, "refresh_invalid")
		})
	})
}

func flip(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// Whoever forges gets refusals, never a 429, and costs no read.
func TestRefresh_isNotLimitedByAddress(t *testing.T) {
	h := onOne(t, with(tightEdge))
	h.register("ada@example.com")
	first := h.login("ada@example.com")
	for range 30 {
		h.refresh("asrt_forged").refused(401, "refresh_invalid")
		h.refresh(first.Refresh).is(200)
	}
}

// A node whose keys are too old to sign must not use a token up.
func TestRefresh_aStaleRingAnswersBeforeItRotates(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		h.clock.Advance(31 * time.Second) // and the keys are not read again
		a := h.refresh(first.Refresh)
		p := a.refused(503, "temporarily_unavailable")
		wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 5 || p.RetryAfter != wait {
			t.Errorf("Retry-After is %q, retry_after %d; want 1 to 5, the same", a.Header.Get("Retry-After"), p.RetryAfter)
		}
		h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}).refused(503, "temporarily_unavailable")
		h.advance(5 * time.Minute) // had it been used up, this would be reuse
		h.refresh(first.Refresh).is(200)
	})
}

// "I do not know" is never answered as "no".
func TestStoreTrouble_isNever4xxAndTakesNoCookie(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		_, held := h.loginCookie("ada@example.com")
		h.engine.Close()
		waits := map[string]bool{}
		for name, a := range map[string]answer{
			"refresh":          h.refresh(first.Refresh),
			"refresh, cookie":  h.post("/v1/refresh", nil, h.cookie(held.Value)),
			"login":            h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}),
			"login, cookie":    h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}, h.cookie(held.Value)),
			"logout":           h.post("/v1/logout", fields{"refresh_token": first.Refresh}),
			"logout, cookie":   h.post("/v1/logout", nil, h.cookie(held.Value)),
			"logout, bearer":   h.post("/v1/logout", nil, bearer(first.Access)),
			"me":               h.do("GET", "/v1/me", nil, bearer(first.Access)),
			"password":         h.post("/v1/me/password", fields{"current_password": goodWord, "new_password": "another horse"}, bearer(first.Access)),
			"sessions":         h.do("GET", "/v1/sessions", nil, bearer(first.Access)),
			"end a session":    h.do("DELETE", "/v1/sessions/"+first.Session, nil, bearer(first.Access)),
			"end all sessions": h.do("DELETE", "/v1/sessions", nil, bearer(first.Access)),
			"register":         h.post("/v1/users", fields{"email": "b@example.com", "password": goodWord}),
		} {
			t.Run(name, func(t *testing.T) {
				a.t = t
				p := a.refused(503, "temporarily_unavailable")
				if len(a.cookies()) > 0 {
					t.Errorf("it sets %v", a.cookies())
				}
				if p.RetryAfter < 1 || p.RetryAfter > 5 {
					t.Errorf("retry_after is %d", p.RetryAfter)
				}
				waits[fmt.Sprint(p.RetryAfter)] = true
				if e := h.event(a); e["error"] == nil || e["level"] != "WARN" || strings.Contains(p.Detail, fmt.Sprint(e["error"])) {
					t.Errorf("the event is %v: want the cause, which the answer %q does not show", e, p.Detail)
				}
			})
		}
		if len(waits) < 2 {
			t.Errorf("everybody is told to come back after %v seconds; want them spread", waits)
		}
		h.do("GET", "/.well-known/jwks.json", nil).is(200) // from memory
	})
}
