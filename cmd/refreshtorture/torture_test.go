package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// against tortures a naive server and returns the verdicts by scenario.
func against(t *testing.T, n *naive, only ...string) map[string]result {
	t.Helper()
	url := n.start(t)
	args := []string{"--client-id=app", "--late=2m", "--racers=8", "--revoke-url=" + url + "/revoke"}
	for range scenarios {
		args = append(args, "--token="+n.logIn())
	}
	for _, name := range only {
		args = append(args, "--scenario="+name)
	}
	o, err := parse(append(args, url+"/token"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	o.pause = n.pass
	r, err := torture(t.Context(), o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	results := map[string]result{}
	for _, line := range r.Results {
		results[line.Scenario] = line
	}
	return results
}

// A server is told apart by what it does wrong, and by nothing else.
func TestTorture_findsWhatIsWrongWithNaiveServers(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *naive
		want   map[string]verdict // what is not good
	}{
		{"a window that answers the head, and theft detection", &naive{window: true, endsOnReuse: true}, map[string]verdict{
			// No key is understood, and no sender is looked at.
			"late-retry": loggedOut, "late-retry-keyed": loggedOut, "thief": unnoticed, "thief-disguised": unnoticed,
		}},
		{"strict single use that ends the family", &naive{endsOnReuse: true}, map[string]verdict{
			"race": loggedOut, "lost-answer": loggedOut, "lost-twice": loggedOut, "lost-keyed": loggedOut, "lost-chain": loggedOut,
			"late-retry": loggedOut, "late-retry-keyed": loggedOut, "slow-readers": loggedOut,
		}},
		{"strict single use that ends nothing", &naive{}, map[string]verdict{
			"race": loggedOut, "lost-answer": loggedOut, "lost-chain": loggedOut, "late-retry": loggedOut, "late-retry-keyed": loggedOut,
			"lost-twice": loggedOut, "lost-keyed": loggedOut, "slow-readers": loggedOut,
			"old-young": unnoticed, "old-late": unnoticed, "old-second": unnoticed, "thief": unnoticed, "thief-disguised": unnoticed, "thief-late": unnoticed,
		}},
		{"grace that mints a successor for everybody", &naive{forks: true, endsOnReuse: true}, map[string]verdict{
			"race": forked, "lost-twice": forked, "lost-keyed": forked, "slow-readers": forked, "old-young": forked, "old-second": forked,
			"late-retry": loggedOut, "late-retry-keyed": loggedOut, "thief": forked, "thief-disguised": forked,
		}},
		{"grace whose last successor kills the one before", &naive{displaces: true, endsOnReuse: true}, map[string]verdict{
			"race": loggedOut, "lost-twice": loggedOut, "lost-keyed": loggedOut, "slow-readers": loggedOut, "old-young": loggedOut,
			"late-retry": loggedOut, "late-retry-keyed": loggedOut,
			// The thief falls out by chance, and the family goes on.
			"thief": unnoticed, "thief-disguised": unnoticed,
		}},
		{"no rotation", &naive{keeps: true}, map[string]verdict{
			"chain": unnoticed, "old-late": unnoticed, "old-second": unnoticed,
			"thief": unnoticed, "thief-disguised": unnoticed, "thief-late": unnoticed,
		}},
		{"tokens found by their beginning", &naive{window: true, endsOnReuse: true, prefixes: true}, map[string]verdict{
			"late-retry": loggedOut, "late-retry-keyed": loggedOut, "thief": unnoticed, "thief-disguised": unnoticed, "garbage": unnoticed,
		}},
		{"revocation that is forgotten", &naive{window: true, deaf: true}, map[string]verdict{
			"late-retry": loggedOut, "late-retry-keyed": loggedOut, "old-late": unnoticed, "old-second": unnoticed,
			"thief": unnoticed, "thief-disguised": unnoticed, "thief-late": unnoticed, "revoked": undead, "revoke-race": undead,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			results := against(t, c.server)
			if len(results) != len(scenarios) {
				t.Errorf("%d scenarios ran, want %d", len(results), len(scenarios))
			}
			for _, s := range scenarios {
				want, bad := c.want[s.name]
				if !bad {
					want = good
				}
				if got := results[s.name]; got.Verdict != want {
					t.Errorf("%s: %s (%s), want %s", s.name, got.Verdict, got.Happened, want)
				}
			}
		})
	}
}

func TestTorture_aServerThatFailsUnderContention(t *testing.T) {
	got := against(t, &naive{window: true, endsOnReuse: true, fragile: true}, "chain", "race")
	if got["chain"].Verdict != good || got["race"].Verdict != broke {
		t.Errorf("got %+v; want a good chain and trouble in the race", got)
	}
}

// Who says when to come again is asked again, as often as a client would, and no longer.
func TestTorture_aServerThatPutsOff(t *testing.T) {
	for times, want := range map[int]verdict{1: good, mostTries - 1: good, mostTries: broke} {
		got := against(t, &naive{window: true, endsOnReuse: true, putsOff: times}, "lost-answer")
		if got["lost-answer"].Verdict != want {
			t.Errorf("put off %d times: %+v; want %s", times, got, want)
		}
	}
}

// The command says by its exit code what it found.
func TestRun_exitCodes(t *testing.T) {
	n := &naive{window: true, endsOnReuse: true}
	url := n.start(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	for _, c := range []struct {
		name string
		args []string
		code int
		say  string
	}{
		{"help", []string{"--help"}, exitOK, "one per scenario"},
		{"list", []string{"--list"}, exitOK, "thief-disguised"},
		{"good", []string{"--scenario=chain", "--token=" + n.logIn(), url + "/token"}, exitOK, "1 good, 0 found"},
		{"found", []string{"--scenario=thief", "--token=" + n.logIn(), url + "/token"}, exitNegative, "thief unnoticed"},
		{"out of tokens", []string{"--scenario=chain", "--scenario=race", "--token=" + n.logIn(), url + "/token"}, exitOK, "1 not tried"},
		{"no late, no revocation", []string{"--scenario=old-late", "--scenario=revoked", "--token=x", url + "/token"}, exitOK, "2 not tried"},
		{"no token endpoint", []string{"--scenario=chain", "--token=x", elsewhere.URL + "/token"}, exitFailure, "want the URL of a token endpoint"},
		{"nobody there", []string{"--scenario=chain", "--token=x", dead.URL + "/token"}, exitUnreachable, "error: "},
		{"somebody else's", []string{"--token=x", "https://auth.example.com/token"}, exitUsage, "--i-own-this-server"},
		{"a name that looks like this machine", []string{"--token=x", "http://localhost.example.com/token"}, exitUsage, "--i-own-this-server"},
		{"revocation elsewhere", []string{"--token=x", "--revoke-url=http://192.0.2.1/revoke", url + "/token"}, exitUsage, "same host"},
		{"no URL", []string{"--token=x"}, exitUsage, "one URL"},
		{"no URL of HTTP", []string{"--token=x", "ftp://localhost/token"}, exitUsage, "http or https"},
		{"no tokens", []string{url + "/token"}, exitUsage, "starting tokens"},
		{"two ways", []string{"--token=x", "--login-command=true", url + "/token"}, exitUsage, "one way"},
		{"an unknown scenario", []string{"--token=x", "--scenario=flood", url + "/token"}, exitUsage, "flood"},
		{"an unknown flag", []string{"--flood", url + "/token"}, exitUsage, "flood"},
		{"too many racers", []string{"--token=x", "--racers=201", url + "/token"}, exitUsage, "--racers"},
		{"too many rounds", []string{"--token=x", "--rounds=51", url + "/token"}, exitUsage, "--rounds"},
		{"too many requests", []string{"--token=x", "--max-requests=100001", url + "/token"}, exitUsage, "--max-requests"},
		{"too long", []string{"--token=x", "--timeout=2h", url + "/token"}, exitUsage, "--timeout"},
		{"secret without a client", []string{"--token=x", "--auth=basic", url + "/token"}, exitUsage, "--client-id"},
		{"a login that fails", []string{"--login-command=exit 3", "--scenario=chain", url + "/token"}, exitFailure, "--login-command"},
		{"a login that prints nothing", []string{"--login-command=true", "--scenario=chain", url + "/token"}, exitFailure, "want one token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs strings.Builder
			code := run(t.Context(), c.args, &out, &errs)
			if code != c.code || !strings.Contains(out.String()+errs.String(), c.say) {
				t.Errorf("exit code %d, %q, %q; want %d and %q", code, out.String(), errs.String(), c.code, c.say)
			}
		})
	}
}

// Other hosts get not a single packet unless the flag is given.
func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.8.8.8": true, "::1": true, "app.localhost": true,
		"example.com": false, "10.0.0.1": false, "192.168.1.1": false, "0.0.0.0": false, "": false,
		"127.0.0.1.example.com": false, "localhost.": false,
	} {
		if got := loopback(host); got != want {
			t.Errorf("%q: %t, want %t", host, got, want)
		}
	}
}

