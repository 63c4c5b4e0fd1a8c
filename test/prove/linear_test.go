package prove

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/store"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// The shape of a history.
const (
	clients      = 4
	actsOfClient = 10
	usersAtOnce  = 6
	roundsAtOne  = 2 // at an effort of 1
)

// setting is where histories are made.
type setting struct {
	rules     rules
	nodes     []*node
	proxies   []*faultproxy.Proxy
	faults    int     // one message in so many suffers one; 0: none does
	impatient float64 // share of the requests that are given up within milliseconds
}

// What clients see of several nodes on one Postgres is what one node could have
// said that answers one request after the other: refreshes, retries with and
// without a key, strangers with stolen tokens, logouts, bans, password changes
// and logins at once, while connections are cut and clients give up.
func TestHistories_areLinearizable(t *testing.T) {
	all := heard{said: map[string]int{}}
	for _, c := range []struct {
		name   string
		window time.Duration
		faults int
	}{
		{"postgres/whole network", 90 * time.Second, 0},
		{"postgres/short retry window", 300 * time.Millisecond, 0},
		{"postgres/broken connections", 90 * time.Second, 150},
		{"postgres/broken connections and a short window", 300 * time.Millisecond, 150},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := database(t)
			s := setting{rules: rules{window: c.window, outages: c.faults > 0}, faults: c.faults, impatient: 0.06}
			for range 3 {
				url := database
				if c.faults > 0 {
					p := faultproxy.New(t, database)
					s.proxies = append(s.proxies, p)
					url = p.URL
				}
				s.nodes = append(s.nodes, start(t, plan{database: url, dir: t.TempDir(), conns: 12, window: c.window, apart: database}))
			}
			s.prove(t, &all)
		})
	}
	for _, c := range []struct {
		name   string
		window time.Duration
	}{
		{"sqlite/long retry window", 90 * time.Second},
		{"sqlite/short retry window", 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := setting{rules: rules{window: c.window}, impatient: 0.06}
			s.nodes = []*node{start(t, plan{dir: t.TempDir(), window: c.window})}
			s.prove(t, &all)
		})
	}
	all.enough(t)
}

// heard is what refreshes were answered in all settings together, by code.
type heard struct {
	histories int
	said      map[string]int
}

// enough wants each answer often: where nobody is refused the rule is hardly
// asked. Some eight of a dozen histories have a reuse; the dozen of one setting
// may by chance have one or two, those of six settings do not.
func (h *heard) enough(t *testing.T) {
	t.Helper()
	if h.histories < 60 { // one setting alone
		return
	}
	for _, code := range []string{"", codes[refresh.Reused], codes[refresh.Revoked]} {
		if h.said[code] < h.histories/6 {
			t.Errorf("%d histories have %d refreshes that were answered %q; want at least %d: %v", h.histories, h.said[code], code, h.histories/6, h.said)
		}
	}
}

