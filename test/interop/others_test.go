package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
)

// checker is a verifier outside this process.
type checker interface{ check(token string) error }

// other is one of them with its row.
type other struct {
	checker
	row *row
}

// judge shows a specimen. Trouble counts against a tool in every column: a
// token must be refused, not lost.
func (o *other) judge(s specimen) {
	err := o.check(s.token)
	o.row.judge(s, err)
	var t *trouble
	if errors.As(err, &t) {
		c := o.row.cells[s.column]
		c.wrong = append(c.wrong, fmt.Sprintf("%s: %v", s.what, t))
	}
}

// playOthers shows the specimens and then the tape to every verifier that is a
// process of its own. Their clocks are moved together.
func playOthers(t *testing.T, shown []specimen, tape *recording) {
	dir := shortTempDir(t)
	clock := newFalseClock(t, dir)
	clock.moveTo(t, tape.moments[0].at)
	url := serveKeySet(t, tape, clock)
	env := func(monotonic bool) []string {
		return append(clock.environment(monotonic), "ISSUER="+issuerURL, "AUDIENCE="+audience, "JWKS="+url, "PYTHONDONTWRITEBYTECODE=1")
	}
	toyAPI(t, dir)
	hap := startHAProxy(t, dir, clock, tape.moments[0])
	node, python := setting(t, "INTEROP_NODE"), setting(t, "INTEROP_PYTHON")
	var all []*other
	add := func(name string, c checker, remarks map[string]string) {
		all = append(all, &other{c, results.row(name, remarks)})
	}
	child := func(name string, remarks map[string]string, monotonic bool, command ...string) {
		add(name, startChild(t, name, env(monotonic), command...), remarks)
	}
	add("nginx auth_request", startNginx(t, dir, clock, tape), nil)
	add("HAProxy jwt_verify", hap, map[string]string{
		expired:  "jwt_verify checks signatures only; the snippet compares exp with the time",
		wrongAud: "the same; the snippet compares aud, as one string", wrongIss: "the same; the snippet compares iss",
		wrongTyp: readsHeader, rotation: "it never fetches; keys are exported twice a day and loaded by a restart",
	})
	child("jose", nil, false, node, "node/jose.mjs")
	child("express-oauth2-jwt-bearer", nil, false, node, "node/express-oauth2-jwt-bearer.mjs")
	child("fast-jwt", nil, false, node, "node/fast-jwt.mjs")
	child("PyJWT", map[string]string{wrongTyp: readsHeader}, true, python, "python/pyjwt_check.py")
	child("Authlib", map[string]string{
		wrongTyp: "it refuses a wrong typ but takes a missing one; the snippet reads the header",
		otherAlg: "it has no allow-list here; the snippet leaves only ES256 keys in the set",
	}, false, python, "python/authlib_check.py")
	child("nimbus-jose-jwt", nil, false, setting(t, "INTEROP_JAVA"), "-XX:TieredStopAtLevel=1", "-cp", setting(t, "INTEROP_CLASSPATH"), "Nimbus")

	for _, s := range shown {
		clock.moveTo(t, tape.moments[0].at) // it runs on, and this machine may be slow
		together(all, func(o *other) { o.judge(s) })
	}
	for n, m := range tape.moments {
		clock.moveTo(t, m.at)
		hap.job(m)
		together(all, func(o *other) { tape.at(n, o.judge) })
	}
	fmt.Printf("HAProxy was restarted for new keys %d times in %s\n", hap.starts-1, tape.moments[len(tape.moments)-1].at.Sub(tape.moments[0].at))
}

// together lets every verifier do its part at the same time.
func together(all []*other, do func(*other)) {
	var wait sync.WaitGroup
	for _, o := range all {
		wait.Go(func() { do(o) })
	}
	wait.Wait()
}

// serveKeySet serves the tape on a loopback port, at the time of the clock.
func serveKeySet(t testing.TB, tape *recording, clock *falseClock) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, header, body := tape.answer(clock.Now(), r)
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}))
	return "http://" + l.Addr().String() + "/.well-known/jwks.json"
}

// shortTempDir is a directory whose sockets fit into 107 bytes.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "interop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if strings.ContainsAny(dir, " ;{}") {
		t.Fatalf("the temporary directory %q cannot be written into a configuration", dir)
	}
	return dir
}

// playMLDSA shows the tokens of a server that signs with ML-DSA-44 to jose, on
// a Node.js that has it.
func playMLDSA(t *testing.T, shown []specimen, tape *recording) {
	dir := shortTempDir(t)
	clock := newFalseClock(t, dir)
	clock.moveTo(t, tape.moments[0].at)
	env := append(clock.environment(false), "ISSUER="+issuerURL, "AUDIENCE="+audience, "JWKS="+serveKeySet(t, tape, clock))
	o := &other{
		startChild(t, "jose, ML-DSA-44", env, setting(t, "INTEROP_NODE_ML_DSA"), "node/jose-ml-dsa.mjs"),
		results.row("jose, ML-DSA-44", nil),
	}
	for _, s := range shown {
		clock.moveTo(t, tape.moments[0].at)
		o.judge(s)
	}
	for n, m := range tape.moments {
		clock.moveTo(t, m.at)
		tape.at(n, o.judge)
	}
}
