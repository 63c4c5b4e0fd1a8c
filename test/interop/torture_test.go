package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTorture_anotherServer points the torture kit at a server that is not ours: strict
// single use, which ends the family with whoever comes second, thief or second tab.
// docs/torture.md has the table.
func TestTorture_anotherServer(t *testing.T) {
	node := setting(t, "INTEROP_NODE_ML_DSA") // which is one that it supports
	server := startChild(t, "oidc-provider", nil, node, "node/oidc-provider.mjs")
	if _, err := fmt.Fprintln(server.in); err != nil {
		t.Fatal(err)
	}
	url, err := server.line()
	if err != nil {
		t.Fatal(err)
	}
	kit := filepath.Join(t.TempDir(), "refreshtorture")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", kit, "./cmd/refreshtorture").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), kit, "--json", "--client-id=app", "--auth=basic", "--client-secret=a-secret", "--late=2s",
		fmt.Sprintf(`--login-command='%s' -e 'fetch("%s/login").then(a => a.text()).then(console.log)'`, node, url), "--revoke-url="+url+"/token/revocation", url+"/token")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 { // something was found
		if exit != nil {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Results []struct{ Scenario, Happened, Verdict string }
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := map[string]string{}
	for _, r := range report.Results {
		got[r.Scenario] = r.Verdict
		t.Logf("%s: %s: %s", r.Scenario, r.Happened, r.Verdict)
	}
	const good, loggedOut = "good", "honest user logged out"
	want := map[string]string{
		"chain": good, "race": loggedOut, "lost-answer": loggedOut, "lost-twice": loggedOut, "lost-keyed": loggedOut, "lost-chain": loggedOut,
		"late-retry": loggedOut, "late-retry-keyed": loggedOut, "slow-readers": loggedOut, "old-young": good, "old-late": good, "old-second": good,
		"thief": good, "thief-disguised": good, "thief-late": good, "revoked": good, "revoke-race": good, "garbage": good,
	}
	if !maps.Equal(got, want) {
		t.Errorf("the verdicts are %v, want %v", got, want)
	}
}
