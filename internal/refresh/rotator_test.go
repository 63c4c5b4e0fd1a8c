package refresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

// untouched is a store that nobody may ask.
func untouched(t *testing.T) *scripted {
	return &scripted{
		limits: BatchLimits{Size: 64, InFlight: 1},
		batch: func(context.Context, []Call) ([]*Outcome, error) {
			t.Error("a batch reached the store")
			return nil, errors.New("untouched")
		},
		redeem: func(context.Context, Call, time.Duration) (Outcome, error) {
			t.Error("an attempt reached the store")
			return Outcome{}, errors.New("untouched")
		},
		find: errors.New("untouched"),
	}
}

func TestRedeem_aForgedTokenNeverReachesTheStore(t *testing.T) {
	s := untouched(t)
	r, o := rotator(t, s)
	p := holding(1)
	bad := refusals(p.Token.Reveal())
	for name, text := range bad {
		p.Token = secret.NewText(text)
		got, err := r.Redeem(t.Context(), p)
		if err != nil || got.Verdict != Unknown || got.Reason != ReasonForged || !got.Token.IsEmpty() || !got.Family.IsZero() {
			t.Errorf("%s: %s %s, %v", name, got.Verdict, got.Reason, err)
		}
		for what, find := range map[string]func(context.Context, secret.Text) (*Family, error){"Find": r.Find, "Living": r.Living} {
			if f, err := find(t.Context(), p.Token); f != nil || err != nil {
				t.Errorf("%s of %s: %v, %v", what, name, f, err)
			}
		}
	}
	if o.reasons[ReasonForged] != len(bad) {
		t.Errorf("observer was told of %d forgeries, want %d", o.reasons[ReasonForged], len(bad))
	}
}

func TestRedeem_troubleWithTheRingIsNoRefusal(t *testing.T) {
	r, _ := rotator(t, untouched(t))
	roots := r.roots.(*ring)

	roots.lost = errors.New("the ring is 40s old")
	if _, err := r.Redeem(t.Context(), holding(1)); !fault.Is(err, fault.Unavailable) || !errors.Is(err, roots.lost) {
		t.Errorf("no root key to sign with: %v", err)
	}
	roots.lost, roots.trouble = nil, errors.New("connection refused")
	p := holding(1)
	p.Token = secret.NewText(someToken(5, 9).spell(rootOf(9)))
	if _, err := r.Redeem(t.Context(), p); !fault.Is(err, fault.Unavailable) || !errors.Is(err, roots.trouble) {
		t.Errorf("an unknown root key and no store: %v", err)
	}
	if _, err := r.Find(t.Context(), p.Token); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Find of the same: %v", err)
	}
}

func TestRedeem_headUnderARootKeyThatIsGoneIsTrouble(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: undecided}
	s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
		f := living()
		f.ID, f.SecretHash, f.Generation, f.HeadKey = c.Attempt.Family, c.Attempt.SecretHash, 6, 8
		return Judge(&f, c.Attempt, born, c.Policy), nil
	}
	r, _ := rotator(t, s)
	got, err := r.Redeem(t.Context(), holding(1))
	if !fault.Is(err, fault.Unavailable) || !got.Token.IsEmpty() {
		t.Errorf("%v with a token: %t", err, !got.Token.IsEmpty())
	}
	if n := r.roots.(*ring).rereads.Load(); n != 1 {
		t.Errorf("the ring was read again %d times, want once", n)
	}
	if o := r.outages.seen(); len(o) != 0 {
		t.Errorf("a lost root key counts as an outage of the store: %v", o)
	}
}

