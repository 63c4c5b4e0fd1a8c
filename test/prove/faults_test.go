package prove

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// fault is something that happens to one message, once.
type fault struct {
	name string
	act  faultproxy.Act
	to   faultproxy.Direction // 0: either way
	// then is what befalls the connections that are opened afterwards.
	then faultproxy.Act
	// refused: how many of them.
	refused int
	// slow faults cost everybody's patience: half a minute each.
	slow bool
}

var faults = []fault{
	{name: "cut", act: faultproxy.Cut()},
	{name: "cut after it was sent", act: faultproxy.CutAfter(), to: faultproxy.ToServer},
	{name: "late", act: faultproxy.Delay(30 * time.Millisecond)},
	{name: "swallowed", act: faultproxy.Mute(), slow: true},
	{name: "serialization failure", act: faultproxy.Fail("40001"), to: faultproxy.ToServer},
	{name: "deadlock", act: faultproxy.Fail("40P01"), to: faultproxy.ToServer},
	{name: "read-only server", act: faultproxy.Fail("25006"), to: faultproxy.ToServer},
	{name: "shutdown", act: faultproxy.Fatal("57P01")},
	{name: "cut, then too many connections", act: faultproxy.Cut(), then: faultproxy.Fatal("53300"), refused: 2},
	{name: "committed here, perhaps not on the standby", act: faultproxy.Warn(), to: faultproxy.ToClient},
}

// lab is one node behind a fault proxy.
type lab struct {
	*testing.T
	*node
	proxy *faultproxy.Proxy
	http  *http.Client
}

func newLab(t *testing.T, database string) *lab {
	t.Helper()
	proxy := faultproxy.New(t, database)
	n := start(t, plan{database: proxy.URL, dir: t.TempDir(), conns: 12, apart: database})
	return &lab{T: t, node: n, proxy: proxy, http: newHTTP(t)}
}

// breakAt arms the proxy: the k-th message from now on suffers f, not counting
// those that before deals with. fired tells whether it came to that.
func (l *lab) breakAt(k int, f fault, before faultproxy.Script) (fired *atomic.Bool) {
	fired = &atomic.Bool{}
	count, refused := 0, 0
	l.proxy.Arm(func(m faultproxy.Message) faultproxy.Act {
		if before != nil {
			if act := before(m); act != (faultproxy.Act{}) {
				return act
			}
		}
		if fired.Load() {
			if m.Kind == 0 && refused < f.refused {
				refused++
				return f.then
			}
			return faultproxy.Act{}
		}
		if f.to != 0 && m.Direction != f.to {
			return faultproxy.Act{}
		}
		if count++; count < k {
			return faultproxy.Act{}
		}
		fired.Store(true)
		return f.act
	})
	return fired
}

// mostMessages is more than any operation needs. What comes after it is of the node itself,
// which looks for news of the feed while a slow operation is under way.
const mostMessages = 200

// Whatever happens to whichever message between a node and its Postgres, a
// client that tries again with the same token and the same key is answered, with
// exactly one successor, and what was acknowledged stands.
func TestFaults_atEveryMessage(t *testing.T) {
	shared := database(t)
	seed := provetest.Seed(t)
	for i, f := range faults {
		t.Run("postgres/"+f.name, func(t *testing.T) {
			t.Parallel()
			dice := provetest.Dice(seed, i)
			if !f.slow {
				l := newLab(t, shared)
				for _, op := range operations() {
					if op.apart {
						own := newLab(t, database(t))
						own.atEvery(op, f, dice)
						own.finish(f)
						continue
					}
					l.atEvery(op, f, dice)
				}
				l.finish(f)
				return
			}
			for n, op := range operations() {
				t.Run(op.name, func(t *testing.T) {
					t.Parallel()
					// A database of its own: what is swallowed may hold a row that others
					// need for as long as it takes to be noticed.
					l := newLab(t, database(t))
					// The same of operations: those of one list share what they know.
					l.atEvery(operations()[n], f, provetest.Dice(seed, len(faults)+n))
					l.finish(f)
				})
			}
		})
	}
}

