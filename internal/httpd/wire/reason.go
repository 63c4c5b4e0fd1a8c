package wire

import (
	"slices"

	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
)

// The reasons that an event may name are a closed list: explain and alerts are
// built on it. Those of a refresh token are package refresh's.
var refreshReasons = []refresh.Reason{
	refresh.ReasonNoFamily, refresh.ReasonWrongSecret, refresh.ReasonWrongClient, refresh.ReasonWrongTransport,
	refresh.ReasonWrongRootKey, refresh.ReasonForged, refresh.ReasonUnproven, refresh.ReasonDisabled,
	refresh.ReasonFloor, refresh.ReasonEnded, refresh.ReasonIdle, refresh.ReasonAbsolute, refresh.ReasonHead,
	refresh.ReasonAhead, refresh.ReasonByKey, refresh.ReasonBySecret, refresh.ReasonByRetryKey,
	refresh.ReasonWindow, refresh.ReasonLate, refresh.ReasonLockStep, refresh.ReasonTooOld, refresh.ReasonTooLate,
}

var otherReasons = []string{
	// Logins and passwords.
	"unknown_user", "wrong_password", "user_disabled", "changed_meanwhile", "role_missing", "throttled",
	"registration_throttled", "registration_queue", "hash_queue_full", "hash_wait_ended", "login_queue_full", "login_wait_ended",
	password.TooShort, password.TooLong, password.Common, password.IsEmail, password.IsContext,
	// Access tokens.
	NoCredentials, "malformed_authorization", "expired", "malformed", "algorithm", "type", "unknown_key",
	"signature", "issuer", "audience", "claims", "not_yet_valid", "scope",
	// Requests.
	"no_token", "cross_site", "edge", "family_pace", "host", "not_an_id", "unknown_session", "not_ready",
	"feed_streams_full", "endings_queue_full", "body_late",
}

// KnownReason reports whether reason is on the list.
func KnownReason(reason string) bool {
	return slices.Contains(refreshReasons, refresh.Reason(reason)) || slices.Contains(otherReasons, reason)
}