func TestRedeem_whatReachesTheStore(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: rotates}
	r, _ := rotator(t, s)
	r.roots.(*ring).known[9] = rootOf(9)
	r.roots.(*ring).active = 9
	r.policy = func(client string) Policy {
		if client != "first-party" {
			t.Errorf("asked for the policy of %q", client)
		}
		return strict()
	}
	p := holding(1)
	p.IdempotencyKey, p.InstallID = `"0123456789abcdef"`, "0123456789abcdef"
	p.Proof, p.Transport = Proof{DPoP: "x"}, InCookie
	if _, err := r.Redeem(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	token, _ := Parse(t.Context(), r.roots, p.Token.Reveal())
	want := Attempt{
		Family: token.family, Generation: 5, Key: 7, SecretHash: token.SecretHash(), Client: "first-party", Transport: InCookie, Proof: Proof{DPoP: "x"},
		RetryKey: RetryKeyOf(token.family, "0123456789abcdef"), Sender: SenderOf("0123456789abcdef", ""), UserAgent: "phone/1.0", IP: "192.0.2.1",
		RequestID: "req-1", NewKey: 9,
	}
	if diff := cmp.Diff(want, s.batches[0][0].Attempt); diff != "" {
		t.Errorf("attempt (-want +got)\n%s", diff)
	}
}

func TestRedeem_theHeadIsAnsweredUnderItsOwnRootKey(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: undecided}
	s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
		f := living()
		f.ID, f.SecretHash, f.Generation, f.HeadKey = c.Attempt.Family, c.Attempt.SecretHash, 6, 8
		return Judge(&f, c.Attempt, born, c.Policy), nil
	}
	r, _ := rotator(t, s)
	r.roots.(*ring).known[8], r.roots.(*ring).known[9] = rootOf(8), rootOf(9)
	var answers []string
	for _, active := range []uint8{7, 9, 8} { // whichever a node would mint with now
		r.roots.(*ring).active = active
		got, err := r.Redeem(t.Context(), holding(1))
		if err != nil || got.Verdict != Replayed {
			t.Fatalf("%s, %v", got.Verdict, err)
		}
		if !got.IdleEnd.Equal(born.Add(30 * day)) {
			t.Errorf("idle end %s", got.IdleEnd)
		}
		answers = append(answers, got.Token.Reveal())
	}
	want := holding(1)
	parsed, _ := Parse(t.Context(), r.roots, want.Token.Reveal())
	head := parsed.at(6, 8).spell(rootOf(8))
	for _, got := range answers {
		if got != head {
			t.Errorf("answered %s, want the one head %s", got, head)
		}
	}
}

func TestRedeem_refusalsCarryNoToken(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: undecided}
	s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
		return Judge(nil, c.Attempt, born, c.Policy), nil
	}
	r, o := rotator(t, s)
	got, err := r.Redeem(t.Context(), holding(1))
	if err != nil || got.Verdict != Unknown || got.Reason != ReasonNoFamily || !got.Token.IsEmpty() || got.Family.IsZero() {
		t.Errorf("%+v, %v", got.Outcome, err)
	}
	if o.reasons[ReasonNoFamily] != 1 {
		t.Errorf("observer was told %v", o.reasons)
	}
}

// An hour without the store must not turn honest retries into theft.
func TestRedeem_outagesThisNodeHasSeenDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		rotatedAt := time.Now()
		s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}, batch: undecided}
		s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
			if down {
				return Outcome{}, errors.New("connection refused")
			}
			f := living()
			f.ID, f.SecretHash, f.Generation, f.HeadKey = c.Attempt.Family, c.Attempt.SecretHash, 6, 7
			f.BornAt, f.HeadBorn, f.UsedAt, f.AbsoluteEnd, f.Floor = rotatedAt, rotatedAt, rotatedAt, rotatedAt.Add(90*day), rotatedAt.Add(-day)
			return Judge(&f, c.Attempt, time.Now(), c.Policy), nil
		}
		r, _ := rotator(t, s)

		time.Sleep(30 * time.Second)
		down = true
		if _, err := r.Redeem(t.Context(), holding(1)); !fault.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if _, err := r.Redeem(t.Context(), holding(1)); !fault.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		down = false
		for _, n := range []int{1, 2} {
			if got, err := r.Redeem(t.Context(), holding(n)); err != nil || got.Verdict != Replayed {
				t.Errorf("after the outage: %s (%s), %v; want the head", got.Verdict, got.Reason, err)
			}
		}
		want := Outages{{From: rotatedAt.Add(30 * time.Second), Until: rotatedAt.Add(time.Hour + 30*time.Second)}}
		if diff := cmp.Diff(want, r.outages.seen()); diff != "" {
			t.Errorf("outages (-want +got)\n%s", diff)
		}

		time.Sleep(60 * time.Second) // 90 s in which an answer could be had
		if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Replayed {
			t.Errorf("at the edge of the window: %s, %v", got.Verdict, err)
		}
		time.Sleep(time.Nanosecond)
		if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Reused {
			t.Errorf("past the window: %s, %v", got.Verdict, err)
		}
	})
}

