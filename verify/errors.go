package verify

import (
	"errors"
	"strconv"
	"strings"
)

// The errors of this package, for errors.Is. Their text says what was seen and
// what was expected; it is for logs, not for callers.
var (
	// ErrNoToken: the request carries no bearer token. Only from Bearer.
	ErrNoToken = errors.New("no bearer token")
	// ErrRequest: the request carries its token in no proper way, such as two
	// Authorization headers. Only from Bearer.
	ErrRequest = errors.New("malformed authorization")

	// ErrMalformed: this is no JWT, or one that two parsers could read differently.
	ErrMalformed = errors.New("malformed token")
	// ErrAlgorithm: the algorithm is not allowed, or not the one of the key.
	ErrAlgorithm = errors.New("algorithm not allowed")
	// ErrType: a JWT, but of another kind.
	ErrType = errors.New("wrong type of token")
	// ErrUnknownKey: no key of that name is in the issuer's key set.
	ErrUnknownKey = errors.New("unknown key")
	// ErrSignature: the signature is not by that key.
	ErrSignature = errors.New("bad signature")
	// ErrIssuer: properly signed, but `iss` is another one.
	ErrIssuer = errors.New("wrong issuer")
	// ErrAudience: meant for another service.
	ErrAudience = errors.New("wrong audience")
	// ErrClaims: a claim is missing, of the wrong type, or asks for what this
	// package cannot check.
	ErrClaims = errors.New("unacceptable claims")
	// ErrNotYetValid: issued in the future; one of the two clocks is wrong.
	ErrNotYetValid = errors.New("token not yet valid")
	// ErrRevoked: the token was good, but its session, grant, user, client or
	// key ended before it expired. Only where a feed is followed.
	ErrRevoked = errors.New("token revoked")
	// ErrExpired: all is well with the token but its age.
	ErrExpired = errors.New("token expired")

	// ErrKeysUnavailable: no key set has been fetched yet, or the last one is
	// too old. It says nothing about the token: answer 503, not 401.
	ErrKeysUnavailable = errors.New("keys unavailable")
	// ErrFeedLost: the revocation feed is lost, and FeedConfig.WhenLost is
	// Refuse. It says nothing about the token: answer 503, not 401.
	ErrFeedLost = errors.New("revocation feed lost")
)

// brief quotes s, which may come from anybody, for an error message.
func brief(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// quotable leaves out of s what must not stand in a quoted parameter of a
// challenge (RFC 6750 section 3: %x20-21 / %x23-5B / %x5D-7E).
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
