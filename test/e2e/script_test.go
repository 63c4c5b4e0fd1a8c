package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
)

// The files under testdata are stories in the language of testscript, run
// against the real binary, each on both engines. Beside its own commands there
// are:
//
//	server [SETTING=value ...]   start the server and wait until it is ready
//	terminate                    SIGTERM, and wait; its log is then stdout of `log`
//	http [-H 'Name: value'] METHOD PATH [BODY]
//	status N                     of the last answer
//	code NAME                    problem+json of that code, complete
//	[!] header NAME REGEXP       of the last answer
//	[!] body REGEXP
//	json PATH REGEXP             a member of the body, as sessions.0.id; PATH alone: it exists
//	! json PATH                  it does not exist
//	save VAR PATH                keep a member in $VAR
//	saveheader VAR NAME REGEXP   keep the first group of a header
//	savefile VAR FILE            keep the first line of a file, or of stdout
//	eventually REGEXP COMMAND    run a command until its output matches
//	ops PATH                     GET on the operations listener
//	ops [-H 'Name: value'] METHOD PATH [BODY]
//	pause DURATION
//	log REGEXP                   the server's log so far matches
func TestScripts(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Dir:                 "testdata",
				RequireExplicitExec: true,
				RequireUniqueNames:  true,
				Condition:           func(name string) (bool, error) { return name == engine, nil },
				Setup:               func(e *testscript.Env) error { return setUp(t, engine, e) },
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"server": cmdServer, "terminate": cmdTerminate, "http": cmdHTTP, "ops": cmdOps, "status": cmdStatus, "code": cmdCode,
					"header": cmdHeader, "body": cmdBody, "json": cmdJSON, "save": cmdSave, "saveheader": cmdSaveHeader,
					"savefile": cmdSaveFile, "eventually": cmdEventually, "pause": cmdPause, "log": cmdLog,
				},
			})
		})
	}
}

// story is the state of one script.
type story struct {
	t    testing.TB
	node *node
	last answer
}

func setUp(t *testing.T, engine string, e *testscript.Env) error {
	inner, ok := e.T().(testing.TB)
	if !ok {
		inner = t
	}
	s := &story{t: inner, node: newNode(inner)}
	if engine == "postgres" {
		s.node.env = append(s.node.env, "AUTHSERVER_DATABASE_URL="+storetest.Postgres(inner), "AUTHSERVER_DATABASE_CONNS=8")
	}
	s.node.Dir = e.WorkDir
	for i, kv := range s.node.env {
		if strings.HasPrefix(kv, "AUTHSERVER_DATA_DIR=") {
			s.node.env[i] = "AUTHSERVER_DATA_DIR=" + filepath.Join(e.WorkDir, "data")
		}
	}
	e.Values["story"] = s
	e.Vars = append(e.Vars, s.node.env...)
	e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
	e.Setenv("URL", s.node.URL)
	e.Setenv("OPS", s.node.Ops)
	e.Setenv("PASSWORD", goodPassword)
	e.Setenv("ENGINE", engine)
	return nil
}

func of(ts *testscript.TestScript) *story { return ts.Value("story").(*story) }

func noNeg(ts *testscript.TestScript, neg bool, name string) {
	if neg {
		ts.Fatalf("unsupported: ! %s", name)
	}
}

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "server")
	s := of(ts)
	env := s.node.env
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		ts.Setenv("AUTHSERVER_"+name, value) // the command line works with the same settings
		env = append(env, "AUTHSERVER_"+a)
	}
	s.node.env = env
	s.node.start()
}

func cmdTerminate(ts *testscript.TestScript, neg bool, _ []string) {
	noNeg(ts, neg, "terminate")
	if code := of(ts).node.terminate(); code != 0 {
		ts.Fatalf("exit code %d after SIGTERM", code)
	}
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "http")
	s := of(ts)
	ask := func() (answer, error) { return request(ts, s.node.URL, args), nil }
	if slices.Contains(args, "/v1/refresh") { // see refresh
		s.last, _ = rig.Patiently(30*time.Second, ask)
	} else {
		s.last, _ = ask()
	}
	ts.Logf("%s", s.last)
}

func cmdOps(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "ops")
	s := of(ts)
	if len(args) == 1 {
		args = []string{"GET", args[0]}
	}
	s.last = request(ts, s.node.Ops, args)
	ts.Logf("%.300s", s.last)
}

// request sends [-H 'Name: value'] METHOD PATH [BODY].
func request(ts *testscript.TestScript, base string, args []string) answer {
	var header []string
	for len(args) > 1 && args[0] == "-H" {
		name, value, ok := strings.Cut(args[1], ":")
		if !ok {
			ts.Fatalf("-H %q: want Name: value", args[1])
		}
		header = append(header, name, strings.TrimSpace(value))
		args = args[2:]
	}
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: http [-H 'Name: value'] METHOD PATH [BODY]")
	}
	var body any
	if len(args) == 3 {
		body = args[2]
		if strings.HasPrefix(args[2], "@") {
			body = ts.ReadFile(args[2][1:])
		}
	}
	a, err := call(args[0], base+args[1], body, header...)
	ts.Check(err)
	return a
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "status")
	if a := of(ts).last; strconv.Itoa(a.Status) != args[0] {
		ts.Fatalf("status %d, want %s: %s", a.Status, args[0], a.Body)
	}
}