func TestRedeem_aLockedRowIsNoOutage(t *testing.T) {
	s := &scripted{limits: BatchLimits{Size: 64, InFlight: 1}, batch: undecided}
	s.redeem = func(context.Context, Call, time.Duration) (Outcome, error) { return Outcome{}, ErrLocked }
	r, _ := rotator(t, s)
	if _, err := r.Redeem(t.Context(), holding(1)); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if o := r.outages.seen(); len(o) != 0 {
		t.Errorf("%v", o)
	}
}

func TestFind_wantsTheSecretNotOnlyTheName(t *testing.T) {
	f := living()
	f.SecretHash = someToken(5, 7).SecretHash()
	s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, family: &f}
	r, _ := rotator(t, s)

	if got, err := r.Find(t.Context(), holding(1).Token); err != nil || got == nil {
		t.Errorf("its own token: %v, %v", got, err)
	}
	old := someToken(1, 7).spell(rootOf(7))
	if got, err := r.Find(t.Context(), secret.NewText(old)); err != nil || got == nil {
		t.Errorf("a token of any generation will do: %v, %v", got, err)
	}
	f.SecretHash[3] ^= 1
	if got, err := r.Find(t.Context(), holding(1).Token); err != nil || got != nil {
		t.Errorf("another secret: %v, %v", got, err)
	}
	s.family = nil
	if got, err := r.Find(t.Context(), holding(1).Token); err != nil || got != nil {
		t.Errorf("no such family: %v, %v", got, err)
	}
	s.find = errors.New("connection refused")
	if _, err := r.Find(t.Context(), holding(1).Token); !fault.Is(err, fault.Unavailable) {
		t.Errorf("no store: %v", err)
	}
}

func TestLiving_onlyWhatWouldStillBeAnswered(t *testing.T) {
	for _, c := range []struct {
		name   string
		at     time.Duration
		change onFamily
		want   bool
	}{
		{"alive", 0, func(*Family) {}, true},
		{"ended", 0, ended, false},
		{"user disabled", 0, disabled, false},
		{"below the floor", 0, below, false},
		{"a grain before the idle end", 30*day - tick, func(*Family) {}, true},
		{"idle", 30 * day, func(*Family) {}, false},
		{"past the absolute end", 90 * day, func(f *Family) { f.UsedAt = born.Add(89 * day) }, false},
	} {
		f := living()
		f.SecretHash = someToken(5, 7).SecretHash()
		c.change(&f)
		r, _ := rotator(t, &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, family: &f})
		r.clock = func() time.Time { return born.Add(c.at) }
		got, err := r.Living(t.Context(), holding(1).Token)
		if err != nil || (got != nil) != c.want {
			t.Errorf("%s: %v, %v", c.name, got != nil, err)
		}
	}
}

var _ Store = (*scripted)(nil)

