package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The agents of the two who hold a token.
const (
	victimAgent = "Mozilla/5.0 (refreshtorture; the honest user)"
	thiefAgent  = "curl/8.0 (refreshtorture; the thief)"
)

// sender is who presents a token, and with which Idempotency-Key, if any.
type sender struct{ agent, key string }

var (
	victim = sender{agent: victimAgent}
	thief  = sender{agent: thiefAgent}
)

// withKey is the sender with a retry key that was never sent before.
func (s sender) withKey() sender {
	s.key = rand.Text()
	return s
}

// answer is what became of one request.
type answer struct {
	status int
	token  string // the refresh token to use from now on
	code   string // of the error
	err    error  // nobody answered

	after time.Duration // Retry-After of a 503: when to ask again; 0 without
}

func (a answer) granted() bool { return a.status == http.StatusOK && a.token != "" }
func (a answer) cut() bool     { return a.err != nil }
func (a answer) trouble() bool { return a.cut() || a.status >= 500 }
func (a answer) limited() bool { return a.status == http.StatusTooManyRequests }
func (a answer) refused() bool { return !a.granted() && !a.trouble() && !a.limited() }

func (a answer) String() string {
	switch {
	case a.cut():
		return "no answer (" + a.err.Error() + ")"
	case a.granted():
		return "granted"
	case a.code != "":
		return fmt.Sprintf("%d %s", a.status, a.code)
	default:
		return fmt.Sprint(a.status)
	}
}

// target is the endpoint under torture.
type target struct {
	o         *options
	revokeURL string
	client    *http.Client
	sent      atomic.Int64
	answered  atomic.Int64
}

var errTooMany = errors.New("--max-requests is used up")

func newTarget(o *options) *target {
	t := &target{o: o, revokeURL: o.revokeURL}
	t.client = &http.Client{
		Timeout: o.answerTimeout,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: o.racers, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		// A token does not go where a redirect says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return t
}

// silent reports whether not a single request was ever answered.
func (t *target) silent() bool { return t.sent.Load() > 0 && t.answered.Load() == 0 }

// request builds a refresh.
func (t *target) request(ctx context.Context, token string, by sender) (*http.Request, error) {
	if t.o.style == "v1" {
		body, err := json.Marshal(map[string]string{"refresh_token": token})
		if err != nil {
			return nil, err
		}
		return t.post(ctx, t.o.url.String(), "application/json", string(body), by)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	if t.o.scope != "" {
		form.Set("scope", t.o.scope)
	}
	return t.form(ctx, t.o.url.String(), form, by)
}

// form posts a form with the client's authentication (RFC 6749 section 2.3.1).
func (t *target) form(ctx context.Context, to string, form url.Values, by sender) (*http.Request, error) {
	if t.o.clientID != "" && t.o.auth != "basic" {
		form.Set("client_id", t.o.clientID)
	}
	if t.o.auth == "post" {
		form.Set("client_secret", t.o.clientSecret)
	}
	req, err := t.post(ctx, to, "application/x-www-form-urlencoded", form.Encode(), by)
	if err == nil && t.o.auth == "basic" {
		req.SetBasicAuth(url.QueryEscape(t.o.clientID), url.QueryEscape(t.o.clientSecret))
	}
	return req, err
}

func (t *target) post(ctx context.Context, to, kind, body string, by sender) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = t.o.header.Clone()
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", by.agent)
	if by.key != "" {
		req.Header.Set("Idempotency-Key", by.key)
	}
	return req, nil
}

// probe presents what is no token, and reports what cannot be a token endpoint: nothing
// that it says of a token would mean anything.
func (t *target) probe(ctx context.Context) error {
	var a answer
	for range 2 { // one may come to a server that has just started
		req, err := t.request(ctx, "refreshtorture", victim)
		if err != nil {
			return err
		}
		if a = t.send(req); !a.cut() {
			break
		}
	}
	none := a.status == http.StatusOK && a.token == "" && (a.code == "" || a.code == notJSON) // GitHub refuses with 200
	switch cause := context.Cause(ctx); {
	case cause != nil:
		return fmt.Errorf("not finished in time: %w", cause)
	case t.silent():
		return fmt.Errorf("%w: %s", errUnreachable, a)
	case none, a.status >= 300 && a.status < 400, a.status == http.StatusNotFound, a.status == http.StatusMethodNotAllowed:
		return fmt.Errorf("POST %s, with a refresh token that is none, was answered with %d: want the URL of a token endpoint, which refuses it with 400 or 401", t.o.url.Redacted(), a.status)
	}
	return nil
}

// refresh presents a token and reads the answer.
func (t *target) refresh(ctx context.Context, token string, by sender) answer {
	req, err := t.request(ctx, token, by)
	if err != nil {
		return answer{err: err}
	}
	a := t.send(req)
	if a.status == http.StatusOK && a.token == "" && a.code == "" {
		a.token = token // RFC 6749 section 6: no new one, so the old one stays
	}
	return a
}

// revoke ends the family of a token (RFC 7009, or authserver's logout).
func (t *target) revoke(ctx context.Context, token string, by sender) answer {
	var req *http.Request
	var err error
	if t.o.style == "v1" {
		var body []byte
		if body, err = json.Marshal(map[string]string{"refresh_token": token}); err == nil {
			req, err = t.post(ctx, t.revokeURL, "application/json", string(body), by)
		}
	} else {
		req, err = t.form(ctx, t.revokeURL, url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}, by)
	}
	if err != nil {
		return answer{err: err}
	}
	return t.send(req)
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 1 << 20

func (t *target) send(req *http.Request) answer {
	if t.sent.Add(1) > int64(t.o.maxRequests) {
		return answer{err: errTooMany}
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	t.answered.Add(1)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{err: err}
	}
	a := read(resp.StatusCode, body)
	if a.status == http.StatusServiceUnavailable {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date or nonsense is 0
		a.after = time.Duration(seconds) * time.Second
	}
	return a
}

// notJSON stands for the code of an error where the body is something else.
const notJSON = "not JSON"

// read takes out of a body what both styles have.
func read(status int, body []byte) answer {
	a := answer{status: status}
	var m struct {
		Token string `json:"refresh_token"`
		Error any    `json:"error"` // RFC 6749 section 5.2
		Code  string `json:"code"`  // authserver's problem+json
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return a
	}
	if err := json.Unmarshal(body, &m); err != nil {
		a.code = notJSON
		return a
	}
	a.token, a.code = m.Token, m.Code
	if text, ok := m.Error.(string); ok && a.code == "" {
		a.code = text
	}
	return a
}
