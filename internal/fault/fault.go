// Package fault owns the closed list of errors that a user may see: each has
// a stable code, and what is said about it is said here once. It does not own
// HTTP statuses or bodies; the doors map codes to those in one table.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable name of one kind of refusal or trouble.
type Code string

// The closed list. A code is part of the contract and never changes meaning.
const (
	InvalidRequest       Code = "invalid_request"
	Unauthorized         Code = "unauthorized"
	CrossOrigin          Code = "cross_origin"
	Forbidden            Code = "forbidden"
	NotFound             Code = "not_found"
	MethodNotAllowed     Code = "method_not_allowed"
	BodyTooLarge         Code = "body_too_large"
	UnsupportedMediaType Code = "unsupported_media_type"
	TooManyRequests      Code = "too_many_requests"
	Unavailable          Code = "temporarily_unavailable"
	Internal             Code = "internal_error"

	InvalidCredentials Code = "invalid_credentials"
	TooManyAttempts    Code = "too_many_attempts"
	EmailTaken         Code = "email_taken"
	PasswordTooWeak    Code = "password_too_weak"
	WrongPassword      Code = "wrong_password"
	RegistrationClosed Code = "registration_closed"

	TokenInvalid Code = "token_invalid"
	TokenExpired Code = "token_expired"
	SessionEnded Code = "session_ended"

	RefreshReused  Code = "refresh_reused"
	RefreshRevoked Code = "refresh_revoked"
	RefreshExpired Code = "refresh_expired"
	RefreshInvalid Code = "refresh_invalid"

	SessionNotFound Code = "session_not_found"
	UserNotFound    Code = "user_not_found"
	KeyNotFound     Code = "key_not_found"
	Conflict        Code = "conflict"
)

// Codes lists every code, for the tests that walk the error table.
func Codes() []Code {
	return []Code{
		InvalidRequest, Unauthorized, CrossOrigin, Forbidden, NotFound, MethodNotAllowed, BodyTooLarge,
		UnsupportedMediaType, TooManyRequests, Unavailable, Internal,
		InvalidCredentials, TooManyAttempts, EmailTaken, PasswordTooWeak, WrongPassword, RegistrationClosed,
		TokenInvalid, TokenExpired, SessionEnded,
		RefreshReused, RefreshRevoked, RefreshExpired, RefreshInvalid,
		SessionNotFound, UserNotFound, KeyNotFound, Conflict,
	}
}

// Fault is an error with a code. Detail may be shown to whoever asked; the
// cause may not: it goes to the log.
type Fault struct {
	Code   Code
	Detail string
	// Reason names, for the log alone, which of several causes it was.
	Reason string
	// RetryAfter is how long the caller should wait; 0 where waiting is no cure.
	RetryAfter time.Duration
	cause      error
}

// New returns a fault with a detail for the user.
func New(code Code, format string, args ...any) *Fault {
	return &Fault{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Trouble wraps an error of the store or another dependency: nothing was
// committed, or nobody knows. The user is asked to try again with the same
// credentials; nothing of cause reaches the answer.
func Trouble(cause error) *Fault {
	return &Fault{Code: Unavailable, Detail: "The service cannot answer just now. Try again with the same credentials.", RetryAfter: time.Second, cause: cause}
}

// Because names the cause for the log and returns f.
func (f *Fault) Because(cause error) *Fault {
	f.cause = cause
	return f
}

// WithReason sets the reason for the log and returns f.
func (f *Fault) WithReason(reason string) *Fault {
	f.Reason = reason
	return f
}

// After sets how long the caller should wait and returns f.
func (f *Fault) After(d time.Duration) *Fault {
	f.RetryAfter = d
	return f
}

// Error implements error. It is for logs: it includes the cause.
func (f *Fault) Error() string {
	s := string(f.Code)
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	if f.cause != nil {
		s += ": " + f.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.cause }

// Of returns the fault in err's chain. An error without one is a defect of
// ours and becomes Internal: it must not look like a refusal.
func Of(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{Code: Internal, Detail: "Something went wrong on our side.", cause: err}
}

// Is reports whether err carries the given code.
func Is(err error, code Code) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == code
}
