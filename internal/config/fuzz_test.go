package config_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"example.com/authserver/internal/config"
)

// A configuration file says what it says, or is refused: no text of one ends
// the program, and what passes the checks can be served with.
func FuzzSources(f *testing.F) {
	for _, seed := range []string{
		"issuer: https://auth.example.com\n", "access-ttl: 90s\nsession-ttl: 2160h\n", "access-ttl: soon\n", "key-algorithms: [ES256, EdDSA]\n", "audience: a,b\n",
		"registration: on\n", "unknown: 1\n", "- a\n", "a: &a [*a]\n", "issuer: {a: b}\n", "---\n---\n", "issuer: !!binary aGVsbG8=\n", "trusted-proxies: 10.0.0.0/8\n", "access-ttl: -1ns\n",
		"retry-window: 1h1m1s1ms\n", "key-rotate-every: 9223372036854775807ns\n", "access-ttl: 1e9h\n", "jwks-max-age: 1.5s\n", "issuer: ~\n", "1: 2\n",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "settings.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sources, err := config.ReadSources(path, nil, config.Flags())
		if err != nil {
			return
		}
		var c struct{ config.Config }
		parser, err := kong.New(&c, kong.Resolvers(sources), kong.ExplicitGroups([]kong.Group{{Key: "settings"}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(nil); err != nil {
			return
		}
		problems := c.Check()
		config.Values(&c.Config)
		sources.Warnings()
		if len(problems) == 0 {
			usable(t, &c.Config)
		}
	})
}

// Addresses, URLs and spans that pass the checks are what they should be.
func FuzzCheck(f *testing.F) {
	f.Add("https://auth.example.com", "https://app.example.com", "127.0.0.1:8080", "10.0.0.0/8", "api", int64(time.Minute))
	f.Add("http://localhost:8080", "http://localhost:3000", ":80", "::1", "", int64(time.Hour))
	f.Add("https://user@host/", "*", "http://x:1", "10.0.0.0/33", " ", int64(-1))
	f.Add("HTTPS://auth.example.com", "https://app.example.com/", "[::1]:99999", "1.2.3.4/", "a\nb", int64(1))
	f.Add("https://a?", "null", "host", "fe80::1%eth0", "x", int64(1)<<62)
	f.Add("https://[::1]:8080", "https://\u00fc.example", "a:b:c", "0.0.0.0/0", "\u00e9", int64(0))
	f.Fuzz(func(t *testing.T, issuer, origin, addr, network, audience string, span int64) {
		c, _, err := read(t, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Issuer, c.AllowedOrigins, c.Addr, c.Audience, c.AccessTTL = issuer, []string{origin}, addr, []string{audience}, time.Duration(span)
		var n config.Network
		if err := n.UnmarshalText([]byte(network)); err == nil {
			if !n.IsValid() {
				t.Fatalf("%q became a network that is none", network)
			}
			c.TrustedProxies = []config.Network{n}
		}
		for _, p := range c.Check() {
			if p.Setting == "" || p.Expected == "" || p.Error() == "" {
				t.Fatalf("a problem says too little: %+v", p)
			}
			if p.Setting != "key-rotate-every" {
				return
			}
		}
		usable(t, c)
	})
}

// usable wants of a configuration without problems what the rest relies on.
func usable(t *testing.T, c *config.Config) {
	t.Helper()
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "" || strings.HasSuffix(c.Issuer, "/") || strings.ContainsAny(c.Issuer, "?#@ \t\r\n"):
		t.Fatalf("the issuer %q passed: %v", c.Issuer, err)
	case u.Scheme != "https" && (u.Scheme != "http" || !config.IsLoopback(u.Hostname())):
		t.Fatalf("the issuer %q passed", c.Issuer)
	}
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || origin != u.Scheme+"://"+u.Host || origin != strings.ToLower(origin) || strings.Contains(origin, "*") {
			t.Fatalf("the origin %q passed: %v", origin, err)
		}
	}
	for _, audience := range c.Audiences() {
		if audience == "" || audience == c.AdminAudience() {
			t.Fatalf("the audience %q passed", audience)
		}
	}
	for name, span := range map[string]time.Duration{
		"access-ttl": c.AccessTTL, "refresh-idle-ttl": c.RefreshIdleTTL, "session-ttl": c.SessionTTL, "remember-ttl": c.RememberTTL, "jwks-max-age": c.JWKSMaxAge,
	} {
		if span <= 0 {
			t.Fatalf("%s of %s passed", name, span)
		}
	}
	if c.KeyLead < 2*c.JWKSMaxAge || c.KeyRotateEvery < c.KeyLead || c.RetryWindow < 0 {
		t.Fatalf("lead %s, max-age %s, rotation %s, window %s passed", c.KeyLead, c.JWKSMaxAge, c.KeyRotateEvery, c.RetryWindow)
	}
}