// An outage that ends while nobody refreshes here must not go on in this node's
// eyes: every predecessor would be answered as a retry.
func TestStoreHeard_endsAnOutageThatNoRefreshSawEnd(t *testing.T) {
	now := born
	var w watch
	clock := func() time.Time { return now }
	w.failed(now)
	now = now.Add(time.Second)
	w.quiet(now)
	if !w.goesOn() {
		t.Fatal("an answer to another question ended the outage at once: a store that only reads gives those, too")
	}
	w.failed(now)
	now = now.Add(quietFor)
	w.quiet(now)
	want := Outages{{From: born, Until: born.Add(time.Second)}}
	if diff := cmp.Diff(want, w.seen()); diff != "" {
		t.Fatalf("outages (-want +got)\n%s", diff)
	}
	if age := w.seen().Age(born, now.Add(time.Hour)); age != time.Hour+quietFor {
		t.Errorf("a head of then is %s old", age)
	}
	w.failed(now) // nobody was answered in between: it is the same outage
	now = now.Add(time.Minute)
	w.answered(clock)
	want = Outages{{From: born, Until: now}}
	if diff := cmp.Diff(want, w.seen()); diff != "" {
		t.Errorf("after a refresh got through (-want +got)\n%s", diff)
	}
	now = now.Add(time.Hour)
	w.failed(now)
	if len(w.seen()) != 2 {
		t.Errorf("an hour later it is another one: %v", w.seen())
	}
}

// A store that comes back fails here and answers there for a while. That must
// not push the outage itself out of the list: everybody whose answer it lost
// would be taken for a thief.
func TestOutages_flickerDoesNotPushAnOutageOut(t *testing.T) {
	now := born
	var w watch
	clock := func() time.Time { return now }
	w.failed(now)
	now = now.Add(5 * time.Minute)
	w.answered(clock)
	for range 1000 {
		now = now.Add(time.Millisecond)
		w.failed(now)
		now = now.Add(time.Millisecond)
		w.answered(clock)
	}
	if list := w.seen(); len(list) != outagesKept || !list[0].From.Equal(born) || list[0].Until.Sub(born) != 5*time.Minute {
		t.Errorf("%d outages, the first %v; want the long one kept", len(list), list[0])
	}
	if age := w.seen().Age(born.Add(-time.Second), now); age > 4*time.Second {
		t.Errorf("a head of just before is %s old", age)
	}
}

// One failure now and then among many answers is no outage: it must not keep
// every head young.
func TestOutages_aFailureNowAndThenKeepsNobodyYoung(t *testing.T) {
	now := born
	var w watch
	clock := func() time.Time { return now }
	for range 900 {
		w.failed(now)
		for range 400 { // four seconds of answers
			now = now.Add(10 * time.Millisecond)
			w.answered(clock)
		}
	}
	if age := w.seen().Age(born, now); age < now.Sub(born)-time.Minute {
		t.Errorf("a head is %s old after %s", age, now.Sub(born))
	}
}

// A client backs off while a store reads and cannot write; its silence is no
// answer.
func TestOutages_silenceBetweenFailuresIsPartOfIt(t *testing.T) {
	now := born
	var w watch
	for range 10 {
		w.failed(now)
		for range 30 { // the ring's questions are answered all the while
			now = now.Add(time.Second)
			w.quiet(now)
		}
	}
	if age := w.seen().Age(born, now); age > 31*time.Second {
		t.Errorf("a head of the beginning is %s old after %s without an answer", age, now.Sub(born))
	}
}

