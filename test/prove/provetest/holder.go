package provetest

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"net/http"
	"time"
)

// Holder is a well-behaved client of one session. It makes a new key for each
// refresh, unless it is Keyless, and after a broken connection, a timeout or a 5xx it
// presents the same token with the same key again, at any node, until it has an answer.
// It is not safe for concurrent use.
type Holder struct {
	HTTP *http.Client
	// Node returns the base URL to ask next.
	Node func() string
	// Timeout bounds one attempt, Patience all attempts of one refresh.
	Timeout, Patience time.Duration
	// Pause is waited between attempts.
	Pause time.Duration
	// Agent is the user agent; the same for the whole life of a device.
	Agent string
	// Keyless clients send no Idempotency-Key, and rest on the retry window.
	Keyless bool
	// Cookie is the name of the cookie that the token travels in; "": it is in the bodies.
	Cookie string
	// Accept is shown every access token; an error breaks a promise. nil: nobody is.
	Accept func(ctx context.Context, access string) error

	Token     string
	Refreshes int // acknowledged
	Repeats   int // attempts that gave no answer
	// Last is what the last attempt without an answer said.
	Last string
}

// Refresh swaps the token for the next one. An error says that a promise was
// broken: a refusal, a successor that is not the next generation, an access token
// that is not accepted, or patience at its end.
func (h *Holder) Refresh(ctx context.Context) error {
	held, err := Generation(h.Token)
	if err != nil {
		return err
	}
	key := crand.Text()
	deadline := time.Now().Add(h.Patience)
	for {
		a, err := h.attempt(ctx, key)
		switch {
		case err == nil && a.Status == http.StatusOK:
			next, err := h.TokenIn(a)
			if err != nil {
				return err
			}
			g, err := Generation(next)
			if err != nil {
				return err
			}
			if g != held+1 {
				return fmt.Errorf("the successor of generation %d is of generation %d", held, g)
			}
			h.Token = next
			h.Refreshes++
			if h.Accept != nil {
				return h.Accept(ctx, a.Field("access_token"))
			}
			return nil
		case err == nil && a.Status < 500:
			return fmt.Errorf("a valid token of generation %d was refused after %q: %s", held, h.Last, a)
		case err == nil:
			if a.Header.Get("Retry-After") == "" || a.Header.Get("Set-Cookie") != "" {
				return fmt.Errorf("trouble without Retry-After, or with a cookie: %v %s", a.Header, a)
			}
			h.Last = a.String()
		default:
			h.Last = err.Error()
		}
		h.Repeats++
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer for generation %d within %s; the last: %s", held, h.Patience, h.Last)
		}
		select {
		case <-time.After(h.Pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TokenIn returns the refresh token of an answer to a login or a refresh.
func (h *Holder) TokenIn(a Answer) (string, error) {
	body := a.Field("refresh_token")
	if h.Cookie == "" {
		return body, nil
	}
	cookies := (&http.Response{Header: a.Header}).Cookies()
	if body != "" || len(cookies) != 1 || cookies[0].Name != h.Cookie {
		return "", fmt.Errorf("want a refresh token in cookie %q alone: %v %s", h.Cookie, a.Header, a)
	}
	return cookies[0].Value, nil
}

func (h *Holder) attempt(ctx context.Context, key string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	header := []string{"User-Agent", h.Agent}
	if !h.Keyless {
		header = append(header, "Idempotency-Key", key)
	}
	body := map[string]string{"refresh_token": h.Token}
	if h.Cookie != "" {
		body, header = nil, append(header, "Cookie", h.Cookie+"="+h.Token)
	}
	return Send(ctx, h.HTTP, http.MethodPost, h.Node()+"/v1/refresh", body, header...)
}
