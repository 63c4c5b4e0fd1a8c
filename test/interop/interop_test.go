// Package interop shows this server's tokens and key set to other people's
// verifiers; README.md says how.
package interop

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authserver/internal/keys"
	"example.com/authserver/test/interop/verifiers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	results.print(os.Stdout)
	os.Exit(code)
}

// TestInterop is everything: one server for each algorithm, one recording of
// three months, every verifier.
func TestInterop(t *testing.T) {
	server := openIssuer(t)
	shown, tape := server.specimens(keys.ES256, keys.RS256), record(t, server, keys.ES256)
	naive := tape.atOnce(t)
	t.Run("caches", func(t *testing.T) { playCaches(t, tape, naive) })
	t.Run("others", func(t *testing.T) { playOthers(t, shown, tape) })
	for _, tool := range inGo {
		t.Run(strings.Fields(tool.name)[0], func(t *testing.T) { tool.play(t, shown, tape, naive) })
	}

	server = openIssuer(t, keys.MLDSA44, keys.ES256)
	shown, tape = server.specimens(keys.MLDSA44, keys.ES256), record(t, server, keys.MLDSA44)
	t.Run("jose, ML-DSA-44", func(t *testing.T) { playMLDSA(t, shown, tape) })
	t.Run("verify, ML-DSA-44", func(t *testing.T) {
		goTool{"verify, ML-DSA-44", verifiers.VerifyMLDSA, nil}.play(t, shown, tape, tape.atOnce(t))
	})
	if n := results.failed(); n > 0 {
		t.Errorf("%d cells of the table failed", n)
	}
}

// goTool is a Go library. It runs in a bubble of testing/synctest, where
// time.Now, timers and tickers follow a false clock, and it asks the recorded
// server through its own http.Client.
type goTool struct {
	name    string
	open    verifiers.Open
	remarks map[string]string
}

const readsHeader = "it does not look at typ; the snippet reads the header"

var inGo = []goTool{
	{"verify", verifiers.Verify, nil},
	{"coreos/go-oidc v3", verifiers.GoOIDC, map[string]string{wrongTyp: readsHeader}},
	{"lestrrat-go/jwx v3", verifiers.JWX, map[string]string{
		wrongTyp: readsHeader, otherAlg: "it believes the alg of each key in the set; the snippet has the allow-list",
	}},
	{"MicahParks/keyfunc v3", verifiers.Keyfunc, map[string]string{wrongTyp: readsHeader}},
	{"auth0/go-jwt-middleware v2", verifiers.Auth0, map[string]string{wrongTyp: readsHeader}},
}

// play shows specimens and tape, and then another tape that counts for nothing
// but the last column.
func (g goTool) play(t *testing.T, shown []specimen, tape, naive *recording) {
	r := results.row(g.name, g.remarks)
	inBubble(t, tape, g.open, func(check verifiers.Check) {
		for _, s := range shown {
			r.judge(s, check(s.token))
		}
		tape.play(func(s specimen) { r.judge(s, check(s.token)) })
	})
	control := row{cells: map[string]*cell{}}
	inBubble(t, naive, g.open, func(check verifiers.Check) {
		naive.play(func(s specimen) { control.judge(s, check(s.token)) })
	})
	r.atOnce = fmt.Sprint(control.refusals(rotation))
}

// inBubble opens a verifier when the tape begins and ends what it left running.
func inBubble(t *testing.T, tape *recording, open verifiers.Open, use func(verifiers.Check)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(tape.moments[0].at)) // the bubble's clock: this takes no time
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		check, err := open(ctx, &http.Client{Transport: tape}, verifiers.Settings{
			Issuer: issuerURL, Audience: audience, JWKS: issuerURL + "/.well-known/jwks.json",
		})
		if err != nil {
			t.Fatal(err)
		}
		use(check)
	})
}

// play waits, by the clock of a bubble, for each moment of the tape and shows
// the tokens that are alive then.
func (r *recording) play(show func(specimen)) {
	for n, m := range r.moments {
		time.Sleep(time.Until(m.at))
		r.at(n, show)
	}
}

// at shows the tokens that are alive at one moment.
func (r *recording) at(n int, show func(specimen)) {
	for _, m := range r.alive(n) {
		what := fmt.Sprintf("a good token at %s, minted %s before", r.moments[n].at.Format(time.RFC3339), r.moments[n].at.Sub(m.at))
		show(specimen{rotation, what, m.token})
	}
}