func TestRun_limitsTheNumberOfRequests(t *testing.T) {
	n := &naive{window: true}
	url := n.start(t)
	var out, errs strings.Builder
	code := run(t.Context(), []string{"--max-requests=5", "--scenario=chain", "--token=" + n.logIn(), url + "/token"}, &out, &errs)
	if code != exitNegative || !strings.Contains(out.String(), "--max-requests is used up") {
		t.Errorf("exit code %d, %s%s", code, &out, &errs)
	}
	if len(n.calls) != 5 {
		t.Errorf("%d requests were sent, want 5", len(n.calls))
	}
}

func TestRun_endsInTime(t *testing.T) {
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice that the client left
		<-r.Context().Done()
	}))
	defer hanging.Close()
	var out, errs strings.Builder
	code := run(t.Context(), []string{"--timeout=50ms", "--scenario=chain", "--token=x", hanging.URL}, &out, &errs)
	if code != exitFailure || !strings.Contains(errs.String(), "not finished in time") {
		t.Errorf("exit code %d, %s%s", code, &out, &errs)
	}
}

func TestRun_authenticatesTheClient(t *testing.T) {
	for _, c := range []struct {
		auth        string
		basic, post string // the secret where it should be
	}{{"none", "", ""}, {"basic", "s%26c", ""}, {"post", "", "s&c"}} {
		t.Run(c.auth, func(t *testing.T) {
			n := &naive{window: true}
			url := n.start(t)
			var out, errs strings.Builder
			code := run(t.Context(), []string{
				"--auth=" + c.auth, "--client-id=app", "--client-secret=s&c", "--scope=openid", "--header=X-Tenant: blue",
				"--scenario=chain", "--token=" + n.logIn(), url + "/token",
			}, &out, &errs)
			if code != exitOK {
				t.Fatalf("exit code %d, %s%s", code, &out, &errs)
			}
			r := n.calls[0]
			_, basic, _ := r.BasicAuth()
			if basic != c.basic || r.Form.Get("client_secret") != c.post || (c.auth != "basic") != (r.Form.Get("client_id") == "app") {
				t.Errorf("basic %q, form %v", basic, r.Form)
			}
			if r.Header.Get("X-Tenant") != "blue" || r.Form.Get("scope") != "openid" || r.Form.Get("grant_type") != "refresh_token" {
				t.Errorf("header %v, form %v", r.Header, r.Form)
			}
		})
	}
}

