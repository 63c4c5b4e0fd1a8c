package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/store/storetest"
)

// Ten nodes started at once on an empty database end with one active key per
// algorithm, and every node serves the same bytes.
func TestServe_tenNodesStartTogetherOnAnEmptyDatabase(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=8", "LOG_LEVEL=error"}
		nodes := make([]*node, 10)
		for i := range nodes {
			nodes[i] = newNode(t, settings...)
		}
		for _, n := range nodes {
			n.launch()
		}
		for _, n := range nodes {
			n.awaitReady(time.Minute)
		}
		first := nodes[0].must(200, "GET", "/.well-known/jwks.json", nil)
		if strings.Count(string(first.Body), `"kid"`) != 2 {
			t.Errorf("the key set is %s; want one ES256 and one RS256 key", first.Body)
		}
		for _, n := range nodes[1:] {
			other := n.must(200, "GET", "/.well-known/jwks.json", nil)
			if string(other.Body) != string(first.Body) || other.Header.Get("ETag") != first.Header.Get("ETag") {
				t.Errorf("%s serves other bytes:\n%s\n%s", n.URL, first.Body, other.Body)
			}
		}
		// A token made by any node is good at every other one.
		token := nodes[3].person("ada@example.com")
		for _, n := range nodes {
			n.must(200, "GET", "/v1/me", nil, bearer(token)...)
		}
	})
}

// Without a shared master key a second node does not join, and says why.
func TestServe_aNodeWithAnotherMasterKeyDoesNotJoin(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t)}
		first := newNode(t, settings...).start()
		if !strings.Contains(first.log.String(), "every other node and the next deployment need this file") {
			t.Errorf("the first node does not say that its master key file is needed elsewhere:\n%s", first.log)
		}
		second := newNode(t, settings...)
		second.launch()
		if code := second.wait(20 * time.Second); code != 78 {
			t.Errorf("exit code %d, want 78", code)
		}
		if log := second.log.String(); !strings.Contains(log, "AUTHSERVER_MASTER_KEY") || !strings.Contains(log, "master.key") {
			t.Errorf("the message does not name the master key:\n%s", log)
		}
	})
}

// Exit codes of the contract: where there is nothing yet, and beside a server.
func TestCLI_exitCodes(t *testing.T) {
	nowhere, running := newNode(t), newNode(t).start()
	for _, c := range []struct {
		args []string
		env  string
		code int
		say  string
	}{
		{[]string{"version"}, "", 0, ""},
		{[]string{"--help"}, "", 0, ""},
		{[]string{"frobnicate"}, "", 2, "error: "},
		{[]string{"serve", "--no-such-flag"}, "", 2, "error: "},
		{[]string{"users", "list", "--limit", "many"}, "", 2, "error: "},
		{[]string{"users", "show", "neither-address-nor-id"}, "", 2, "error: "},
		{[]string{"users", "show", "nobody@example.com"}, "", 3, "authserver serve makes one"},
		{[]string{"explain", "0123456789"}, "", 3, "error: "},
		{[]string{"token", "verify", "a.b.c"}, "", 3, ""},
		{[]string{"users", "list"}, "AUTHSERVER_DATABASE_URL=postgres://nobody@127.0.0.1:1/none", 4, "error: "},
		{[]string{"doctor", "--live"}, "", 4, "hint: "},
		{[]string{"users", "list"}, "AUTHSERVER_ISSUER=http://auth.example.com", 78, "AUTHSERVER_ISSUER"},
		{[]string{"config", "check"}, "AUTHSERVER_ACCESS_TTL=soon", 78, "access-ttl"},
		{[]string{"config", "check", "--config", "/does/not/exist.yaml"}, "", 78, "/does/not/exist.yaml"},
	} {
		wantExit(t, nowhere, c.env, c.code, c.say, c.args...)
	}
	// The same table where there is an installation.
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"users show nobody@example.com", 3, "no account nobody@example.com"},
		{"sessions revoke 00000000-0000-4000-8000-000000000000", 3, "no session"},
		{"keys status", 0, ""},
		{"keys revoke nonsense --dry-run", 3, "key_not_found"},
		{"keys revoke nonsense --yes", 3, "key_not_found"},
		{"keys export nonsense", 3, "key_not_found"},
		{"keys rotate HS256", 2, "want one of"},
		{"keys rotate EdDSA", 2, "not configured"},
		{"keys rotate --cancel --at 2099-01-01T00:00:00Z", 2, "--at"},
		{"keys rotate --cancel", 5, "keys rotate --back"},
		{"keys rotate --back", 5, "keys rotate --cancel"},
		{"keys rotate ES256", 0, ""},
		{"keys rotate ES256 --cancel", 0, ""},
		{"keys rotate ES256 --cancel", 5, "conflict"},
		{"keys reset", 2, "--master-key-lost"},
		{"sessions revoke --issued-before 2099-01-01T00:00:00Z --yes", 2, "in the future"},
		{"serve", 5, "hint: "},
	} {
		wantExit(t, running, "", c.code, c.say, strings.Fields(c.args)...)
	}
}

// An issuer that is set where a command runs, and is not the database's, is told of also
// where it is the default: a server would not start with it.
func TestCLI_doctorSeesAnotherIssuer(t *testing.T) {
	const ours = "https://auth.example.com"
	n := newNode(t, "ISSUER="+ours).start()
	wantExit(t, n, "", 0, "", "doctor", "--offline")
	wantExit(t, n, "AUTHSERVER_ISSUER=http://localhost:8080", 78, "wrong settings", "doctor", "--offline")
	wantExit(t, n, "AUTHSERVER_ISSUER=https://login.example.com", 78, ours, "doctor", "--offline")
}

// The master key that a reset makes is gone again unless the reset was done with it.
func TestCLI_aResetThatIsNotDoneLeavesNoMasterKey(t *testing.T) {
	n := newNode(t, "ISSUER="+issuerOfAll).start()
	n.terminate()
	file := filepath.Join(n.Dir, "master.key")
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, env, typed string
		code             int
	}{
		{"another issuer", "AUTHSERVER_ISSUER=https://other.example", issuerOfAll, 78},
		{"a former key that is none", "AUTHSERVER_MASTER_KEY_FORMER=nonsense", issuerOfAll, 78},
		{"declined", "", "no", 1},
		{"nothing is lost", "AUTHSERVER_MASTER_KEY_FORMER=" + strings.TrimSpace(string(kept)), issuerOfAll, 5},
	} {
		m := *n
		m.env = append(append([]string{}, n.env...), c.env)
		if out, errs, code := m.cli(c.typed+"\n", "keys", "reset", "--master-key-lost"); code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s%s", c.name, code, c.code, out, errs)
		}
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: there is a master key: %v", c.name, err)
			_ = os.Remove(file)
		}
	}
	if err := os.WriteFile(file, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
}

// wantExit runs a verb in the environment of n and one more variable.
func wantExit(t *testing.T, n *node, env string, want int, say string, args ...string) {
	t.Helper()
	m := *n
	m.env = append(append([]string{}, n.env...), env)
	_, errs, code := m.cli("", args...)
	if code != want || !strings.Contains(errs, say) {
		t.Errorf("%v with %q: exit code %d, %q; want %d, %q", args, env, code, errs, want, say)
	}
}