// cmdCode wants a whole problem (RFC 9457) of that code.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "code")
	a := of(ts).last
	if got := a.Field("code"); got != args[0] {
		ts.Fatalf("code %q, want %q: %s", got, args[0], a)
	}
	if ct := a.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/problem+json") {
		ts.Fatalf("content type %q, want application/problem+json", ct)
	}
	for _, member := range []string{"type", "title", "status", "request_id"} {
		if a.Field(member) == "" {
			ts.Fatalf("the problem has no %s: %s", member, a.Body)
		}
	}
	if id := a.Header.Get("X-Request-Id"); id == "" || id != a.Field("request_id") {
		ts.Fatalf("request_id %q in the body, %q in the header", a.Field("request_id"), id)
	}
	if a.Field("status") != strconv.Itoa(a.Status) {
		ts.Fatalf("status %s in the body, %d in the answer", a.Field("status"), a.Status)
	}
	if (a.Status == 429 || a.Status == 503) && a.Header.Get("Retry-After") == "" {
		ts.Fatalf("%d without Retry-After", a.Status)
	}
	if a.Status == 401 && a.Header.Get("Set-Cookie") != "" || a.Status == 503 && a.Header.Get("Set-Cookie") != "" {
		ts.Fatalf("%d touches a cookie: %s", a.Status, a.Header.Get("Set-Cookie"))
	}
}

func match(ts *testscript.TestScript, neg bool, what, text, pattern string) {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	if re.MatchString(text) == neg {
		not := ""
		if neg {
			not = "not "
		}
		ts.Fatalf("%s is %q; want it %sto match %s", what, text, not, pattern)
	}
}

func cmdHeader(ts *testscript.TestScript, neg bool, args []string) {
	values := of(ts).last.Header.Values(args[0])
	pattern := "."
	if len(args) > 1 {
		pattern = args[1]
	}
	match(ts, neg, args[0], strings.Join(values, "\n"), pattern)
}

func cmdBody(ts *testscript.TestScript, neg bool, args []string) {
	match(ts, neg, "the body", string(of(ts).last.Body), args[0])
}

// lookUp finds a member by a dotted path.
func lookUp(body []byte, path string) (string, bool) {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return "", false
	}
	for step := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			next, ok := node[step]
			if !ok {
				return "", false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(node) {
				return "", false
			}
			v = node[i]
		default:
			return "", false
		}
	}
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		text, _ := json.Marshal(v)
		return string(text), true
	}
}

func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	a := of(ts).last
	value, ok := lookUp(a.Body, args[0])
	if len(args) == 1 {
		if ok == neg {
			ts.Fatalf("%s: present is %v: %s", args[0], ok, a.Body)
		}
		return
	}
	if !ok {
		ts.Fatalf("there is no %s: %s", args[0], a.Body)
	}
	match(ts, neg, args[0], value, "^(?:"+args[1]+")$")
}

func cmdSave(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "save")
	a := of(ts).last
	value, ok := lookUp(a.Body, args[1])
	if !ok {
		ts.Fatalf("there is no %s: %s", args[1], a.Body)
	}
	ts.Setenv(args[0], value)
}

func cmdSaveHeader(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "saveheader")
	text := strings.Join(of(ts).last.Header.Values(args[1]), "\n")
	m := regexp.MustCompile(args[2]).FindStringSubmatch(text)
	if len(m) < 2 {
		ts.Fatalf("%s is %q; want a group of %s", args[1], text, args[2])
	}
	ts.Setenv(args[0], m[1])
}

func cmdSaveFile(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "savefile")
	first, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], first)
}

// cmdEventually waits for what happens in the background of the server.
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "eventually")
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && re.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("in 30s the output did not match %s: %v\n%s", args[0], err, out)
		}
	}
}

func cmdPause(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg, "pause")
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(d)
}

func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	match(ts, neg, "the log", of(ts).node.log.String(), args[0])
}

// TestContract_theTableOfRoutesIsServed makes sure that no row of the contract
// is missing: every method and path answers with something else than 404 and 405.
func TestContract_theTableOfRoutesIsServed(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, settings...).start()
		for _, row := range []string{
			"POST /v1/users", "POST /v1/login", "POST /v1/refresh", "POST /v1/logout", "GET /v1/me", "POST /v1/me/password",
			"GET /v1/sessions", "DELETE /v1/sessions/00000000-0000-4000-8000-000000000000", "DELETE /v1/sessions?except=current", "GET /.well-known/jwks.json",
			"GET /v1/revocations", "GET /v1/revocations?after=0",
		} {
			method, path, _ := strings.Cut(row, " ")
			var body any
			if method == "POST" {
				body = "{}"
			}
			a, err := call(method, n.URL+path, body)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed || a.Status >= 500 {
				t.Errorf("%s: %s", row, a)
			}
		}
		for _, path := range []string{"/livez", "/readyz", "/metrics"} {
			a, err := call("GET", n.Ops+path, nil)
			if err != nil || a.Status != http.StatusOK {
				t.Errorf("%s on the operations listener: %v %s", path, err, a)
			}
			if a, err = call("GET", n.URL+path, nil); err != nil || a.Status != http.StatusNotFound {
				t.Errorf("%s on the public listener: %v %s; want 404", path, err, fmt.Sprint(a.Status))
			}
		}
		for _, path := range []string{"/admin/v1/users", "/admin/v1/sessions", "/admin/v1/keys", "/admin/v1/keys/refresh-1", "/admin/v1/audit"} {
			if a, err := call("GET", n.Ops+path, nil); err != nil || a.Status != http.StatusUnauthorized {
				t.Errorf("%s without a token: %v %s; want 401", path, err, a)
			}
			if a, err := call("GET", n.URL+path, nil); err != nil || a.Status != http.StatusNotFound {
				t.Errorf("%s on the public listener: %v %s; want 404", path, err, a)
			}
		}
	})
}
