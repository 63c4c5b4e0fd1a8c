package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"example.com/authserver/internal/config"
)

// read parses settings the way the command line does.
func read(t *testing.T, file string, environ []string, args ...string) (*config.Config, *config.Sources, error) {
	t.Helper()
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "settings.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := config.ReadSources(path, environ, config.Flags())
	if err != nil {
		return nil, nil, err
	}
	var c struct{ config.Config }
	parser, err := kong.New(&c, kong.Resolvers(sources), kong.ExplicitGroups([]kong.Group{{Key: "settings", Title: "Settings"}}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &c.Config, sources, err
}

func TestConfig_everyNameOfTheContractExists(t *testing.T) {
	names := map[string]bool{}
	for _, s := range config.Settings() {
		names[s.Env] = true
	}
	for _, want := range []string{
		"ISSUER", "ADDR", "ADMIN_ADDR", "DATABASE_URL", "DATA_DIR", "MASTER_KEY", "MASTER_KEY_FORMER", "AUDIENCE",
		"ALLOWED_ORIGINS", "ACCESS_TTL", "REFRESH_IDLE_TTL", "SESSION_TTL", "REMEMBER_TTL", "RETRY_WINDOW", "REGISTRATION",
		"FIRST_PARTY_API", "KEY_ROTATE_EVERY", "KEY_LEAD", "JWKS_MAX_AGE", "TRUSTED_PROXIES", "ADMIN_EXPOSE",
	} {
		if !names["AUTHSERVER_"+want] {
			t.Errorf("there is no AUTHSERVER_%s", want)
		}
	}
	for name := range names {
		rest := strings.TrimPrefix(name, "AUTHSERVER_")
		if strings.HasPrefix(rest, "PORT") || strings.HasPrefix(rest, "SERVICE_") {
			t.Errorf("%s collides with what Kubernetes injects", name)
		}
	}
}

func TestConfig_defaultsAreThoseOfTheContract(t *testing.T) {
	c, _, err := read(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if problems := c.Check(); len(problems) > 0 {
		t.Fatalf("the defaults have problems: %v", problems)
	}
	for name, pair := range map[string][2]time.Duration{
		"access": {c.AccessTTL, 10 * time.Minute}, "idle": {c.RefreshIdleTTL, 720 * time.Hour}, "session": {c.SessionTTL, 2160 * time.Hour},
		"remember": {c.RememberTTL, 8760 * time.Hour}, "retry window": {c.RetryWindow, 90 * time.Second},
		"rotation": {c.KeyRotateEvery, 2160 * time.Hour}, "lead": {c.KeyLead, 24 * time.Hour}, "max-age": {c.JWKSMaxAge, 10 * time.Minute},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %s, want %s", name, pair[0], pair[1])
		}
	}
	if c.Issuer != config.DefaultIssuer || c.Addr != "127.0.0.1:8080" || c.AdminAddr != "127.0.0.1:8081" || c.Audiences()[0] != c.Issuer {
		t.Errorf("issuer %s, addresses %s and %s, audience %s", c.Issuer, c.Addr, c.AdminAddr, c.Audiences())
	}
	if err := c.Keys().Validate(); err != nil {
		t.Error(err)
	}
	if err := c.Passwords().Validate(); err != nil {
		t.Error(err)
	}
	if path, ok := c.SQLitePath(); !ok || path != filepath.Join("data", "authserver.db") {
		t.Errorf("database %q %v", path, ok)
	}
}

func TestConfig_theLaterSourceWins(t *testing.T) {
	const file = "access-ttl: 1m\nretry-window: 10s\nallowed-origins: [https://a.example, https://b.example]\nregistration: closed\nfirst-party-api: off\n"
	env := []string{"AUTHSERVER_ACCESS_TTL=2m", "AUTHSERVER_SESSION_TTL=3h"}
	c, sources, err := read(t, file, env, "--session-ttl=4h")
	if err != nil {
		t.Fatal(err)
	}
	if c.AccessTTL != 2*time.Minute || c.RetryWindow != 10*time.Second || c.SessionTTL != 4*time.Hour || c.RefreshIdleTTL != 720*time.Hour {
		t.Errorf("access %s (want 2m from the environment), retry window %s (10s from the file), session %s (4h from the flag), idle %s (default)", c.AccessTTL, c.RetryWindow, c.SessionTTL, c.RefreshIdleTTL)
	}
	if len(c.AllowedOrigins) != 2 || c.Registration != "closed" || c.FirstPartyAPI != "off" {
		t.Errorf("origins %v, registration %s, first-party %s", c.AllowedOrigins, c.Registration, c.FirstPartyAPI)
	}
	if sources.Origin("access-ttl") != "AUTHSERVER_ACCESS_TTL" || !strings.HasSuffix(sources.Origin("retry-window"), "settings.yaml") || sources.Origin("log-level") != "default" {
		t.Errorf("origins: %s, %s, %s", sources.Origin("access-ttl"), sources.Origin("retry-window"), sources.Origin("log-level"))
	}
}

func TestConfig_unknownKeysAreRefusedWithTheNearestName(t *testing.T) {
	_, _, err := read(t, "acces-ttl: 1m\n", nil)
	if err == nil || !strings.Contains(err.Error(), `"acces-ttl"`) || !strings.Contains(err.Error(), "access-ttl?") {
		t.Errorf("file: %v", err)
	}
	if _, _, err := read(t, "", nil, "--acces-ttl=1m"); err == nil || !strings.Contains(err.Error(), "access-ttl") {
		t.Errorf("flag: %v", err)
	}
	_, sources, err := read(t, "", []string{"AUTHSERVER_ISUER=x", "AUTHSERVER_PORT=tcp://10.0.0.1:80", "AUTHSERVER_PORT_80_TCP=x", "AUTHSERVER_SERVICE_HOST=x"})
	if err != nil {
		t.Fatal(err)
	}
	if w := sources.Warnings(); len(w) != 1 || !strings.Contains(w[0], "AUTHSERVER_ISUER") || !strings.Contains(w[0], "AUTHSERVER_ISSUER?") {
		t.Errorf("warnings %q, want one about AUTHSERVER_ISUER", w)
	}
}

func TestConfig_aPortThatIsNoURLWasMeant(t *testing.T) {
	_, sources, err := read(t, "", []string{"AUTHSERVER_PORT=9090"})
	if err != nil {
		t.Fatal(err)
	}
	if w := sources.Warnings(); len(w) != 1 || !strings.Contains(w[0], "AUTHSERVER_PORT") || !strings.Contains(w[0], "AUTHSERVER_ADDR?") {
		t.Errorf("warnings %q, want one about AUTHSERVER_PORT", w)
	}
}

// An empty mount must not start a second installation beside the real one.
func TestConfig_anEmptySecretFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty")
	for _, text := range []string{"", "\n", "  \r\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(t, "", []string{"AUTHSERVER_MASTER_KEY_FORMER_FILE=" + path}); err != nil {
			t.Errorf("no former master key: %v", err)
		}
		for _, name := range []string{"AUTHSERVER_DATABASE_URL_FILE", "AUTHSERVER_MASTER_KEY_FILE"} {
			if _, _, err := read(t, "", []string{name + "=" + path}); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s names a file that holds %q: %v", name, text, err)
			}
		}
	}
}

