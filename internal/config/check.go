package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/password"
)

// Problem is a setting that this server will not start with.
type Problem struct {
	Setting  string // the flag's name
	Seen     string // never a secret
	Expected string
	Hint     string
}

// Error implements error.
func (p Problem) Error() string {
	s := fmt.Sprintf("%s is %s; want %s", EnvName(p.Setting), p.Seen, p.Expected)
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Check returns every problem, in the order of the settings.
func (c *Config) Check() []Problem {
	var list []Problem
	bad := func(setting, seen, expected, hint string) {
		list = append(list, Problem{setting, seen, expected, hint})
	}

	c.checkIssuer(bad)
	checkAddr("addr", c.Addr, bad)
	checkAddr("admin-addr", c.AdminAddr, bad)
	if _, port, err := net.SplitHostPort(c.Addr); err == nil && c.Addr == c.AdminAddr && port != "0" {
		bad("admin-addr", strconv.Quote(c.AdminAddr), "another address than that of the public listener", "who operates the server has a port of its own, seen from inside only")
	}
	for _, name := range c.AdminExpose {
		if name != "admin" && name != "pprof" {
			bad("admin-expose", strconv.Quote(name), "admin or pprof", "")
		}
	}
	if u := c.DatabaseURL.Reveal(); u != "" && !strings.HasPrefix(u, "sqlite:") && !strings.HasPrefix(u, "postgres://") && !strings.HasPrefix(u, "postgresql://") {
		scheme, _, _ := strings.Cut(u, ":")
		bad("database-url", fmt.Sprintf("a URL that begins with %.12q", scheme), "postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH", "")
	}
	if path, ok := c.SQLitePath(); ok && path == "" {
		bad("database-url", "sqlite: without a path", "sqlite:PATH", "")
	}
	if c.DatabaseConns != 0 && (c.DatabaseConns < 8 || c.DatabaseConns > 10_000) {
		bad("database-conns", strconv.Itoa(c.DatabaseConns), "0, or 8 to 10000", "batches of refreshes have connections of their own, which count")
	}
	if !c.MasterKey.IsEmpty() {
		if _, err := keys.ParseMasterKey(c.MasterKey.Reveal()); err != nil {
			bad("master-key", secretShape(c.MasterKey.Reveal()), "32 bytes as base64 or as 64 hexadecimal digits", "make one with: openssl rand -base64 32")
		}
	}
	for _, former := range c.MasterKeyFormer {
		if _, err := keys.ParseMasterKey(former.Reveal()); err != nil {
			bad("master-key-former", secretShape(former.Reveal()), "32 bytes as base64 or as 64 hexadecimal digits", "make one with: openssl rand -base64 32")
		}
	}
	for _, aud := range c.Audience {
		if strings.TrimSpace(aud) != aud || aud == "" {
			bad("audience", strconv.Quote(aud), "a name or URL without white space around it", "")
		}
		if aud == c.AdminAudience() {
			bad("audience", strconv.Quote(aud), "another one", "that audience is reserved for the admin API")
		}
	}
	for _, origin := range c.AllowedOrigins {
		if hint, ok := checkOrigin(origin); !ok {
			bad("allowed-origins", strconv.Quote(origin), "SCHEME://HOST[:PORT] and nothing after it", hint)
		}
	}

	positive := func(setting string, d time.Duration) {
		if d <= 0 {
			bad(setting, d.String(), "more than 0", "")
		}
	}
	positive("access-ttl", c.AccessTTL)
	positive("refresh-idle-ttl", c.RefreshIdleTTL)
	positive("session-ttl", c.SessionTTL)
	positive("remember-ttl", c.RememberTTL)
	positive("audit-retention", c.AuditRetention)
	if c.AccessTTL > 0 && c.AccessTTL < time.Second {
		bad("access-ttl", c.AccessTTL.String(), "1s at least", "tokens count in whole seconds")
	}
	if c.RetryWindow < 0 || c.RetryWindow > time.Hour {
		bad("retry-window", c.RetryWindow.String(), "0s to 1h", "a longer window helps a thief more than a client")
	}
	if c.DrainDelay < 0 || c.DrainDelay > 5*time.Minute {
		bad("drain-delay", c.DrainDelay.String(), "0s to 5m", "")
	}
	for _, name := range c.KeyAlgorithms {
		if _, err := keys.ParseAlgorithm(name); err != nil {
			bad("key-algorithms", strconv.Quote(name), "ES256, RS256, PS256, ES384, EdDSA, ML-DSA-44 or ML-DSA-65", "")
		}
	}
	if len(c.KeyAlgorithms) == 0 {
		bad("key-algorithms", "empty", "one algorithm at least", "")
	}
	for i, name := range c.KeyAlgorithms {
		if slices.ContainsFunc(c.KeyAlgorithms[:i], func(other string) bool { return strings.EqualFold(other, name) }) {
			bad("key-algorithms", strings.Join(c.KeyAlgorithms, ","), "each algorithm once", name+" is named twice")
		}
	}
	if c.KeyRotateEvery < c.KeyLead {
		bad("key-rotate-every", c.KeyRotateEvery.String(), fmt.Sprintf("at least %s, which is %s", EnvName("key-lead"), c.KeyLead), "a successor is published that long before it signs")
	}
	positive("jwks-max-age", c.JWKSMaxAge)
	positive("key-rotate-every", c.KeyRotateEvery)
	if c.JWKSMaxAge%time.Second != 0 {
		bad("jwks-max-age", c.JWKSMaxAge.String(), "whole seconds", "Cache-Control counts in seconds")
	}
	if c.KeyLead < 2*c.JWKSMaxAge {
		bad("key-lead", c.KeyLead.String(), fmt.Sprintf("at least twice %s, which is %s", EnvName("jwks-max-age"), 2*c.JWKSMaxAge), "a verifier must hold a key before it signs")
	}
	if m := c.PasswordMemory; m < password.DefaultMemory || m > password.MaxMemory {
		bad("password-memory", strconv.Itoa(m), fmt.Sprintf("%d to %d (KiB)", password.DefaultMemory, password.MaxMemory), "the least is the floor for argon2id")
	} else if t, most := c.PasswordTime, password.MaxWork/m; t < password.DefaultTime || t > most {
		bad("password-time", strconv.Itoa(t), fmt.Sprintf("%d to %d with %d KiB", password.DefaultTime, most, m), "the least is the floor for argon2id")
	}
	if n := c.PasswordHashers; n < 0 || n > password.MaxSlots {
		bad("password-hashers", strconv.Itoa(n), fmt.Sprintf("0 to %d", password.MaxSlots), "")
	}
	return list
}

func (c *Config) checkIssuer(bad func(setting, seen, expected, hint string)) {
	seen := strconv.Quote(c.Issuer)
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		bad("issuer", seen, "a URL like https://auth.example.com", "")
	case u.Scheme != "https" && u.Scheme != "http":
		bad("issuer", seen, "a URL that begins with https://", "")
	case strings.HasSuffix(c.Issuer, "/"):
		bad("issuer", seen, strconv.Quote(strings.TrimRight(c.Issuer, "/")), "no trailing slash: verifiers compare it letter by letter")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		bad("issuer", seen, "a URL without user, query and fragment", "RFC 8414 section 2")
	case strings.ContainsAny(c.Issuer, "?#") || !strings.HasPrefix(c.Issuer, u.Scheme+"://"):
		bad("issuer", seen, "a URL that begins with https:// and has no query and no fragment", "verifiers compare it letter by letter")
	case u.Host != strings.ToLower(u.Host):
		bad("issuer", seen, strconv.Quote(strings.Replace(c.Issuer, u.Host, strings.ToLower(u.Host), 1)), "host names in lower case: verifiers compare it letter by letter")
	case u.Scheme == "http" && !IsLoopback(u.Hostname()):
		bad("issuer", seen, "https://"+u.Host, "http is for loopback hosts only; put a proxy with TLS before the server and name its public URL")
	}
}

