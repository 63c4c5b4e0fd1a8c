package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Streams as go test -json writes them, without the times.
const (
	goodPackage = `{"Action":"start","Package":"m/refresh"}
{"Action":"run","Package":"m/refresh","Test":"TestRotate"}
{"Action":"output","Package":"m/refresh","Test":"TestRotate","Output":"=== RUN   TestRotate\n"}
{"Action":"run","Package":"m/refresh","Test":"TestRotate/postgres"}
{"Action":"pass","Package":"m/refresh","Test":"TestRotate/postgres","Elapsed":0.1}
{"Action":"run","Package":"m/refresh","Test":"TestRotate/sqlite"}
{"Action":"pass","Package":"m/refresh","Test":"TestRotate/sqlite","Elapsed":0.1}
{"Action":"pass","Package":"m/refresh","Test":"TestRotate","Elapsed":0.2}
{"Action":"run","Package":"m/refresh","Test":"TestJudge"}
{"Action":"pass","Package":"m/refresh","Test":"TestJudge","Elapsed":0}
{"Action":"output","Package":"m/refresh","Output":"PASS\n"}
{"Action":"output","Package":"m/refresh","Output":"ok  \tm/refresh\t0.300s\n"}
{"Action":"pass","Package":"m/refresh","Elapsed":0.3}
`
	failingPackage = `{"Action":"run","Package":"m/keys","Test":"TestRing"}
{"Action":"output","Package":"m/keys","Test":"TestRing","Output":"    ring_test.go:9: want 2 keys, got 1\n"}
{"Action":"output","Package":"m/keys","Test":"TestRing","Output":"--- FAIL: TestRing (0.00s)\n"}
{"Action":"fail","Package":"m/keys","Test":"TestRing","Elapsed":0}
{"Action":"output","Package":"m/keys","Output":"FAIL\n"}
{"Action":"output","Package":"m/keys","Output":"FAIL\tm/keys\t0.010s\n"}
{"Action":"fail","Package":"m/keys","Elapsed":0.01}
`
	panickingPackage = `{"Action":"run","Package":"m/jobs","Test":"TestLease"}
{"Action":"output","Package":"m/jobs","Test":"TestLease","Output":"panic: lost\n"}
{"Action":"output","Package":"m/jobs","Output":"FAIL\tm/jobs\t0.010s\n"}
{"Action":"fail","Package":"m/jobs","Elapsed":0.01}
`
	brokenBuild = `{"ImportPath":"m/mail","Action":"build-output","Output":"# m/mail\n"}
{"ImportPath":"m/mail","Action":"build-output","Output":"mail/mail.go:3:1: syntax error\n"}
{"ImportPath":"m/mail","Action":"build-fail"}
{"Action":"output","Package":"m/mail","Output":"FAIL\tm/mail [build failed]\n"}
{"Action":"fail","Package":"m/mail","Elapsed":0,"FailedBuild":"m/mail"}
`
	countingPackage = `{"Action":"run","Package":"m/prove","Test":"TestKills"}
{"Action":"run","Package":"m/prove","Test":"TestKills/postgres"}
{"Action":"output","Package":"m/prove","Test":"TestKills/postgres","Output":"    kills_test.go:9: figure: kills of a node: 2\n"}
{"Action":"pass","Package":"m/prove","Test":"TestKills/postgres","Elapsed":0.1}
{"Action":"run","Package":"m/prove","Test":"TestKills/sqlite"}
{"Action":"output","Package":"m/prove","Test":"TestKills/sqlite","Output":"    kills_test.go:9: figure: kills of a node: 3\n"}
{"Action":"output","Package":"m/prove","Test":"TestKills/sqlite","Output":"    effort.go:9: seed 17 (SEED=17 replays the choices)\n"}
{"Action":"output","Package":"m/prove","Test":"TestKills/sqlite","Output":"    kills_test.go:9: figure: a line that says: nothing\n"}
{"Action":"pass","Package":"m/prove","Test":"TestKills/sqlite","Elapsed":0.1}
{"Action":"pass","Package":"m/prove","Test":"TestKills","Elapsed":0.1}
{"Action":"output","Package":"m/prove","Output":"ok  \tm/prove\t0.1s\n"}
{"Action":"pass","Package":"m/prove","Elapsed":0.1}
`
	slowPackage = `{"Action":"run","Package":"m/e2e","Test":"TestLong"}
{"Action":"run","Package":"m/e2e","Test":"TestLong/part"}
{"Action":"pass","Package":"m/e2e","Test":"TestLong/part","Elapsed":12}
{"Action":"pass","Package":"m/e2e","Test":"TestLong","Elapsed":12}
{"Action":"run","Package":"m/e2e","Test":"TestLonger"}
{"Action":"pass","Package":"m/e2e","Test":"TestLonger","Elapsed":63.25}
{"Action":"output","Package":"m/e2e","Output":"ok  \tm/e2e\t75.3s\n"}
{"Action":"pass","Package":"m/e2e","Elapsed":75.3}
`
	skippingPackage = `{"Action":"run","Package":"m/store/sqlite","Test":"TestBusy"}
{"Action":"skip","Package":"m/store/sqlite","Test":"TestBusy","Elapsed":0}
{"Action":"output","Package":"m/store/sqlite","Output":"PASS\n"}
{"Action":"output","Package":"m/store/sqlite","Output":"ok  \tm/store/sqlite\t0.1s\n"}
{"Action":"pass","Package":"m/store/sqlite","Elapsed":0.1}
`
)

