package wire

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"example.com/authserver/internal/fault"
)

// row is how one code is answered.
type row struct {
	status int
	title  string
}

// table is the only place where codes become answers. The tests hold it
// together with fault.Codes and with the description of the API.
var table = map[fault.Code]row{
	fault.InvalidRequest:       {http.StatusBadRequest, "The request is malformed"},
	fault.Unauthorized:         {http.StatusUnauthorized, "Authentication is needed"},
	fault.CrossOrigin:          {http.StatusForbidden, "This origin may not call this server"},
	fault.Forbidden:            {http.StatusForbidden, "This is not allowed"},
	fault.NotFound:             {http.StatusNotFound, "There is nothing here"},
	fault.MethodNotAllowed:     {http.StatusMethodNotAllowed, "This method is not possible here"},
	fault.BodyTooLarge:         {http.StatusRequestEntityTooLarge, "The body is too large"},
	fault.UnsupportedMediaType: {http.StatusUnsupportedMediaType, "The body is not JSON"},
	fault.TooManyRequests:      {http.StatusTooManyRequests, "Too many requests"},
	fault.Unavailable:          {http.StatusServiceUnavailable, "The service cannot answer just now"},
	fault.Internal:             {http.StatusInternalServerError, "Something went wrong on our side"},

	fault.InvalidCredentials: {http.StatusUnauthorized, "The e-mail address or the password is wrong"},
	fault.TooManyAttempts:    {http.StatusTooManyRequests, "Too many failed attempts"},
	fault.EmailTaken:         {http.StatusConflict, "This e-mail address has an account"},
	fault.PasswordTooWeak:    {http.StatusUnprocessableEntity, "The password is too weak"},
	fault.WrongPassword:      {http.StatusUnprocessableEntity, "The current password is wrong"},
	fault.RegistrationClosed: {http.StatusForbidden, "Registration is closed"},

	fault.TokenInvalid: {http.StatusUnauthorized, "The access token is not valid"},
	fault.TokenExpired: {http.StatusUnauthorized, "The access token has expired"},
	fault.SessionEnded: {http.StatusUnauthorized, "The session has ended"},

	fault.RefreshReused:  {http.StatusUnauthorized, "The refresh token was used before"},
	fault.RefreshRevoked: {http.StatusUnauthorized, "The session has ended"},
	fault.RefreshExpired: {http.StatusUnauthorized, "The session has expired"},
	fault.RefreshInvalid: {http.StatusUnauthorized, "The refresh token is not valid"},

	fault.SessionNotFound: {http.StatusNotFound, "There is no such session"},
	fault.UserNotFound:    {http.StatusNotFound, "There is no such user"},
	fault.KeyNotFound:     {http.StatusNotFound, "There is no such key"},
	fault.Conflict:        {http.StatusConflict, "This conflicts with what is there"},
}

// StatusOf returns the HTTP status of a code.
func StatusOf(c fault.Code) int { return rowOf(c).status }

// TitleOf returns the title of a code.
func TitleOf(c fault.Code) string { return rowOf(c).title }

func rowOf(c fault.Code) row {
	if r, ok := table[c]; ok {
		return r
	}
	return table[fault.Internal]
}

// NoCredentials is the fault reason of a bearer endpoint that was asked without
// a token: the challenge then carries no error (RFC 6750 section 3.1).
const NoCredentials = "no_credentials"

// problem is an RFC 9457 document.
type problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty"`
	Code       string `json:"code"`
	RequestID  string `json:"request_id"`
	RetryAfter int    `json:"retry_after,omitempty"` // whole seconds
	Reason     string `json:"reason,omitempty"`      // of a weak password, which is the asker's own
}

// Fail answers with the problem that err is, and notes it for the event. Of an
// error without a fault nothing is shown: it goes to the log.
func (s *Scope) Fail(w http.ResponseWriter, err error) {
	f := fault.Of(err)
	if _, known := table[f.Code]; !known {
		f = fault.Of(errUnknownCode(f.Code))
	}
	s.Code, s.Err = string(f.Code), err
	if f.Reason != "" {
		s.Reason = f.Reason
	}
	if s.Answer.Status != 0 {
		return // too late to say anything else
	}
	p := problem{
		Type:   s.Site.Issuer + "/openapi.yaml#/components/examples/" + string(f.Code),
		Title:  TitleOf(f.Code),
		Status: StatusOf(f.Code),
		Detail: f.Detail, Code: string(f.Code), RequestID: s.RequestID,
		RetryAfter: s.retryAfter(f),
	}
	if f.Code == fault.PasswordTooWeak {
		p.Reason = f.Reason
	}
	h := w.Header()
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(f))
	}
	if f.Code == fault.BodyTooLarge {
		h.Set("Connection", "close") // the rest of the body is not waited for
	}
	h["Content-Type"] = problemType
	h["Cache-Control"] = noStore
	body, err := json.Marshal(p)
	if err != nil { // cannot happen: strings and numbers only
		body = []byte(`{"code":"internal_error","status":500}`)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body) + 1)}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is no news
}

var (
	problemType = []string{"application/problem+json"}
	noStore     = []string{"no-store"}
)

type errUnknownCode fault.Code

func (e errUnknownCode) Error() string { return "no row in the error table for code " + string(e) }

// retryAfter rounds up: who comes back as told must not be too early.
func (s *Scope) retryAfter(f *fault.Fault) int {
	told := int((f.RetryAfter + time.Second - 1) / time.Second)
	switch StatusOf(f.Code) {
	case http.StatusServiceUnavailable:
		return max(told, s.Site.retrySeconds())
	case http.StatusTooManyRequests:
		return max(told, 1)
	}
	return told
}

// challenge is the WWW-Authenticate header that every 401 carries (RFC 9110
// section 15.5.2); some HTTP clients fail without one. Only a refused access
// token gets an error code (RFC 6750 section 3.1).
func challenge(f *fault.Fault) string {
	const bare = `Bearer realm="authserver"`
	switch f.Code {
	case fault.TokenInvalid, fault.TokenExpired, fault.SessionEnded:
		if f.Reason != NoCredentials {
			return bare + `, error="invalid_token", error_description="` + TitleOf(f.Code) + `"`
		}
	}
	return bare
}