// TestRedeem_withKeysOlderThanTheStores: what the store would not decide for a
// node with old keys is decided once they are read again, and then it may turn
// out that the token's own key was revoked.
func TestRedeem_withKeysOlderThanTheStores(t *testing.T) {
	for name, c := range map[string]struct {
		revoked []uint8
		trouble error
		newest  int64
		want    Verdict
	}{
		"another key was revoked":      {revoked: []uint8{9}, newest: 4, want: Rotated},
		"its own key was revoked":      {revoked: []uint8{7}, newest: 4, want: Unknown},
		"they cannot be read":          {trouble: errors.New("connection refused"), newest: 4},
		"they change faster than that": {newest: 9, trouble: ErrStaleKeys},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scripted{limits: BatchLimits{Size: 1, InFlight: 1}, batch: undecided}
			s.redeem = func(_ context.Context, call Call, _ time.Duration) (Outcome, error) {
				if call.Keys < c.newest {
					return Outcome{}, ErrStaleKeys
				}
				return headOf(call), nil
			}
			r, seen := rotator(t, s)
			roots := r.roots.(*ring)
			roots.seen, roots.revoked = 3, c.revoked
			if c.newest == 4 {
				roots.trouble = c.trouble
			}
			red, err := r.Redeem(t.Context(), holding(1))
			if n := roots.rereads.Load(); n < 1 || c.want != Unknown && n != 1 {
				t.Errorf("the keys were read again %d times", n)
			}
			if o := r.outages.seen(); len(o) > 0 {
				t.Errorf("that counts as an outage of the store: %v", o)
			}
			if c.trouble != nil {
				if !errors.Is(err, c.trouble) || !fault.Is(err, fault.Unavailable) || len(seen.verdicts) > 0 {
					t.Errorf("%+v, %v; want trouble", red, err)
				}
				return
			}
			if err != nil || red.Verdict != c.want || red.Token.Reveal() == "" == c.want.Answers() || seen.verdicts[c.want] != 1 {
				t.Errorf("%s, %v, told of %v; want %s", red.Verdict, err, seen.verdicts, c.want)
			}
			if c.want == Unknown && !red.Family.IsZero() {
				t.Error("a forged token names a family")
			}
		})
	}
}

// leaping is a Clock that has leapt ahead, or is about to be found so.
type leaping struct {
	past  time.Duration // what has passed for certain since born
	ahead time.Duration // by how much it has leapt beyond that
	known bool          // the ring has seen it
}

func (c leaping) store() time.Time { return born.Add(c.past + c.ahead) }

func (c leaping) Now() time.Time { return c.store().Add(c.Leap() - c.ahead) }

func (c leaping) Leap() time.Duration {
	if !c.known {
		return 0
	}
	return c.ahead
}

// A clock that leaps ahead for a minute must not log out for good whoever is there.
func TestRedeem_byAClockThatLeaps(t *testing.T) {
	for _, c := range []struct {
		name    string
		clock   leaping
		trouble bool
	}{
		{"a clock that runs", leaping{30*day + second, 0, true}, false},
		{"leapt over the idle end", leaping{minute, 40 * day, true}, true},
		{"leapt, as nobody has noticed yet", leaping{minute, 40 * day, false}, true},
		{"leapt after the idle end", leaping{30*day + second, 40 * day, true}, false},
		{"leapt after it, as nobody has noticed yet", leaping{30*day + second, 40 * day, false}, false},
		{"leapt over the absolute end", leaping{minute, 400 * day, true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &scripted{batch: undecided, limits: BatchLimits{Size: 8, InFlight: 1}}
			store.redeem = func(_ context.Context, call Call, _ time.Duration) (Outcome, error) {
				f := living()
				f.ID, f.SecretHash, f.HeadKey = call.Attempt.Family, call.Attempt.SecretHash, call.Attempt.Key
				return Judge(&f, call.Attempt, c.clock.store(), call.Policy), nil
			}
			r, o := rotator(t, store)
			r.clock, r.leap = c.clock.Now, c.clock.Leap
			got, err := r.Redeem(t.Context(), holding(1))
			switch {
			case c.trouble && (!fault.Is(err, fault.Unavailable) || !errors.Is(err, errLeapt)):
				t.Errorf("%s (%s), %v; want 503: the session may live", got.Verdict, got.Reason, err)
			case !c.trouble && (err != nil || got.Verdict != Expired):
				t.Errorf("%s (%s), %v; want expired", got.Verdict, got.Reason, err)
			case c.trouble && o.verdicts[Expired] > 0:
				t.Error("counted as expired")
			}
		})
	}
}