// atEvery has an operation survive f at the messages whose turn it is, and at one of them
// at least.
func (l *lab) atEvery(op operation, f fault, dice *rand.Rand) {
	l.Helper()
	step := op.step(f, provetest.Effort(l))
	broken := 0
	k := 1 + dice.IntN(step)
	for k <= max(step, mostMessages) && l.survives(op, f, k) {
		broken++
		k += step
	}
	for most := k; broken == 0; { // it has fewer than that
		if most--; most == 0 {
			l.Fatalf("%s: not one message was broken", op.name)
		}
		most = 1 + dice.IntN(most)
		if l.survives(op, f, most) {
			broken++
		}
	}
	provetest.Figure(l, "faults at a message of the database protocol, "+f.name, broken)
}

// finish wants nothing left behind.
func (l *lab) finish(f fault) {
	l.Helper()
	if n := l.proxy.Cancels(); n > 0 {
		l.Errorf("%d cancel requests were sent, want none", n)
	}
	if kind := f.then.Kind(); kind != "" && l.proxy.Injected()[kind] == 0 {
		l.Errorf("not one connection was answered with %s", kind)
	}
	auditAll(l, l.in.Engine)
}

// survives runs an operation whose k-th message suffers f; false when it has
// fewer messages.
func (l *lab) survives(op operation, f fault, k int) bool {
	l.Helper()
	try, check := op.new(l)
	var before faultproxy.Script
	if op.path != nil {
		before = op.path()
	}
	fired := l.breakAt(k, f, before)
	var answer provetest.Answer
	for deadline := time.Now().Add(3 * time.Minute); ; {
		ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
		a, err := try(ctx)
		cancel()
		if err == nil && a.Status < 500 {
			answer = a
			break
		}
		if err == nil && (a.Header.Get("Retry-After") == "" || a.Header.Get("Set-Cookie") != "") {
			l.Fatalf("%s, message %d: trouble without Retry-After, or with a cookie: %v", op.name, k, a.Header)
		}
		if time.Now().After(deadline) {
			l.Fatalf("%s, message %d: no answer: %v %s", op.name, k, err, a)
		}
	}
	l.proxy.Arm(nil)
	if answer.Status != op.want {
		l.Fatalf("%s, message %d: %s; want %d", op.name, k, answer, op.want)
	}
	check(answer)
	return fired.Load()
}

// A refresh asks its database for one statement, which commits by itself.
func TestRefresh_costsOneStatement(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		l := newLab(t, database(t))
		token := person(t, l.http, l.url, crand.Text()+"@example.com").Field("refresh_token")
		alone := 0
		for n := 0; n < 20 || alone < 10 && n < 200; n++ {
			var asked []string
			l.proxy.Arm(func(m faultproxy.Message) faultproxy.Act {
				if m.Direction == faultproxy.ToServer && (m.Kind == 'Q' || m.Kind == 'E' || m.Kind == 'P') {
					asked = append(asked, fmt.Sprintf("%c %s", m.Kind, m.Label))
				}
				return faultproxy.Act{}
			})
			a, err := l.refreshed(token)
			l.proxy.Arm(nil)
			if err != nil {
				t.Fatal(err)
			}
			l.wantNext(token, a)
			token = a.Field("refresh_token")
			// Now and then a connection meets the statement for the first time, or the
			// revocation feed asks for news meanwhile; neither is of the refresh.
			statements := slices.DeleteFunc(slices.Clone(asked), func(what string) bool {
				return what[0] == 'P' || !strings.HasPrefix(what[2:], "refresh.")
			})
			if !slices.Equal(statements, []string{"E " + batch}) {
				t.Errorf("a refresh asked for %q of its own, want %s and nothing else", statements, batch)
			}
			if slices.Equal(asked, []string{"E " + batch}) {
				alone++
			} else {
				t.Logf("beside others: %q", asked)
			}
		}
		if alone < 10 {
			t.Errorf("%d refreshes asked for %s and nothing else, want 10", alone, batch)
		}
	})
}
