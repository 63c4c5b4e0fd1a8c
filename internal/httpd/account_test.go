package httpd_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/account"
)

func closed(p *plan) { p.registration = false }

func TestUsers_registration(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		a := h.post("/v1/users", fields{"email": "Ada@Example.com", "password": goodWord}).is(201)
		u := into[map[string]string](a)
		if len(u) != 3 || len(u["id"]) != 36 || u["email"] != "Ada@Example.com" {
			t.Errorf("got %v, want id, email and created_at, the address as it was given", u)
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", u["created_at"]); err != nil {
			t.Errorf("created_at: %v", err)
		}

		for _, taken := range []string{"Ada@Example.com", "ada@example.COM"} {
			h.post("/v1/users", fields{"email": taken, "password": goodWord}).refused(409, "email_taken")
		}
		for word, want := range map[string]string{
			"short":              "at least 8",
			"12345678":           "common",
			"grace@example.com1": "e-mail",
		} {
			p := h.post("/v1/users", fields{"email": "grace@example.com", "password": word}).refused(422, "password_too_weak")
			if !strings.Contains(p.Detail, want) || strings.Contains(p.Detail, word) {
				t.Errorf("the detail is %q, want one about %q that does not repeat the password", p.Detail, want)
			}
		}
		for _, bad := range []string{"", "ada", "@example.com", "ada@", "a da@example.com", "ada@example.com\x00"} {
			h.post("/v1/users", fields{"email": bad, "password": goodWord}).refused(400, "invalid_request")
		}
	})
}

func TestUsers_oneNetworkLearnsOfTwentyAddressesAnHour(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	for range 20 {
		h.post("/v1/users", fields{"email": "ada@example.com", "password": goodWord}).refused(409, "email_taken")
	}
	a := h.post("/v1/users", fields{"email": "ada@example.com", "password": goodWord})
	p := a.refused(429, "too_many_requests")
	if p.RetryAfter < 60 || a.Header.Get("Retry-After") != fmt.Sprint(p.RetryAfter) {
		t.Errorf("retry_after is %d and the header %q, want the same long time", p.RetryAfter, a.Header.Get("Retry-After"))
	}
}

func TestUsers_closedRegistration(t *testing.T) {
	h := onOne(t, closed)
	h.post("/v1/users", fields{"email": "ada@example.com", "password": goodWord}).refused(403, "registration_closed")
}

func TestMe_tellsOfTheBearer(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		mine := h.login("ada@example.com")
		user, err := h.engine.Accounts().ByEmail(t.Context(), account.EmailKey("ada@example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.engine.Accounts().SetRole(t.Context(), user.ID, "editor", true, "operator:test", ""); err != nil {
			t.Fatal(err)
		}
		got := into[map[string]any](h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200))
		want := map[string]any{
			"id": user.ID.String(), "email": "ada@example.com", "roles": []any{"editor"},
			"created_at": user.CreatedAt.UTC().Format("2006-01-02T15:04:05.000Z"),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}

func TestPassword_changeEndsEveryOtherSession(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		mine, other := h.login("ada@example.com"), h.login("ada@example.com")
		const next = "another horse entirely"

		h.post("/v1/me/password", fields{"current_password": "wrong", "new_password": next}, bearer(mine.Access)).refused(422, "wrong_password")
		h.post("/v1/me/password", fields{"current_password": goodWord, "new_password": "password"}, bearer(mine.Access)).refused(422, "password_too_weak")
		h.post("/v1/me/password", fields{"current_password": goodWord}, bearer(mine.Access)).refused(400, "invalid_request")
		h.post("/v1/me/password", fields{"current_password": goodWord, "new_password": next}).refused(401, "token_invalid")
		if a := h.post("/v1/me/password", fields{"current_password": goodWord, "new_password": next}, bearer(mine.Access)).is(204); len(a.body) > 0 {
			t.Errorf("204 with a body: %q", a.body)
		}

		h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200)
		h.refresh(mine.Refresh).is(200)
		h.do("GET", "/v1/me", nil, bearer(other.Access)).refused(401, "session_ended")
		h.refresh(other.Refresh).refused(401, "refresh_revoked")
		h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord}).refused(401, "invalid_credentials")
		h.post("/v1/login", fields{"email": "ada@example.com", "password": next}).is(200)
	})
}

func TestPassword_wrongOnesAreCounted(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	var a answer
	for range 30 {
		if a = h.post("/v1/me/password", fields{"current_password": "wrong", "new_password": "another horse"}, bearer(mine.Access)); a.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	a.refused(429, "too_many_attempts")
}
