package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const dashed = "-ilESgRSyjS_Mh2TBmCXBlO4KFhUoo_Sm6TNkfp6hW8"

func TestShieldKIDs(t *testing.T) {
	twoDashes := "--" + dashed[2:]
	for _, c := range []struct{ name, args, want string }{
		{"kid before a flag", "keys revoke " + dashed + " --dry-run", "keys revoke --dry-run -- " + dashed},
		{"kid after a flag", "keys export --format pem " + dashed, "keys export --format pem -- " + dashed},
		{"two dashes", "keys revoke " + twoDashes, "keys revoke -- " + twoDashes},
		{"shielded already", "keys revoke -- " + dashed, "keys revoke -- " + dashed},
		{"one letter short", "keys revoke " + dashed[:42], "keys revoke " + dashed[:42]},
		{"not what 32 bytes encode to", "keys revoke " + dashed[:42] + "9", "keys revoke " + dashed[:42] + "9"},
		{"an ordinary flag", "keys revoke --compromised-store KID", "keys revoke --compromised-store KID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shieldKIDs(strings.Fields(c.args)); !slices.Equal(got, strings.Fields(c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What is empty, as of a variable that is not set, selects nothing: it would mean everything,
// or what the verb does without it.
func TestRun_whatIsEmptySelectsNothing(t *testing.T) {
	for _, args := range [][]string{
		{"token", "verify", "a.b.c", "--for", ""},
		{"token", "verify", "a.b.c", "--for="},
		{"token", "mint", "--user", "ada@example.com", "--for", ""},
		{"users", "create", "ada@example.com", "--generate", "--role", ""},
		{"audit", "list", "--user", ""},
		{"explain", ""},
		{"keys", "rotate", ""},
		{"keys", "export", ""},
		{"sessions", "revoke", "", "--yes"},
		{"sessions", "revoke", "--user", "", "--yes"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			dir := t.TempDir()
			if code := run(t.Context(), []string{"users", "create", "root@example.com", "--generate"}, []string{"AUTHSERVER_DATA_DIR=" + dir}, strings.NewReader(""), &stdout, &stderr); code != exitOK {
				t.Fatalf("exit code %d: %s", code, &stderr)
			}
			stderr.Reset()
			if code := run(t.Context(), args, []string{"AUTHSERVER_DATA_DIR=" + dir}, strings.NewReader(""), &stdout, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d; it printed:\n%s%s", code, exitUsage, &stdout, &stderr)
			}
		})
	}
}

// A key id with a dash reaches the verb, and the hint of a wrong command line
// names the help of the verb it was meant for.
func TestRun_wrongCommandLines(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says []string
	}{
		{"keys revoke " + dashed + " --dry-run", exitNotFound, []string{"a database that a server has made"}},
		{"keys rotate --backwards", exitUsage, []string{"--backwards", "hint:  authserver keys rotate --help"}},
		{"keys rotate --at tomorrow", exitUsage, []string{"--at", `"tomorrow"`, "want an instant like 20", "hint:  authserver keys rotate --help"}},
		{"keys rotate FOO", exitUsage, []string{"hint:  authserver keys rotate --help"}},
		{"audit list --kind nonsense", exitUsage, []string{`"nonsense"`, "refresh.reused", "hint:  authserver audit list --help"}},
		{"audit --limit 1001", exitUsage, []string{"want 1 to 1000", "hint:  authserver audit list --help"}},
		{"users", exitUsage, []string{"hint:  authserver users --help"}},
		{"users show zed", exitUsage, []string{"hint:  authserver users show --help"}},
		{"serv", exitUsage, []string{"hint:  authserver --help"}},
		{"explain", exitUsage, []string{"no request id, session id or token", "hint:  authserver explain --help"}},
		{"token verify", exitUsage, []string{"no token", "hint:  authserver token verify --help"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			environ := []string{"AUTHSERVER_DATA_DIR=" + t.TempDir()}
			code := run(t.Context(), strings.Fields(c.args), environ, strings.NewReader(""), &stdout, &stderr)
			if code != c.code {
				t.Errorf("exit code %d, want %d; it printed:\n%s", code, c.code, &stderr)
			}
			for _, text := range c.says {
				if !strings.Contains(stderr.String(), text) {
					t.Errorf("standard error lacks %q:\n%s", text, &stderr)
				}
			}
		})
	}
}
