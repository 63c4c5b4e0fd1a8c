package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tortured is what cmd/refreshtorture prints with --json.
type tortured struct {
	Results []struct {
		Scenario string `json:"scenario"`
		Happened string `json:"happened"`
		Verdict  string `json:"verdict"`
	} `json:"results"`
	NotTried int `json:"not_tried"`
}

// torture runs the kit against a node, as its users do, and compares the
// verdicts that are not good.
func (n *node) torture(kit string, scenarios int, want map[string]string, args ...string) {
	n.t.Helper()
	args = append(args, "--json", "--style=v1", "--email=ada@example.com", "--password="+goodPassword, n.URL+"/v1/refresh")
	cmd := exec.CommandContext(n.t.Context(), kit, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	var r tortured
	if err := json.Unmarshal(out, &r); err != nil {
		n.t.Fatalf("%v\n%s", err, errs.String())
	}
	if wanted := map[bool]int{true: 0, false: 3}[len(want) == 0]; cmd.ProcessState.ExitCode() != wanted {
		n.t.Errorf("exit code %d, want %d\n%s", cmd.ProcessState.ExitCode(), wanted, errs.String())
	}
	for _, line := range r.Results {
		expected, special := want[line.Scenario]
		if !special {
			expected = "good"
		}
		if line.Verdict != expected {
			n.t.Errorf("%s: %s (%s), want %s", line.Scenario, line.Verdict, line.Happened, expected)
		}
	}
	if len(r.Results) != scenarios {
		n.t.Errorf("%d scenarios were tried, want %d", len(r.Results), scenarios)
	}
}

// The torture kit finds two things at this server, and docs/torture.md says why
// both are the price of something: a thief who looks like the victim and never
// comes late, and a client that comes late and can prove nothing.
func TestTorture_ourOwnTable(t *testing.T) {
	t.Parallel()
	kit := filepath.Join(t.TempDir(), "refreshtorture")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", kit, "example.com/authserver/cmd/refreshtorture")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	engines(t, func(t *testing.T, settings []string) {
		// With the window of the defaults nothing is late, however slow this machine is.
		n := newNode(t, append([]string{"LOG_LEVEL=error"}, settings...)...).start()
		n.person("ada@example.com")
		n.torture(kit, 18, map[string]string{
			"thief-disguised": "thief unnoticed",
			"late-retry":      "not tried", "late-retry-keyed": "not tried", "old-late": "not tried", "thief-late": "not tried",
		})
		if code := n.terminate(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		// With a short one the same scenarios are late on purpose.
		n.env = append(n.env, "AUTHSERVER_RETRY_WINDOW=1s")
		n.start()
		n.torture(kit, 4, map[string]string{"late-retry": "honest user logged out"},
			"--late=3s", "--scenario=late-retry", "--scenario=late-retry-keyed", "--scenario=old-late", "--scenario=thief-late")
		if out, errs, code := n.cli("", "audit", "sessions"); code != 0 {
			t.Errorf("after the torture the database is not in order: %s%s", out, errs)
		}
	})
}
