// Package refresh owns the refresh token: its bytes, the family of tokens that
// one client holds within one session, the verdict on every token presented,
// and the queue that commits many rotations at once.
//
// It does not own sessions (package session), the access token that
// accompanies a refresh token (package token), nor the root keys its tokens
// are authenticated with (package keys). It speaks no SQL and no HTTP.
//
// The rule stands in one place, [Judge]; everything else carries its verdicts
// out. Outcomes are values. An error means that nothing was committed or that
// nobody knows: the caller answers 503 and the client tries again with the
// same token.
package refresh