func (s setting) prove(t *testing.T, all *heard) {
	seed := provetest.Seed(t)
	client := newHTTP(t)
	var urls []string
	for _, node := range s.nodes {
		urls = append(urls, node.url)
	}
	apis := rig.NewResourceServers(client, urls...)
	histories, strictly, operations, unknown := 0, 0, 0, 0
	var complaints [2]int64 // before the round before, and before this one
	for round := range roundsAtOne * provetest.Effort(t) {
		stories := make([]*story, usersAtOnce)
		complaints[0], complaints[1] = complaints[1], s.complaints()
		var busy sync.WaitGroup
		for i := range stories {
			busy.Go(func() { stories[i] = tell(t, s.nodes, client, apis, fmt.Sprintf("u%d-%d@example.com", round, i)) })
		}
		busy.Wait()
		if t.Failed() {
			return
		}
		s.arm(seed + uint64(round))
		for i, story := range stories {
			for c := range clients {
				busy.Go(func() {
					dice := provetest.Dice(seed, (round*usersAtOnce+i)*clients+c)
					for range actsOfClient {
						story.act(c+1, dice, s.impatient)
					}
				})
			}
		}
		busy.Wait()
		s.disarm()
		for _, story := range stories {
			busy.Go(func() { story.close(s.nodes[0]) })
		}
		busy.Wait()
		for _, story := range stories {
			histories++
			operations += len(story.ops)
			for _, op := range story.ops {
				if op.Output.(output).unknown {
					unknown++
				} else if op.Input.(input).op == opRefresh {
					all.said[op.Output.(output).code]++
				}
			}
			rules := s.rules
			// Everybody of this round came after what was complained of before the last one, and
			// the nodes have answered since.
			rules.outages = rules.outages || s.complaints() > complaints[0]
			if !rules.outages {
				strictly++
			}
			rules.check(t, story)
		}
		if t.Failed() {
			return
		}
	}
	all.histories += histories
	provetest.Figure(t, "histories checked without an outage in them", strictly)
	provetest.Figure(t, "histories checked", histories)
	provetest.Figure(t, "operations in them", operations)
	provetest.Figure(t, "operations without an answer", unknown)
	// A busy machine may bring an outage about, but not all the time.
	if s.faults == 0 && histories >= 10*usersAtOnce && strictly < histories/4 {
		t.Errorf("%d of %d histories were free of outages, though nothing was broken; want a quarter of them at least", strictly, histories)
	}
	// Where nothing is known every order agrees with the rule.
	if unknown > operations/2 {
		t.Errorf("%d of %d operations have no answer; want less than half", unknown, operations)
	}
	for _, p := range s.proxies {
		if len(p.Injected()) < 2 {
			t.Errorf("only %v befell the connections", p.Injected())
		}
		provetest.Figures(t, "faults at random messages", p.Injected())
	}
	auditAll(t, s.engine())
}

func (s setting) complaints() (n int64) {
	for _, node := range s.nodes {
		n += node.complaints.Load()
	}
	return n
}

func (s setting) engine() store.Engine { return s.nodes[0].in.Engine }

// check fails the test unless the model could have answered as the server did.
func (r rules) check(t *testing.T, s *story) {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(r.model(), torn(s.ops), 2*time.Minute) {
	case porcupine.Ok:
	case porcupine.Illegal:
		t.Errorf("%s: no order of these operations agrees with refresh.Judge:\n%s", s.email, spell(s.ops))
	default:
		t.Errorf("%s: undecided within two minutes:\n%s", s.email, spell(s.ops))
	}
}

func spell(ops []porcupine.Operation) string {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range ops {
		until := "never"
		if op.Return != never {
			until = time.Duration(op.Return).String()
		}
		fmt.Fprintf(&b, "%d: %s to %s: %v: %v\n", op.ClientId, time.Duration(op.Call), until, op.Input, op.Output)
	}
	return b.String()
}

// arm has messages suffer at random.
func (s setting) arm(seed uint64) {
	for i, p := range s.proxies {
		dice := provetest.Dice(seed, -1-i)
		p.Arm(func(m faultproxy.Message) faultproxy.Act {
			if m.Kind == 0 || m.Label == "startup" || dice.IntN(s.faults) > 0 {
				return faultproxy.Act{}
			}
			return anyFault(dice, m.Direction)
		})
	}
}

func (s setting) disarm() {
	for _, p := range s.proxies {
		p.Arm(nil)
	}
}

func anyFault(dice *rand.Rand, d faultproxy.Direction) faultproxy.Act {
	acts := []faultproxy.Act{
		faultproxy.Cut(), faultproxy.Cut(), faultproxy.Fatal("57P01"), faultproxy.Delay(time.Duration(dice.IntN(50)) * time.Millisecond),
	}
	if d == faultproxy.ToServer {
		acts = append(acts, faultproxy.CutAfter(), faultproxy.Fail("40001"), faultproxy.Fail("40P01"), faultproxy.Fail("25006"))
	} else {
		acts = append(acts, faultproxy.Warn())
	}
	return acts[dice.IntN(len(acts))]
}
