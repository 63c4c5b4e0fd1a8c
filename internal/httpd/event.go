package httpd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
)

// observe makes the scope of a request, sets the headers that every answer has,
// and writes the one event when all is done. It is the outermost middleware
// that sees the answer, so it also is where a panic ends.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope := &wire.Scope{
			Site: s.site, Begun: time.Now(), UserAgent: wire.CleanUserAgent(r.UserAgent()),
			Answer: wire.Answer{ResponseWriter: w},
		}
		s.place(scope, r)
		s.harden(w.Header(), scope.RequestID)
		r = r.WithContext(wire.With(r.Context(), scope))
		defer func() { s.finish(scope, r, recover()) }()
		next.ServeHTTP(&scope.Answer, r)
	})
}

// finish tells of a request. panicked is what recover returned.
func (s *Server) finish(scope *wire.Scope, r *http.Request, panicked any) {
	abort := false
	thrown, _ := panicked.(error)
	switch {
	case panicked == nil:
	case errors.Is(thrown, http.ErrAbortHandler):
		scope.Err, abort = errors.New("the handler aborted the answer"), true
	default:
		err := fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		abort = scope.Answer.Status != 0 // half an answer must not look like a whole one
		scope.Fail(&scope.Answer, fault.Of(err))
	}
	if scope.Answer.Status == 0 && !abort {
		scope.Answer.Status = http.StatusOK
	}
	took := time.Since(scope.Begun)
	route := r.Pattern
	if route == "" {
		route = "unmatched"
	}
	s.rooms.Observer.Served(route, methodLabel(r.Method), scope.Answer.Status, took)
	if level := levelOf(route, scope.Answer.Status, abort); s.rooms.Log.Enabled(r.Context(), level) {
		s.rooms.Log.LogAttrs(r.Context(), level, "request", attributes(scope, r, route, took)...)
	}
	if abort {
		panic(http.ErrAbortHandler)
	}
}

// methodLabel bounds the label: a method is whatever a client sends.
func methodLabel(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

func levelOf(route string, status int, aborted bool) slog.Level {
	switch {
	case status == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case status >= 500 || aborted:
		return slog.LevelError
	case status < 400 && (forVerifiers(route) || route == "/livez" || route == "/readyz" || route == "/metrics"):
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

func attributes(s *wire.Scope, r *http.Request, route string, took time.Duration) []slog.Attr {
	list := make([]slog.Attr, 0, 20)
	add := func(key, value string) {
		if value != "" {
			list = append(list, slog.String(key, value))
		}
	}
	add("event", "http_request")
	add("outcome", outcomeOf(s))
	add("code", s.Code)
	add("reason", s.Reason)
	add("request_id", s.RequestID)
	add("client_id", s.ClientID)
	add("subject", s.Subject)
	add("session_id", s.Session)
	add("family_id", s.Family)
	add("route", route)
	add("method", methodLabel(r.Method))
	list = append(list,
		slog.Int("status", s.Answer.Status),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.Int64("bytes", s.Answer.Bytes),
	)
	add("remote_ip", s.IP())
	if s.UserAgent != "" {
		sum := sha256.Sum256([]byte(s.UserAgent))
		add("user_agent_hash", hex.EncodeToString(sum[:8]))
	}
	add("error", causeOf(s))
	return list
}

func outcomeOf(s *wire.Scope) string {
	switch status := s.Answer.Status; {
	case s.Outcome != "" && (status < 400 || s.Reason != ""):
		return s.Outcome
	case status < 400:
		return "ok"
	case status < 500:
		return "refused"
	default:
		return "trouble"
	}
}

// causeOf is what the log tells besides the code. Of a refusal that is the
// cause alone: its detail may repeat what somebody typed into the wrong field.
func causeOf(s *wire.Scope) string {
	err := s.Err
	if err == nil {
		return ""
	}
	if s.Answer.Status < 500 {
		if err = errors.Unwrap(fault.Of(err)); err == nil {
			return ""
		}
	}
	return err.Error()
}

// place fills in where a request comes from and under which id it is known.
func (s *Server) place(scope *wire.Scope, r *http.Request) {
	peer := peerOf(r)
	trusted := s.trusts(peer)
	scope.Client = s.clientOf(r, peer, trusted)
	if given := r.Header.Get("X-Request-Id"); trusted && saneID(given) {
		scope.RequestID = given
		return
	}
	scope.RequestID = id.NewRequest()
}

// saneID accepts what a proxy calls a request: 8 to 64 of A-Z a-z 0-9 . _ -
func saneID(s string) bool {
	if len(s) < 8 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
