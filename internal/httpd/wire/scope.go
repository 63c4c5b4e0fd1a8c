package wire

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/authserver/internal/limit"
)

// Site is what all requests of one listener share.
type Site struct {
	// Issuer is the public URL of this server.
	Issuer string
	// Log takes what went wrong; the one event per request is httpd's.
	Log *slog.Logger
	// RetrySpread is over how much time callers that met trouble are spread
	// beyond the first second.
	RetrySpread time.Duration
}

// retrySeconds is what a caller that met trouble is told to wait: 1 s and up to
// RetrySpread more, in whole seconds, so that not all of them come back at once.
func (s *Site) retrySeconds() int {
	spread := int(s.RetrySpread / time.Second)
	return 1 + rand.IntN(max(0, spread)+1)
}

// Scope is everything known of one request. It belongs to the goroutine that
// serves the request; httpd makes it and writes its event when all is done.
type Scope struct {
	Site      *Site
	RequestID string
	Begun     time.Time
	Client    netip.Addr // by trusted proxies only; the peer otherwise
	UserAgent string     // fit for storing, see CleanUserAgent

	// What the event tells besides. Doors fill in what they learn; nothing
	// here may be a token or a password.
	Outcome  string // a verdict or another word of a closed list; empty: by status
	Code     string // of the problem that was answered
	Reason   string // which of several causes it was, from a closed list
	ClientID string
	Subject  string
	Session  string
	Family   string
	Err      error // for the log alone

	Answer Answer
}

// IP returns the client's address as text, "" when it is not known.
func (s *Scope) IP() string {
	if !s.Client.IsValid() {
		return ""
	}
	return s.Client.String()
}

// Network returns the key under which the client's network is counted.
func (s *Scope) Network() string { return limit.Network(s.Client) }

// Answer is the http.ResponseWriter of a request; it notes what was answered.
type Answer struct {
	http.ResponseWriter
	Status int // 0 until the header is written
	Bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (a *Answer) WriteHeader(status int) {
	if a.Status == 0 && status >= 200 { // 1xx are not the answer yet
		a.Status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *Answer) Write(b []byte) (int, error) {
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.Bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *Answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

type scopeKey struct{}

// With returns a context that carries s.
func With(ctx context.Context, s *Scope) context.Context {
	return context.WithValue(ctx, scopeKey{}, s)
}

// Of returns the scope of a request. It panics where httpd made none: every
// handler stands behind the middleware that does.
func Of(r *http.Request) *Scope { return r.Context().Value(scopeKey{}).(*Scope) }

// Handler answers one request, or returns the error to answer with. An error
// that is no fault becomes internal_error.
type Handler func(s *Scope, w http.ResponseWriter, r *http.Request) error

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := Of(r)
	if err := h(s, w, r); err != nil {
		s.Fail(w, err)
	}
}

// maxUserAgent is how much of a user agent is kept, in bytes.
const maxUserAgent = 256

// CleanUserAgent returns a user agent as it may be stored and shown: valid
// UTF-8 without control characters, at most 256 bytes, cut between characters.
func CleanUserAgent(given string) string {
	if len(given) <= maxUserAgent && plain(given) {
		return given // nearly always
	}
	given = strings.ToValidUTF8(given, "\uFFFD")
	given = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, given)
	if len(given) > maxUserAgent {
		cut := maxUserAgent
		for !utf8.RuneStart(given[cut]) {
			cut--
		}
		given = given[:cut]
	}
	return given
}

// plain reports whether s is printable ASCII.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