func TestRead_showsWhatGoTestShowsAndCounts(t *testing.T) {
	for _, c := range []struct {
		name, stream, want string
	}{
		{"good", goodPackage, `ok  	m/refresh	0.300s

on postgres: 1 passed, 0 failed, 0 skipped
on sqlite:   1 passed, 0 failed, 0 skipped
3 passed, 0 failed, 0 skipped
`},
		{"counting", countingPackage, `ok  	m/prove	0.1s

seed 17 of TestKills/sqlite
         5  kills of a node
on postgres: 1 passed, 0 failed, 0 skipped
on sqlite:   1 passed, 0 failed, 0 skipped
2 passed, 0 failed, 0 skipped
`},
		{"slow", slowPackage, `ok  	m/e2e	75.3s

slow:  63.2 s  m/e2e TestLonger
slow:  12.0 s  m/e2e TestLong/part
on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 0 skipped
2 passed, 0 failed, 0 skipped
`},
		{"failing", failingPackage, `    ring_test.go:9: want 2 keys, got 1
--- FAIL: TestRing (0.00s)
FAIL
FAIL	m/keys	0.010s

on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 0 skipped
0 passed, 1 failed, 0 skipped
`},
		{"panicking", panickingPackage, `panic: lost
FAIL	m/jobs	0.010s

on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 0 skipped
0 passed, 1 failed, 0 skipped
`},
		{"not building", brokenBuild, `# m/mail
mail/mail.go:3:1: syntax error
FAIL	m/mail [build failed]

on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 0 skipped
0 passed, 1 failed, 0 skipped
`},
		{"skipping", skippingPackage, `ok  	m/store/sqlite	0.1s

on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 1 skipped
skipped: m/store/sqlite TestBusy
0 passed, 0 failed, 1 skipped
`},
		{"the go command's own words", "go: updates to go.mod needed\n", `go: updates to go.mod needed

on postgres: 0 passed, 0 failed, 0 skipped
on sqlite:   0 passed, 0 failed, 0 skipped
0 passed, 0 failed, 0 skipped
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			sum, err := read(strings.NewReader(c.stream), &out)
			if err != nil {
				t.Fatal(err)
			}
			sum.print(&out)
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerdict_aSuiteThatDidNotRunIsNotGreen(t *testing.T) {
	for _, c := range []struct {
		name, stream    string
		stores, noSkips bool
		want            string // in the error; "" for none
	}{
		{"everything ran", goodPackage, true, true, ""},
		{"nothing on postgres", skippingPackage, true, false, "no test passed on postgres"},
		{"nothing on postgres, and nobody asked", skippingPackage, false, false, ""},
		{"a skip", goodPackage + skippingPackage, true, true, "1 skipped"},
		{"a skip at home", goodPackage + skippingPackage, true, false, ""},
		{"a failure", goodPackage + failingPackage, true, true, "1 failed"},
		{"a panic", goodPackage + panickingPackage, true, true, "1 failed"},
		{"a broken build", goodPackage + brokenBuild, true, true, "1 failed"},
		{"an empty stream", "", true, true, "no test passed on postgres"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum, err := read(strings.NewReader(c.stream), new(strings.Builder))
			if err != nil {
				t.Fatal(err)
			}
			err = sum.verdict(c.stores, c.noSkips)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("want no complaint, got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("want a complaint with %q, got %v", c.want, err)
			}
		})
	}
}