func TestSupply_takesTokensFromAFileAndFromACommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("one\ntwo\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	from := func(o *options) []string {
		var got []string
		s := newSupply(o, newTarget(o))
		for range 4 {
			token, err := s.next(t.Context())
			if err != nil {
				return append(got, err.Error())
			}
			got = append(got, token)
		}
		return got
	}
	if got := from(&options{tokens: []string{"zero"}, tokenFile: file}); !slices.Equal(got, []string{"zero", "one", "two", errNoToken.Error()}) {
		t.Errorf("from a flag and a file: %q", got)
	}
	if got := from(&options{loginCommand: "echo fresh"}); !slices.Equal(got, []string{"fresh", "fresh", "fresh", "fresh"}) {
		t.Errorf("from a command: %q", got)
	}
}

func TestReport_isJSONForMachines(t *testing.T) {
	n := &naive{window: true}
	url := n.start(t)
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"--json", "--scenario=chain", "--token=" + n.logIn(), url + "/token"}, &out, &errs); code != exitOK {
		t.Fatalf("exit code %d, %s%s", code, &out, &errs)
	}
	var r report
	if err := json.Unmarshal([]byte(out.String()), &r); err != nil {
		t.Fatal(err)
	}
	if r.Good != 1 || r.Found != 0 || len(r.Results) != 1 || r.Results[0].Scenario != "chain" || r.Results[0].Verdict != good {
		t.Errorf("got %+v", r)
	}
}

// What a server writes does not reach a terminal as it is, and no token is
// printed.
func TestReport_printsNeitherControlCharactersNorTokens(t *testing.T) {
	const token = "the-secret-token"
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"\u001b[2Jcleared"}`)
	}))
	defer rude.Close()
	var out, errs strings.Builder
	run(context.Background(), []string{"--scenario=chain", "--token=" + token, rude.URL}, &out, &errs)
	if text := out.String() + errs.String(); strings.Contains(text, "\x1b") || strings.Contains(text, token) || !strings.Contains(text, "cleared") {
		t.Errorf("printed %q", text)
	}
}

func TestPause_endsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	pause(ctx, time.Hour)
	pause(t.Context(), time.Nanosecond)
}

// The first-party API may stand under a path of its own.
func TestParse_theOthersAreBesideTheURL(t *testing.T) {
	o, err := parse([]string{"--i-own-this-server", "--style=v1", "--email=ada@example.com", "--password=x", "https://auth.example.com/auth/v1/refresh"}, io.Discard)
	if err != nil || o.revokeURL != "https://auth.example.com/auth/v1/logout" {
		t.Errorf("%q, %v", o.revokeURL, err)
	}
	if to := o.beside("login"); to != "https://auth.example.com/auth/v1/login" {
		t.Errorf("login at %q", to)
	}
}
