// Package config owns every setting: its name, default, meaning and check.
// The one struct below is the manual; `authserver config docs` prints it. It
// knows the policies of the rooms and hands each room its own; nobody but the
// attic knows this package.
package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"example.com/authserver/internal/secret"
)

// Config is everything that can be set. Each setting is a flag, an environment
// variable with the prefix AUTHSERVER_, and a key of the YAML file; the later
// of default, file, environment and flag wins. Durations are spelled as Go
// does: 90s, 10m, 720h.
type Config struct {
	Issuer          string        `group:"settings" placeholder:"URL" default:"http://localhost:8080" help:"The public URL of this server, exactly as it stands in every token: no trailing slash. https, or http on a loopback host."`
	Addr            string        `group:"settings" placeholder:"HOST:PORT" default:"127.0.0.1:8080" help:"Address of the public listener. A plain PORT variable means :PORT unless this is set."`
	AdminAddr       string        `group:"settings" placeholder:"HOST:PORT" default:"127.0.0.1:8081" help:"Address of the operations listener: health, metrics, the admin API, profiles. Off loopback it serves health and metrics only, see admin-expose."`
	AdminExpose     []string      `group:"settings" placeholder:"NAME" help:"What the operations listener serves off loopback besides health and metrics: admin, pprof."`
	AdminHosts      []string      `group:"settings" placeholder:"HOST" help:"Host names that requests to the admin API and the profiles may carry, besides localhost and IP addresses."`
	DatabaseURL     secret.Text   `group:"settings" placeholder:"URL" help:"postgres://... or sqlite:PATH. Empty: SQLite in the data directory. DATABASE_URL is honoured, too."`
	DatabaseConns   int           `group:"settings" placeholder:"N" default:"0" help:"Connections to Postgres at most, for this node. 8 at least. 0: four for each core, at least 8."`
	DataDir         string        `group:"settings" placeholder:"DIR" default:"data" help:"Directory of the SQLite database and of the master key file, where those are used."`
	MasterKey       secret.Text   `group:"settings" placeholder:"KEY" help:"The key that seals private keys in the database: 32 bytes as base64 or hex. Empty: the file master.key in the data directory, made at the first start."`
	MasterKeyFormer []secret.Text `group:"settings" placeholder:"KEY" help:"Former master keys, still needed until keys rewrap has run."`
	Audience        []string      `group:"settings" placeholder:"AUD" help:"Audience of access tokens. Empty: the issuer."`
	AllowedOrigins  []string      `group:"settings" placeholder:"ORIGIN" help:"Origins of browser apps that may call this server with credentials, as https://app.example.com. Exact; no wildcards."`
	TrustedProxies  []Network     `group:"settings" placeholder:"CIDR" help:"Networks or addresses of proxies whose X-Forwarded-For is believed, from the right."`

	AccessTTL      time.Duration `group:"settings" placeholder:"DURATION" default:"10m" help:"Life of an access token."`
	RefreshIdleTTL time.Duration `group:"settings" placeholder:"DURATION" default:"720h" help:"A session ends when it is not refreshed for this long. A shorter value counts for living sessions, too."`
	SessionTTL     time.Duration `group:"settings" placeholder:"DURATION" default:"2160h" help:"A session ends this long after its login, whatever happens. A change counts for later logins; sessions revoke --issued-before ends older ones."`
	RememberTTL    time.Duration `group:"settings" placeholder:"DURATION" default:"8760h" help:"The same for a login with remember."`
	RetryWindow    time.Duration `group:"settings" placeholder:"DURATION" default:"90s" help:"How long the predecessor of a refresh token is answered as a retry. Hidden browser tabs wake once a minute."`
	LockStep       string        `group:"settings" enum:"enforce,report" default:"enforce" help:"What happens when two senders follow each other generation after generation: enforce ends the session, report only audits (for server-side rendering beside a browser)."`
	Registration   string        `group:"settings" enum:"open,closed" default:"open" help:"Whether anybody may register through the API. On the host, users create always works."`
	FirstPartyAPI  string        `group:"settings" name:"first-party-api" enum:"on,off" default:"on" help:"Whether the /v1 API is served."`

	StatusList string `group:"settings" enum:"off,on" default:"off" help:"Whether access tokens name a Token Status List and this server publishes the lists, for verifiers that do not know the revocation feed."`

	KeyAlgorithms  []string      `group:"settings" placeholder:"ALG" default:"ES256,RS256" help:"Signing algorithms with a published key; the first signs access tokens. ES256, RS256, PS256, ES384, EdDSA, ML-DSA-44, ML-DSA-65."`
	KeyRSABits     int           `group:"settings" name:"key-rsa-bits" enum:"2048,3072" default:"2048" help:"Size of new RSA keys."`
	KeyRotateEvery time.Duration `group:"settings" placeholder:"DURATION" default:"2160h" help:"How long one signing key signs."`
	KeyLead        time.Duration `group:"settings" placeholder:"DURATION" default:"24h" help:"How long a key is published before it signs; at least twice jwks-max-age."`
	JWKSMaxAge     time.Duration `group:"settings" name:"jwks-max-age" placeholder:"DURATION" default:"10m" help:"How long verifiers may cache the key set."`

	PasswordMemory  int           `group:"settings" placeholder:"KIB" default:"19456" help:"Memory of one argon2id hash in KiB; 19456 at least."`
	PasswordTime    int           `group:"settings" placeholder:"N" default:"2" help:"Passes of argon2id over its memory; 2 at least."`
	PasswordHashers int           `group:"settings" placeholder:"N" default:"0" help:"Hashes computed at once. 0: from the cores and the memory of this machine."`
	AuditRetention  time.Duration `group:"settings" placeholder:"DURATION" default:"8760h" help:"How long audit events are kept."`
	DrainDelay      time.Duration `group:"settings" placeholder:"DURATION" default:"3s" help:"After SIGTERM, how long this node goes on answering while /readyz says 503, so that load balancers notice."`
	LogLevel        string        `group:"settings" enum:"debug,info,warn,error" default:"info" help:"The least level that is logged."`
	LogFormat       string        `group:"settings" enum:"json,text" default:"json" help:"Format of the log on standard error."`
}