func TestConfig_theFileComesBeforePlainNames(t *testing.T) {
	c, _, err := read(t, "database-url: postgres://file/db\naddr: :7000\n", []string{"DATABASE_URL=postgres://plain/db", "PORT=9000"})
	if err != nil || c.DatabaseURL.Reveal() != "postgres://file/db" || c.Addr != ":7000" {
		t.Errorf("%q, %q, %v", c.DatabaseURL.Reveal(), c.Addr, err)
	}
}

func TestConfig_secretsFromFilesAndPlainNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(path, []byte("postgres://from-file/db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := read(t, "", []string{"AUTHSERVER_DATABASE_URL_FILE=" + path, "DATABASE_URL=postgres://plain/db"})
	if err != nil || c.DatabaseURL.Reveal() != "postgres://from-file/db" {
		t.Errorf("%q, %v", c.DatabaseURL.Reveal(), err)
	}
	c, _, err = read(t, "", []string{"DATABASE_URL=postgres://plain/db", "PORT=9999"})
	if err != nil || c.DatabaseURL.Reveal() != "postgres://plain/db" || c.Addr != ":9999" {
		t.Errorf("%q, %s, %v", c.DatabaseURL.Reveal(), c.Addr, err)
	}
	c, _, err = read(t, "", []string{"PORT=9999", "AUTHSERVER_ADDR=127.0.0.1:1"})
	if err != nil || c.Addr != "127.0.0.1:1" {
		t.Errorf("PORT beat AUTHSERVER_ADDR: %s, %v", c.Addr, err)
	}
	if _, _, err = read(t, "", []string{"AUTHSERVER_DATABASE_URL_FILE=" + path, "AUTHSERVER_DATABASE_URL=postgres://x/y"}); err == nil {
		t.Error("a secret given twice was accepted")
	}
	one, two := strings.Repeat("1", 64), strings.Repeat("2", 64)
	for _, text := range []string{one + "," + two + "\n", one + "\n" + two, one + ",\r\n" + two + "\r\n\r\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := read(t, "", []string{"AUTHSERVER_MASTER_KEY_FORMER_FILE=" + path})
		if err != nil || len(c.MasterKeyFormer) != 2 || c.MasterKeyFormer[0].Reveal() != one || c.MasterKeyFormer[1].Reveal() != two {
			t.Errorf("two former master keys in a file as %q: %d of them, %v", text, len(c.MasterKeyFormer), err)
		}
	}
	if _, _, err = read(t, "", []string{"AUTHSERVER_MASTER_KEY_FILE=/does/not/exist"}); err == nil {
		t.Error("a secret file that does not exist was accepted")
	}
}

// The classic mistakes of the first hour: each is named with the value seen,
// what was expected and the setting to change.
func TestCheck_namesClassicMistakes(t *testing.T) {
	for env, want := range map[string][]string{
		"AUTHSERVER_ISSUER=https://auth.example.com/":               {"AUTHSERVER_ISSUER", `"https://auth.example.com/"`, `"https://auth.example.com"`, "trailing slash"},
		"AUTHSERVER_ISSUER=http://auth.example.com":                 {"AUTHSERVER_ISSUER", "https://auth.example.com", "loopback"},
		"AUTHSERVER_ISSUER=http://192.168.1.5:8080":                 {"AUTHSERVER_ISSUER", "loopback"},
		"AUTHSERVER_ISSUER=auth.example.com":                        {"AUTHSERVER_ISSUER", "a URL like"},
		"AUTHSERVER_ISSUER=https://Auth.Example.com":                {"AUTHSERVER_ISSUER", "lower case"},
		"AUTHSERVER_ISSUER=https://auth.example.com?x=1":            {"AUTHSERVER_ISSUER", "query"},
		"AUTHSERVER_ADDR=http://localhost:8080":                     {"AUTHSERVER_ADDR", "not a URL"},
		"AUTHSERVER_ADDR=8080":                                      {"AUTHSERVER_ADDR", `"8080"`, ":PORT"},
		"AUTHSERVER_ALLOWED_ORIGINS=https://app.example.com/":       {"AUTHSERVER_ALLOWED_ORIGINS", "slash at the end"},
		"AUTHSERVER_ALLOWED_ORIGINS=*":                              {"AUTHSERVER_ALLOWED_ORIGINS", "wildcard"},
		"AUTHSERVER_ALLOWED_ORIGINS=https://app.example.com:443":    {"AUTHSERVER_ALLOWED_ORIGINS", "default port"},
		"AUTHSERVER_ALLOWED_ORIGINS=app.example.com":                {"AUTHSERVER_ALLOWED_ORIGINS", "SCHEME://HOST"},
		"AUTHSERVER_MASTER_KEY=c2hvcnQ=":                            {"AUTHSERVER_MASTER_KEY", "base64 of 5 bytes", "32 bytes", "openssl rand"},
		"AUTHSERVER_KEY_LEAD=5m":                                    {"AUTHSERVER_KEY_LEAD", "5m0s", "AUTHSERVER_JWKS_MAX_AGE", "20m0s"},
		"AUTHSERVER_ACCESS_TTL=-1s":                                 {"AUTHSERVER_ACCESS_TTL", "-1s"},
		"AUTHSERVER_DATABASE_URL=mysql://root:hunter2@localhost/db": {"AUTHSERVER_DATABASE_URL", "mysql", "postgres://"},
		"AUTHSERVER_KEY_ALGORITHMS=HS256":                           {"AUTHSERVER_KEY_ALGORITHMS", "HS256", "ES256"},
		"AUTHSERVER_PASSWORD_MEMORY=1024":                           {"AUTHSERVER_PASSWORD_MEMORY", "1024", "19456"},
		"AUTHSERVER_DATABASE_CONNS=4":                               {"AUTHSERVER_DATABASE_CONNS", "4", "8 to"},
		"AUTHSERVER_ADMIN_EXPOSE=everything":                        {"AUTHSERVER_ADMIN_EXPOSE", "everything", "pprof"},
	} {
		c, _, err := read(t, "", []string{env})
		if err != nil {
			t.Errorf("%s: %v", env, err)
			continue
		}
		problems := c.Check()
		if len(problems) != 1 {
			t.Errorf("%s: %d problems %v, want 1", env, len(problems), problems)
			continue
		}
		for _, part := range want {
			if !strings.Contains(problems[0].Error(), part) {
				t.Errorf("%s: %q does not say %q", env, problems[0].Error(), part)
			}
		}
		if strings.Contains(problems[0].Error(), "hunter2") {
			t.Errorf("a password was printed: %s", problems[0])
		}
	}
}

func TestConfig_wrongValuesNameTheSetting(t *testing.T) {
	for _, env := range []string{"AUTHSERVER_ACCESS_TTL=ten minutes", "AUTHSERVER_REGISTRATION=maybe", "AUTHSERVER_TRUSTED_PROXIES=10.0.0.1/99", "AUTHSERVER_DATABASE_CONNS=many"} {
		_, _, err := read(t, "", []string{env})
		flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.Split(env, "=")[0], "AUTHSERVER_"), "_", "-"))
		if err == nil || !strings.Contains(err.Error(), "--"+flag) {
			t.Errorf("%s: %v, want an error about --%s", env, err, flag)
		}
	}
}

func TestWriteDocs_namesEverySettingAndNoSecret(t *testing.T) {
	var out bytes.Buffer
	if err := config.WriteDocs(&out); err != nil {
		t.Fatal(err)
	}
	for _, s := range config.Settings() {
		if !strings.Contains(out.String(), "`"+s.Env+"`") || s.Help == "" {
			t.Errorf("%s is not documented", s.Env)
		}
	}
}

func TestValues_redactSecrets(t *testing.T) {
	c, _, err := read(t, "", []string{"AUTHSERVER_DATABASE_URL=postgres://u:hunter2@h/d", "AUTHSERVER_MASTER_KEY_FORMER=hunter2,hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range config.Values(c) {
		if strings.Contains(v.Value, "hunter2") {
			t.Errorf("%s prints %s", v.Flag, v.Value)
		}
		if v.Flag == "database-url" && v.Value == "" {
			t.Error("a secret that is set looks as if it were not")
		}
	}
}
