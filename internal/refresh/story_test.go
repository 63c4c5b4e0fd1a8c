package refresh

import (
	"math/rand/v2"
	"testing"
	"time"
)

// device is one holder of tokens of a family, honest or not.
type device struct {
	sender Sender
	holds  int32 // generation
	key    RetryKey
}

// world is one family in a store that carries out what Judge says.
type world struct {
	t      *testing.T
	family Family
	policy Policy
	now    time.Time
}

func newWorld(t *testing.T) *world {
	return &world{t: t, family: living(), policy: strict(), now: born}
}

// present lets d present what it holds; an answer is what it holds afterwards.
func (w *world) present(d *device) Outcome {
	w.t.Helper()
	a := presents(w.family, d.holds)
	a.Sender, a.RetryKey = d.sender, d.key
	out := Judge(&w.family, a, w.now, w.policy)
	if out.Writes {
		w.family = out.Next
	}
	if out.Ends {
		w.family.EndedAt, w.family.EndReason = w.now, EndedByReuse
	}
	if out.Verdict.Answers() {
		d.holds = out.Next.Generation
	}
	return out
}

func TestStory_thiefAndVictimInLockStep(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		pair := []*device{{sender: phone, holds: 5}, {sender: stranger, holds: 5}}
		alternations := 0
		for w.family.EndedAt.IsZero() {
			if alternations++; alternations > 3 {
				t.Fatalf("seed %d: both are still answered after 3 alternations", seed)
			}
			first := rng.IntN(2)
			for _, who := range []int{first, 1 - first} {
				w.now = w.now.Add(time.Duration(rng.Int64N(int64(45 * second))))
				w.present(pair[who])
			}
		}
		for who, d := range pair {
			if out := w.present(d); out.Verdict != Revoked {
				t.Errorf("seed %d: holder %d is told %s afterwards", seed, who, out.Verdict)
			}
		}
	}
}

func TestStory_lockStepIsOnlyReportedForServerSideRendering(t *testing.T) {
	w := newWorld(t)
	w.policy.LockStep = ReportLockStep
	browser, server := &device{sender: phone, holds: 5}, &device{sender: stranger, holds: 5}
	reports := 0
	for range 50 {
		for _, d := range []*device{browser, server} {
			w.now = w.now.Add(30 * second)
			out := w.present(d)
			if !out.Verdict.Answers() {
				t.Fatalf("after %s: %s (%s)", w.now.Sub(born), out.Verdict, out.Reason)
			}
			if out.Reason == ReasonLockStep {
				reports++
			}
		}
	}
	if reports != 48 { // every generation from the third
		t.Errorf("%d generations reported, want 48", reports)
	}
}

func TestStory_tabsOfOneBrowserNeverEndTheirFamily(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t)
		tabs := []*device{{sender: phone, holds: 5}, {sender: phone, holds: 5}}
		for range 300 { // each tab wakes once a minute, in any order, anywhere in it
			minuteBegan := w.now
			moments := []time.Duration{time.Duration(rng.Int64N(int64(minute))), time.Duration(rng.Int64N(int64(minute)))}
			first := rng.IntN(2)
			for i, tab := range []*device{tabs[first], tabs[1-first]} {
				w.now = minuteBegan.Add([]time.Duration{min(moments[0], moments[1]), max(moments[0], moments[1])}[i])
				if out := w.present(tab); !out.Verdict.Answers() {
					t.Fatalf("seed %d, after %s: %s (%s)", seed, w.now.Sub(born), out.Verdict, out.Reason)
				}
			}
			w.now = minuteBegan.Add(minute)
		}
	}
}

func TestStory_oneForeignReplayHereAndThereIsNoLockStep(t *testing.T) {
	w := newWorld(t)
	app, update := &device{sender: phone, holds: 5}, &device{sender: stranger, holds: 5}
	for range 30 {
		for i := range 3 { // one generation in three is retried under another user agent
			w.now = w.now.Add(minute)
			update.holds = app.holds
			if out := w.present(app); out.Verdict != Rotated {
				t.Fatalf("%s (%s)", out.Verdict, out.Reason)
			}
			if i == 0 {
				if out := w.present(update); out.Verdict != Replayed {
					t.Fatalf("%s (%s)", out.Verdict, out.Reason)
				}
			}
		}
	}
}