// DefaultIssuer is the issuer that nobody chose.
const DefaultIssuer = "http://localhost:8080"

// SQLitePath returns the path of the SQLite database; ok is false when the
// configuration names another engine.
func (c *Config) SQLitePath() (path string, ok bool) {
	url := c.DatabaseURL.Reveal()
	switch {
	case url == "":
		return filepath.Join(c.DataDir, "authserver.db"), true
	case strings.HasPrefix(url, "sqlite:"):
		return strings.TrimPrefix(strings.TrimPrefix(url, "sqlite:"), "//"), true
	default:
		return "", false
	}
}

// MasterKeyPath returns the path of the master key file, which counts where no
// master key is configured.
func (c *Config) MasterKeyPath() string { return filepath.Join(c.DataDir, "master.key") }

// Audiences returns the configured audiences, the issuer where there are none.
func (c *Config) Audiences() []string {
	if len(c.Audience) == 0 {
		return []string{c.Issuer}
	}
	return c.Audience
}

// AdminAudience is the audience of tokens for the admin API.
func (c *Config) AdminAudience() string { return c.Issuer + "/admin" }

// Network is a network in CIDR notation; a lone address is a network of one.
type Network struct{ netip.Prefix }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Network) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if addr, err := netip.ParseAddr(s); err == nil {
		n.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf("%q is no network; want one like 10.0.0.0/8, or an address", s)
	}
	n.Prefix = prefix
	return nil
}

// Proxies returns the trusted proxies.
func (c *Config) Proxies() []netip.Prefix {
	list := make([]netip.Prefix, len(c.TrustedProxies))
	for i, n := range c.TrustedProxies {
		list[i] = n.Prefix
	}
	return list
}
