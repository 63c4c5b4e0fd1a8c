package refresh

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func span(from, until time.Duration) Outage {
	return Outage{From: born.Add(from), Until: born.Add(until)}
}

func goingOn(from time.Duration) Outage { return Outage{From: born.Add(from)} }

func TestOutages_ageCountsOnlyTimeInWhichAnAnswerCouldBeGiven(t *testing.T) {
	for _, c := range []struct {
		name    string
		outages Outages
		now     time.Duration // the head was born at 0
		want    time.Duration
	}{
		{"no outage", nil, 10 * second, 10 * second},
		{"a head from the future", nil, -10 * second, 0},
		{"a head from the future in an outage", Outages{goingOn(-minute)}, -10 * second, 0},
		{"over before the head was born", Outages{span(-minute, -second)}, 10 * second, 10 * second},
		{"over when the head was born", Outages{span(-minute, 0)}, 10 * second, 10 * second},
		{"across the birth", Outages{span(-minute, 4*second)}, 10 * second, 6 * second},
		{"in between", Outages{span(2*second, 5*second)}, 10 * second, 7 * second},
		{"goes on", Outages{goingOn(4 * second)}, 10 * second, 4 * second},
		{"goes on since before the birth", Outages{goingOn(-minute)}, 10 * second, 0},
		{"all the time", Outages{span(0, 10*second)}, 10 * second, 0},
		{"ends in the future of this clock", Outages{span(4*second, minute)}, 10 * second, 4 * second},
		{"begins in the future of this clock", Outages{span(20*second, minute)}, 10 * second, 10 * second},
		{"goes on from the future of this clock", Outages{goingOn(20 * second)}, 10 * second, 10 * second},
		{"several", Outages{span(-minute, second), span(2*second, 3*second), goingOn(9 * second)}, 10 * second, 7 * second},
		{"ends before it begins, by a clock set back", Outages{span(5*second, 2*second)}, 10 * second, 10 * second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.outages.Age(born, born.Add(c.now)); got != c.want {
				t.Errorf("age %s, want %s", got, c.want)
			}
		})
	}
}

func TestOutages_beginAndEndOnce(t *testing.T) {
	var none Outages
	if got := none.Over(born); len(got) != 0 {
		t.Errorf("an end without a beginning made %v", got)
	}
	first := none.Began(born)
	if got := first.Began(born.Add(second)); !cmp.Equal(got, first) {
		t.Errorf("a second beginning moved the first: %v", got)
	}
	over := first.Over(born.Add(minute))
	if got := over.Over(born.Add(2 * minute)); !cmp.Equal(got, over) {
		t.Errorf("a second end moved the first: %v", got)
	}
	both := over.Began(born.Add(3 * minute))
	if diff := cmp.Diff(Outages{span(0, minute), goingOn(3 * minute)}, both); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(Outages{goingOn(0)}, first); diff != "" {
		t.Errorf("the first value changed under its readers:\n%s", diff)
	}
}

func TestOutages_keepTheNewestFew(t *testing.T) {
	var o Outages
	for i := range 3 * outagesKept {
		at := time.Duration(i) * minute
		before := append(Outages{}, o...)
		next := o.Began(born.Add(at)).Over(born.Add(at + second))
		if len(o) > 0 && !cmp.Equal(before, o) {
			t.Fatal("a list changed under its readers")
		}
		o = next
	}
	if len(o) != outagesKept {
		t.Fatalf("%d outages kept, want %d", len(o), outagesKept)
	}
	if last := span((3*outagesKept-1)*minute, (3*outagesKept-1)*minute+second); !cmp.Equal(o[len(o)-1], last) {
		t.Errorf("the newest is %v, want %v", o[len(o)-1], last)
	}
}

