package config

import (
	"net/url"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/token"
)

// FirstParty is the reserved client that /v1 sessions belong to.
const FirstParty = "first-party"

// firstPartyScope is what a first-party token may do: everything that its
// user may do with the own account.
const firstPartyScope = "account"

// maxAccessToken is the hard cap of an access token in bytes, a little below
// the 8 KiB that proxies keep for headers. A signature of ML-DSA-65 alone takes
// 4,412 of them.
const maxAccessToken = 7680

// Keys returns the policy of package keys.
func (c *Config) Keys() keys.Policy {
	p := keys.Policy{
		RotateEvery: c.KeyRotateEvery, Lead: c.KeyLead, MaxAge: c.JWKSMaxAge,
		TokenLife: c.AccessTTL, RSABits: c.KeyRSABits,
	}
	for _, name := range c.KeyAlgorithms {
		a, _ := keys.ParseAlgorithm(name) // Check has refused the others
		p.Algorithms = append(p.Algorithms, a)
	}
	return p
}

// Tokens returns the policy of package token.
func (c *Config) Tokens() token.Policy {
	return token.Policy{Issuer: c.Issuer, TTL: c.AccessTTL, MaxBytes: maxAccessToken, StatusLists: c.StatusLists()}
}

// StatusLists reports whether status lists are published.
func (c *Config) StatusLists() bool { return c.StatusList == "on" }

// Revocations returns the policy of package revocation.
func (c *Config) Revocations() revocation.Policy {
	p := revocation.DefaultPolicy(c.Issuer)
	p.StatusLists = c.StatusLists()
	return p
}

// Refresh returns the policy of a client's families. First-party clients can
// send a retry key, so they get no late_retry.
func (c *Config) Refresh(string) refresh.Policy {
	p := refresh.Policy{IdleTTL: c.RefreshIdleTTL, RetryWindow: c.RetryWindow, LateRetry: refresh.RefuseLate}
	if c.LockStep == "report" {
		p.LockStep = refresh.ReportLockStep
	}
	return p
}

// Login returns the policy of package login.
func (c *Config) Login() login.Policy {
	return login.Policy{
		Client: FirstParty, Scope: firstPartyScope, Audience: c.Audiences(), AdminAudience: c.AdminAudience(),
		IdleTTL: c.RefreshIdleTTL, SessionTTL: c.SessionTTL, RememberTTL: c.RememberTTL,
	}
}

// Accounts returns the policy of package account.
func (c *Config) Accounts() account.Policy {
	return account.Policy{RegistrationOpen: c.Registration == "open"}
}

// Passwords returns the policy of package password.
func (c *Config) Passwords() password.Policy {
	return password.Policy{Memory: c.PasswordMemory, Time: c.PasswordTime, Slots: c.PasswordHashers}
}

// PasswordWords are the words that no password may consist of: the names this
// server goes by.
func (c *Config) PasswordWords() []string {
	words := []string{"authserver"}
	if u, err := url.Parse(c.Issuer); err == nil && u.Hostname() != "" {
		words = append(words, u.Hostname())
	}
	return words
}

// LongestSession is the longest absolute life of a session.
func (c *Config) LongestSession() time.Duration { return max(c.SessionTTL, c.RememberTTL) }
