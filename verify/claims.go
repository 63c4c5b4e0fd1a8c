package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Claims is what a verified access token says (RFC 9068 section 2.2). Treat it
// as read-only: it may be shared.
type Claims struct {
	Issuer    string    // iss
	Subject   string    // sub: the user, or the client where there is no user; never empty
	Audience  []string  // aud: includes this service
	ExpiresAt time.Time // exp
	IssuedAt  time.Time // iat
	NotBefore time.Time // nbf; zero when absent
	ID        string    // jti; never empty
	ClientID  string    // client_id; never empty
	Scope     string    // scope, separated by spaces; see Scopes, HasScope
	SessionID string    // sid; empty when absent
	AuthTime  time.Time // auth_time: when the user last proved who they are; zero when absent
	AMR       []string  // amr: how they did (RFC 8176)
	ACR       string    // acr; empty when absent
	Roles     []string  // roles (RFC 9068 section 2.2.3.1); see HasRole

	KeyID string // kid of the key that signed the token

	payload []byte
}

// Scopes returns the granted scopes.
func (c *Claims) Scopes() []string { return strings.Fields(c.Scope) }

// HasScope reports whether scope was granted.
func (c *Claims) HasScope(scope string) bool {
	if scope == "" {
		return false
	}
	for granted := range strings.SplitSeq(c.Scope, " ") {
		if granted == scope {
			return true
		}
	}
	return false
}

// HasRole reports whether the subject has role.
func (c *Claims) HasRole(role string) bool { return role != "" && slices.Contains(c.Roles, role) }

// Extra returns the JSON of any claim by its name, nil when there is none.
func (c *Claims) Extra(name string) json.RawMessage {
	var found json.RawMessage
	if len(c.payload) == 0 {
		return nil
	}
	// The payload has been walked before; it has no errors left.
	_ = members(c.payload, func(n, value []byte) error {
		if string(n) == name {
			found = bytes.Clone(value)
		}
		return nil
	})
	return found
}

func parseClaims(payload []byte) (*Claims, error) {
	c := &Claims{payload: payload}
	var unacceptable error // of one claim; the walk goes on, for malformed is worse
	err := members(payload, func(name, value []byte) error {
		if err := c.set(name, value); err != nil && unacceptable == nil {
			unacceptable = fmt.Errorf("%w: %s: %w", ErrClaims, name, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	if unacceptable != nil {
		return nil, unacceptable
	}
	return c, nil
}

// set reads one claim. A claim of the wrong type is an error, null included:
// it is not as if it were absent.
func (c *Claims) set(name, value []byte) (err error) {
	switch string(name) {
	case "iss":
		c.Issuer, err = text(value)
	case "sub":
		c.Subject, err = text(value)
	case "aud":
		c.Audience, err = audience(value)
	case "exp":
		c.ExpiresAt, err = instant(value)
	case "iat":
		c.IssuedAt, err = instant(value)
	case "nbf":
		c.NotBefore, err = instant(value)
	case "jti":
		c.ID, err = text(value)
	case "client_id":
		c.ClientID, err = text(value)
	case "scope":
		c.Scope, err = text(value)
	case "sid":
		c.SessionID, err = text(value)
	case "auth_time":
		c.AuthTime, err = instant(value)
	case "amr":
		c.AMR, err = texts(value)
	case "acr":
		c.ACR, err = text(value)
	case "roles":
		c.Roles, err = texts(value)
	case "cnf":
		// Bound to a key of the client (RFC 9449, RFC 8705). Taken as a plain
		// bearer token it would serve the thief that the binding is against.
		err = errors.New("the token is bound to a key, and that proof cannot be checked here")
	}
	return err
}

// audience reads `aud`, which may be one string (RFC 7519 section 4.1.3).
func audience(value []byte) ([]string, error) {
	if value[0] == '"' {
		one, err := text(value)
		return []string{one}, err
	}
	return texts(value)
}

const lastSecond = 253402300799 // of the year 9999

// instant reads a NumericDate: seconds since 1970, maybe with a fraction. The
// epoch itself comes back as an instant, not as the zero time.
func instant(value []byte) (time.Time, error) {
	s := string(value)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && 0 <= n && n <= lastSecond {
		return time.Unix(n, 0).UTC(), nil
	}
	if c := s[0]; c != '-' && (c < '0' || c > '9') {
		return time.Time{}, errors.New("expected a number of seconds")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > lastSecond {
		return time.Time{}, fmt.Errorf("%s is no instant, expected seconds since 1970", brief(s))
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC(), nil
}