func TestOutages_withASpanStayApart(t *testing.T) {
	some := Outages{span(0, minute), span(3*minute, 4*minute)}
	for _, c := range []struct {
		name        string
		outages     Outages
		from, until time.Duration
		want        Outages
	}{
		{"first", nil, 0, minute, Outages{span(0, minute)}},
		{"none", some, minute, minute, some},
		{"backwards", some, 2 * minute, minute, some},
		{"before", some, -2 * minute, -minute, Outages{span(-2*minute, -minute), span(0, minute), span(3*minute, 4*minute)}},
		{"between", some, 2 * minute, 2*minute + second, Outages{span(0, minute), span(2*minute, 2*minute+second), span(3*minute, 4*minute)}},
		{"behind", some, 5 * minute, 6 * minute, append(append(Outages{}, some...), span(5*minute, 6*minute))},
		{"across one", some, -minute, 2 * minute, Outages{span(-minute, 2*minute), span(3*minute, 4*minute)}},
		{"across both", some, 30 * second, 200 * second, Outages{span(0, 4*minute)}},
		{"touching", some, minute, 3 * minute, Outages{span(0, 4*minute)}},
		{"inside", some, second, 2 * second, some},
		{"into one that goes on", Outages{span(0, minute), goingOn(3 * minute)}, 2 * minute, 4 * minute, Outages{span(0, minute), goingOn(2 * minute)}},
		{"one that goes on, among others", some, 30 * second, 0, Outages{goingOn(0)}},
		{"before one that goes on", Outages{goingOn(3 * minute)}, minute, 2 * minute, Outages{span(minute, 2*minute), goingOn(3 * minute)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := append(Outages{}, c.outages...)
			added := span(c.from, c.until)
			if c.name == "one that goes on, among others" {
				added.Until = time.Time{}
			}
			if diff := cmp.Diff(c.want, c.outages.With(added)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !cmp.Equal(before, append(Outages{}, c.outages...)) {
				t.Error("the list changed under its readers")
			}
		})
	}
}

// A machine that was suspended, or whose clock was set, answered nobody meanwhile.
func TestStoreHeard_aGapIsAnOutage(t *testing.T) {
	now := born
	r, _ := rotator(t, &scripted{})
	r.clock = func() time.Time { return now }
	for range 3 {
		r.StoreHeard(nil)
		now = now.Add(second)
	}
	if o := r.outages.seen(); len(o) > 0 {
		t.Fatalf("an ordinary rhythm made the outages %v", o)
	}
	now = now.Add(5 * minute)
	r.StoreHeard(nil)
	if diff := cmp.Diff(Outages{span(2*second, 3*second+5*minute)}, r.outages.seen()); diff != "" {
		t.Errorf("outages (-want +got)\n%s", diff)
	}
}

// Whatever comes in whatever order, the spans are in order and apart, so that Age
// subtracts no time twice.
func TestWatch_spansAreInOrderAndApart(t *testing.T) {
	for seed := range uint64(300) {
		draw := rand.New(rand.NewPCG(seed, 7))
		now := born
		clock := func() time.Time { return now }
		var w watch
		for step := range 200 {
			before := now
			now = now.Add(time.Duration(draw.Int64N(int64(40 * second))))
			did := ""
			switch draw.IntN(6) {
			case 0, 1:
				did = "failed"
				w.failed(now)
			case 2:
				did = "answered"
				w.took(before, now, nil)
				w.answered(clock)
			case 3:
				did = "quiet"
				w.quiet(now)
			case 4:
				did = "given up"
				w.took(before, now, errUnanswered)
			case 5:
				did = "stalled"
				w.stalled(now.Add(-time.Duration(draw.Int64N(int64(minute)))), now)
			}
			list, sum := w.seen(), time.Duration(0)
			for i, o := range list {
				last := i == len(list)-1
				switch {
				case o.Until.IsZero() && !last, !o.Until.IsZero() && !o.Until.After(o.From), !last && !o.Until.Before(list[i+1].From):
					t.Fatalf("seed %d, step %d, %s: %v", seed, step, did, list)
				case o.Until.IsZero():
					sum += now.Sub(o.From)
				default:
					sum += o.Until.Sub(o.From)
				}
			}
			if long := now.Sub(born) + minute; sum > long || len(list) > outagesKept {
				t.Fatalf("seed %d, step %d, %s: %d outages that took %s of %s", seed, step, did, len(list), sum, long)
			}
		}
	}
}

// What a node notes when it wakes up must outlive the same call: the failure before
// the pause is long ago by then.
func TestStoreHeard_aGapAfterAFailure(t *testing.T) {
	now := born
	r, _ := rotator(t, &scripted{})
	r.clock = func() time.Time { return now }
	r.outages.failed(now)
	now = now.Add(second)
	r.StoreHeard(nil)
	now = now.Add(5 * minute)
	r.StoreHeard(nil)
	now = now.Add(quietFor)
	r.StoreHeard(nil)
	if diff := cmp.Diff(Outages{span(0, second+5*minute)}, r.outages.seen()); diff != "" {
		t.Errorf("outages (-want +got)\n%s", diff)
	}
}

// A clock that leaps ahead and comes back must not leave an outage ahead of it, in
// which every predecessor would be answered for a year.
func TestStoreHeard_aClockThatComesBack(t *testing.T) {
	now := born
	r, _ := rotator(t, &scripted{})
	r.clock = func() time.Time { return now }
	r.StoreHeard(nil)
	now = born.Add(365 * 24 * time.Hour)
	r.StoreHeard(nil)
	if age := r.outages.seen().Age(born.Add(-second), now); age != second {
		t.Errorf("after the leap a head is %s old, want 1s", age)
	}
	now = born.Add(2 * second)
	r.StoreHeard(nil)
	now = born.Add(time.Hour)
	if age := r.outages.seen().Age(born.Add(2*second), now); age != time.Hour-2*second {
		t.Errorf("an hour after it came back a head is %s old", age)
	}
}

// A batch that is lost on a dead connection is no standstill while others fly.
func TestWatch_aSlowAnswerBesideOthersIsNoOutage(t *testing.T) {
	var w watch
	for at := range 15 {
		w.took(born.Add(time.Duration(at)*second), born.Add(time.Duration(at+1)*second), nil)
	}
	w.took(born, born.Add(15*second), errUnanswered)
	if o := w.seen(); len(o) > 0 {
		t.Errorf("outages %v", o)
	}
}

// A node that runs for long has seen many long outages, and that of a moment ago is the
// one that counts.
func TestOutages_whatMattersNoMoreMakesRoom(t *testing.T) {
	var o Outages
	for night := range 40 {
		at := time.Duration(night) * day
		o = o.With(span(at, at+8*time.Hour))
	}
	now := 50 * day
	o = o.With(span(now-3*minute, now-second))
	if age := o.with(span(now+minute, now+day)).Age(born.Add(now-4*minute), born.Add(now)); age != minute+second {
		t.Errorf("a head from before the last outage is %s old, want 1m1s", age)
	}
}

// The clock of a node is set an hour ahead for a moment, until the store is heard.
func TestRedeem_aNodeWhoseClockIsSetNotesNoOutageAhead(t *testing.T) {
	now := born
	store := &scripted{batch: undecided, redeem: rotatesAlone, limits: BatchLimits{Size: 8, InFlight: 1}}
	r, _ := rotator(t, store)
	r.clock = func() time.Time { return now }
	r.StoreHeard(nil)
	now = born.Add(time.Hour)
	if _, err := r.Redeem(t.Context(), holding(1)); err != nil {
		t.Fatal(err)
	}
	now = born.Add(second)
	r.StoreHeard(nil)
	if age := r.outages.seen().Age(born.Add(second), born.Add(10*minute)); age != 10*minute-second {
		t.Errorf("a head of ten minutes is %s old: a thief has an hour", age)
	}
}

// A span that was noted by a clock that is set is forgotten as far as it lies ahead.
func TestStoreHeard_forgetsWhatIsAhead(t *testing.T) {
	now := born
	r, _ := rotator(t, &scripted{})
	r.clock = func() time.Time { return now }
	r.StoreHeard(nil)
	r.outages.stalled(born.Add(-minute), born.Add(time.Hour))
	now = born.Add(second)
	r.StoreHeard(nil)
	if diff := cmp.Diff(Outages{span(-minute, second)}, r.outages.seen()); diff != "" {
		t.Errorf("outages (-want +got)\n%s", diff)
	}
}