// IsLoopback reports whether host is localhost, below it, or a loopback address.
func IsLoopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func checkAddr(setting, addr string, bad func(setting, seen, expected, hint string)) {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); err == nil && n <= 65535 {
			return
		}
	}
	hint := ""
	if strings.Contains(addr, "://") {
		hint = "an address, not a URL"
	}
	bad(setting, strconv.Quote(addr), "HOST:PORT or :PORT", hint)
}

func checkOrigin(origin string) (hint string, ok bool) {
	u, err := url.Parse(origin)
	switch {
	case origin == "*":
		return "a wildcard with credentials would let every site act for its visitors", false
	case err != nil || u.Scheme == "" || u.Host == "":
		return "", false
	case strings.HasSuffix(origin, "/"):
		return "without the slash at the end: " + strings.TrimRight(origin, "/"), false
	case u.Path != "" || strings.ContainsAny(origin, "?#@"):
		return "browsers send no path in an origin", false
	case !strings.HasPrefix(origin, u.Scheme+"://"):
		return "in lower case, as browsers send it", false
	case u.Host != strings.ToLower(u.Host):
		return "in lower case, as browsers send it", false
	case strings.Contains(u.Host, "*"):
		return "exact origins only, no wildcards", false
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return "without the default port, as browsers send it", false
	default:
		return "", true
	}
}

// secretShape describes a secret without telling it.
func secretShape(s string) string {
	spelling := "hex"
	raw, err := hex.DecodeString(s)
	if err != nil {
		spelling = "base64"
		raw, err = base64.StdEncoding.DecodeString(s)
	}
	switch {
	case err == nil && len(raw) == 32: // else it would have passed
		return "32 bytes that are no secret: all of them the same"
	case err == nil:
		return fmt.Sprintf("%s of %d bytes", spelling, len(raw))
	}
	return fmt.Sprintf("%d characters that are neither base64 nor hex", len(s))
}