// The store's clock leaps ahead, and a retry is judged by it before the ring has looked:
// the time in between has not passed on this node.
func TestRedeem_aRetryWhileTheClockLeaps(t *testing.T) {
	store := &scripted{batch: undecided, limits: BatchLimits{Size: 8, InFlight: 1}}
	store.redeem = func(_ context.Context, call Call, _ time.Duration) (Outcome, error) {
		f := living()
		f.ID, f.SecretHash, f.HeadKey, f.Generation = call.Attempt.Family, call.Attempt.SecretHash, call.Attempt.Key, call.Attempt.Generation+1
		return Judge(&f, call.Attempt, born.Add(20*day), call.Policy), nil
	}
	r, _ := rotator(t, store)
	r.clock = func() time.Time { return born.Add(minute) }
	if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Replayed {
		t.Errorf("%s (%s), %v; want replayed", got.Verdict, got.Reason, err)
	}
	r.clock = func() time.Time { return born.Add(20 * day) }
	if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Reused {
		t.Errorf("%s (%s), %v; want reused: the time has passed", got.Verdict, got.Reason, err)
	}
}

// twoAhead is a store whose heads are two generations above whatever is presented, and
// were born so long ago.
func twoAhead(age *time.Duration) *scripted {
	return &scripted{
		limits: BatchLimits{Size: 256, InFlight: 2}, batch: undecided,
		redeem: func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
			f := living()
			f.ID, f.SecretHash, f.HeadKey = c.Attempt.Family, c.Attempt.SecretHash, c.Attempt.Key
			f.Generation, f.HeadBorn = c.Attempt.Generation+2, time.Now().Add(-*age)
			f.UsedAt, f.AbsoluteEnd = f.HeadBorn, time.Now().Add(day)
			return Judge(&f, c.Attempt, time.Now(), c.Policy), nil
		},
	}
}

// A request that lay in a stopped node while its client was answered elsewhere, twice, is
// no theft: its client has gone. Whoever is there to hear the answer is judged.
func TestRedeem_anOldTokenWhoseSenderHasGoneEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		age := time.Duration(0) // of the head
		s := twoAhead(&age)
		spared := func() (list []bool) {
			for _, c := range s.alone {
				list = append(list, c.But != Reused)
			}
			s.alone = nil
			return list
		}
		r, told := rotator(t, s)

		for _, after := range []time.Duration{0, listenFor / 2} {
			sender, hangUp := context.WithTimeout(t.Context(), after)
			_, err := r.Redeem(sender, holding(1))
			hangUp()
			if !fault.Is(err, fault.Unavailable) || !errors.Is(err, errGone) {
				t.Errorf("gone after %s: %v; want trouble", after, err)
			}
			if list := spared(); !slices.Equal(list, []bool{true}) {
				t.Errorf("gone after %s: judged with Spare %v; want once, spared", after, list)
			}
		}
		if len(r.outages.seen()) > 0 || told.verdicts[Reused] > 0 {
			t.Errorf("outages %v, %d reuses; want none", r.outages.seen(), told.verdicts[Reused])
		}
		got, err := r.Redeem(t.Context(), holding(1))
		if list := spared(); err != nil || got.Verdict != Reused || !slices.Equal(list, []bool{true, false}) {
			t.Errorf("there to hear it: %s, %v, spared %v; want reused, ended the second time", got.Verdict, err, list)
		}
		// Whoever does it again and again wants to try old tokens. A head of any age is
		// spared: TCP brings a request minutes late, and its end with it.
		age = time.Hour
		gone, hangUp := context.WithCancel(t.Context())
		hangUp()
		if _, err = r.Redeem(gone, holding(1)); !errors.Is(err, errGone) {
			t.Errorf("gone for the third time: %v; want trouble", err)
		}
		spared()
		got, err = r.Redeem(gone, holding(1))
		if list := spared(); err != nil || got.Verdict != Reused || !slices.Equal(list, []bool{true, false}) {
			t.Errorf("gone for the fourth time: %s, %v, spared %v; want reused, ended the second time", got.Verdict, err, list)
		}
		time.Sleep(201 * time.Second)
		if _, err = r.Redeem(gone, holding(1)); !errors.Is(err, errGone) {
			t.Errorf("gone once more, much later: %v; want trouble", err)
		}
		if diff := cmp.Diff([]string{"gone", "gone", "gone", "gone"}, told.spared); diff != "" {
			t.Errorf("told of (-want +got)\n%s", diff)
		}
	})
}