func TestStory_aNewKeyPerRefreshOutlivesALostAnswer(t *testing.T) {
	w := newWorld(t)
	app := &device{sender: phone, holds: 5}
	for i := range 20 {
		w.now = w.now.Add(day)
		app.key = RetryKey{byte(i + 1)}
		lost := *app // the answer never arrives
		if out := w.present(&lost); out.Verdict != Rotated {
			t.Fatalf("%s (%s)", out.Verdict, out.Reason)
		}
		w.now = w.now.Add(9 * day)
		w.family.AbsoluteEnd = w.now.Add(90 * day) // the session's own end is another story
		if out := w.present(app); out.Verdict != Replayed || out.Reason != ReasonByRetryKey {
			t.Fatalf("retry %d: %s (%s)", i, out.Verdict, out.Reason)
		}
	}
}

func TestStory_aClientThatAlwaysSendsTheSameKeyProvesNothing(t *testing.T) {
	w := newWorld(t)
	app := &device{sender: phone, holds: 5, key: someKey}
	w.present(app) // a key never seen before is fresh once
	for range 5 {
		w.now = w.now.Add(10 * minute)
		stolen := *app
		stolen.sender = stranger // holds the token and knows the key
		if out := w.present(app); out.Verdict != Rotated || w.family.KeyFresh {
			t.Fatalf("%s, fresh %t", out.Verdict, w.family.KeyFresh)
		}
		w.now = w.now.Add(second)
		within := *w // the same moment in two histories
		within.family.ForeignStreak = 0
		if out := within.present(&device{sender: stranger, holds: stolen.holds, key: someKey}); out.Row != 10 {
			t.Errorf("within the window: row %d (%s), want an unproven replay", out.Row, out.Reason)
		}
		late := *w
		late.now = late.now.Add(window)
		if out := late.present(&stolen); out.Verdict != Reused {
			t.Errorf("past the window: %s (%s), want reused", out.Verdict, out.Reason)
		}
	}
}

func TestStory_aSharedTokenGetsTheLateFavourOnce(t *testing.T) {
	w := newWorld(t)
	w.policy.LateRetry = LateOnceADay
	one, other := &device{sender: phone, holds: 5}, &device{sender: phone, holds: 5}
	w.present(one)
	w.now = w.now.Add(time.Hour)
	if out := w.present(other); out.Verdict != Replayed || out.Row != 11 {
		t.Fatalf("first time: %s, row %d", out.Verdict, out.Row)
	}
	w.present(one)
	w.now = w.now.Add(time.Hour)
	if out := w.present(other); out.Verdict != Reused {
		t.Fatalf("second time: %s (%s)", out.Verdict, out.Reason)
	}
}

func TestStory_workersThatShareAKeyNeverKillEachOther(t *testing.T) {
	w := newWorld(t)
	w.family.Binding = ToDPoP("thumb")
	rng := rand.New(rand.NewPCG(7, 3))
	workers := make([]int32, 8)
	for i := range workers {
		workers[i] = 5
	}
	for range 1000 {
		w.now = w.now.Add(time.Duration(rng.Int64N(int64(time.Hour))))
		i := rng.IntN(len(workers))
		a := presents(w.family, workers[i])
		a.Proof, a.Sender = Proof{DPoP: "thumb"}, SenderOf("", string(rune('a'+i)))
		out := Judge(&w.family, a, w.now, w.policy)
		if !out.Verdict.Answers() {
			t.Fatalf("worker %d with generation %d of %d: %s (%s)", i, workers[i], w.family.Generation, out.Verdict, out.Reason)
		}
		w.family, workers[i] = out.Next, out.Next.Generation
	}
}

// A client that always sends the same retry key is still told apart from a
// thief who knows the key and uses it every second time, so that it looks fresh.
func TestStory_aThiefWhoKnowsAConstantRetryKey(t *testing.T) {
	w := newWorld(t)
	constant := RetryKey{1}
	victim, thief := &device{sender: phone, holds: 5, key: constant}, &device{sender: stranger, holds: 5}
	for round := range 10 {
		thief.key = RetryKey{}
		if round%2 == 1 {
			thief.key = constant
		}
		for _, who := range []*device{thief, victim} {
			w.now = w.now.Add(10 * second)
			if w.present(who); !w.family.EndedAt.IsZero() {
				if round > 4 {
					t.Errorf("the two shared %d generations, want 4 at most", round)
				}
				return
			}
		}
	}
	t.Error("thief and victim share the family without end")
}