// A request waits in this node for a database that does not answer it, while its session
// goes on elsewhere: the client may have given up behind a proxy that keeps the connection.
func TestRedeem_aTokenThatWaitedHereEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		age := 100 * time.Millisecond // of the head
		s := twoAhead(&age)
		waits := time.Second
		s.batch = func(ctx context.Context, calls []Call) ([]*Outcome, error) {
			time.Sleep(waits)
			return undecided(ctx, calls)
		}
		r, told := rotator(t, s)
		if _, err := r.Redeem(t.Context(), holding(1)); !fault.Is(err, fault.Unavailable) || !errors.Is(err, errLate) {
			t.Errorf("the head was born while it waited: %v; want trouble", err)
		}
		age = time.Second + time.Millisecond
		if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Reused {
			t.Errorf("the head was older than the wait: %s, %v; want reused", got.Verdict, err)
		}
		age, waits = 0, listenFor/2
		if got, err := r.Redeem(t.Context(), holding(1)); err != nil || got.Verdict != Reused {
			t.Errorf("it hardly waited: %s, %v; want reused", got.Verdict, err)
		}
		if diff := cmp.Diff([]string{"late"}, told.spared); diff != "" {
			t.Errorf("told of (-want +got)\n%s", diff)
		}
	})
}

// A tab waits for a node that stands still, while another tab is answered elsewhere, twice.
func TestRedeem_aNodeThatHasStoodStillCallsNobodyAThief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		age := time.Hour // of the head
		s := twoAhead(&age)
		var stood atomic.Int64 // how far the clock is ahead of the bubble's, which no process can stop
		r, _ := rotator(t, s)
		r.clock = func() time.Time { return time.Now().Add(time.Duration(stood.Load())) }
		s.redeem = func(_ context.Context, c Call, _ time.Duration) (Outcome, error) {
			f := living()
			f.ID, f.SecretHash, f.HeadKey = c.Attempt.Family, c.Attempt.SecretHash, c.Attempt.Key
			f.Generation, f.HeadBorn = c.Attempt.Generation+2, r.clock().Add(-age)
			f.UsedAt, f.AbsoluteEnd = f.HeadBorn, r.clock().Add(day)
			return Judge(&f, c.Attempt, r.clock(), c.Policy), nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var pulse sync.WaitGroup
		pulse.Go(func() { r.KeepPulse(ctx) })
		defer pulse.Wait()
		defer stop()
		for _, step := range []struct {
			name   string
			stands time.Duration
			runs   time.Duration
			reused bool
		}{
			{"it runs", 0, 3 * time.Second, true},
			{"a machine is busy", time.Second, 0, true},
			{"it stood still, and its heart has not beaten yet", 3 * time.Second, 0, false},
			{"it beats", 0, beatEvery, false},
			{"it runs again", 0, time.Second, false},
			{"for a while", 0, 2 * time.Second, true},
			{"its clock was set back", -time.Hour, beatEvery, false},
		} {
			stood.Add(int64(step.stands))
			time.Sleep(step.runs)
			synctest.Wait()
			got, err := r.Redeem(t.Context(), holding(1))
			if (err == nil && got.Verdict == Reused) != step.reused || err != nil && !errors.Is(err, errWoken) {
				t.Errorf("%s: %s, %v", step.name, got.Verdict, err)
			}
		}
	})
}
