package storetest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

// The variables that steer the random histories.
const (
	// SeedVariable replays one history; every failure prints its seed.
	SeedVariable = "AUTHSERVER_TEST_SEED"
	// StepsVariable says how many steps a history has.
	StepsVariable = "AUTHSERVER_TEST_STEPS"
)

const (
	fewSteps  = 5_000
	manySteps = 100_000
	// people is how many users there are at once, families how many living
	// families, and inRound how many of them are presented in one round.
	people     = 48
	population = 256
	inRound    = 160
	workers    = 8
)

var historyStories = []story{
	{"storeAndModelAgreeAfterEveryStep", func(r *rig) {
		seed, steps := seedOf(r.T), stepsOf(r.T)
		h := newHistory(r, seed)
		r.Logf("%s=%d replays this history; %d steps", SeedVariable, seed, steps)
		for h.steps < steps && !r.Failed() {
			h.round()
		}
		if r.Failed() {
			r.Fatalf("after %d steps and %d rounds; %s=%d replays it", h.steps, h.rounds, SeedVariable, seed)
		}
		h.sawEverything(steps)
	}},
}

func seedOf(t *testing.T) uint64 {
	if text := os.Getenv(SeedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q: want a number", SeedVariable, text)
		}
		return seed
	}
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func stepsOf(t *testing.T) int {
	text := os.Getenv(StepsVariable)
	if text == "" {
		return Times(fewSteps, manySteps)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number of steps", StepsVariable, text)
	}
	return n
}

// history is a random history and the model of what the store must hold: the
// rows in memory, carried on by Judge and by what the rooms' contracts say of
// every other act.
type history struct {
	r     *rig
	rng   *mathrand.Rand
	users []*person
	all   []*holding // every family that was ever born and not swept
	floor time.Time
	root  uint8 // the active root key number

	steps, rounds    int
	verdicts         map[refresh.Verdict]int
	rows             map[int]int
	ordinary, inBulk int // rotations of unbound families in batches: how many there were, how many the batch decided
	acts             map[string]int
}

// person is a user in the model.
type person struct {
	account.User
	families []*holding
}

// holding is a family in the model, with what the invariants need to remember.
type holding struct {
	row    refresh.Family
	owner  *person
	end    time.Time       // absolute end at birth (I7)
	handed map[int32]uint8 // root key number of every generation ever handed out (I1)
}

func newHistory(r *rig, seed uint64) *history {
	h := &history{
		r: r, rng: mathrand.New(mathrand.NewPCG(seed, 1)), root: 1,
		verdicts: map[refresh.Verdict]int{}, rows: map[int]int{}, acts: map[string]int{},
	}
	for len(h.users) < people {
		h.join()
	}
	return h
}

func (h *history) chance(percent int) bool { return h.rng.IntN(100) < percent }

func (h *history) bytes16() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], h.rng.Uint64())
	binary.BigEndian.PutUint64(b[8:], h.rng.Uint64())
	return b
}

func pick[T any](h *history, list ...T) T { return list[h.rng.IntN(len(list))] }

func (h *history) join() {
	n := h.r.newUser()
	n.ID = id.User(h.bytes16())
	u, err := h.r.Accounts().Create(h.r.Context(), n)
	h.r.must(err)
	h.users = append(h.users, &person{User: u})
}

// birth is a session about to be opened.
type birth struct {
	owner *person
	o     login.Opening
	row   refresh.Family
	err   error
}

// conceive draws a session of one more family.
func (h *history) conceive(request string) *birth {
	p := pick(h, h.users...)
	o := h.r.opening(p.User)
	o.Session, o.RequestID = id.Session(h.bytes16()), request
	o.AbsoluteTTL = pick(h, time.Hour, day, 20*day, 90*day)
	f := &o.Family
	f.ID, f.Session = id.Family(h.bytes16()), o.Session
	tag := id.Tag(p.ID)
	copy(f.ID[:2], tag[:])
	a, b := h.bytes16(), h.bytes16()
	copy(f.SecretHash[:], append(a[:], b[:]...))
	f.HeadKey = h.root
	f.IdleTTL = pick(h, time.Hour, 5*day, 30*day)
	f.Transport = pick(h, refresh.InBody, refresh.InCookie)
	f.Binding = pick(h, refresh.Unbound, refresh.Unbound, refresh.Unbound, refresh.ToClient, refresh.ToDPoP("thumb"), refresh.ToCertificate("print"))
	f.Rotates = f.Binding == refresh.Unbound || h.chance(70)
	f.Remembered = h.chance(50)
	if h.chance(30) {
		f.Sender, f.UserAgent = stranger, "curl/8.0"
	}
	if h.chance(5) {
		o.CredentialVersion--
	}
	return &birth{owner: p, o: o}
}

// bear opens n sessions, several at a time.
func (h *history) bear(n int, request string) {
	var births []*birth
	for range n {
		births = append(births, h.conceive(request))
	}
	h.spread(len(births), func(i int) {
		births[i].row, births[i].err = h.r.Logins().Open(h.r.Context(), births[i].o)
	})
	now := h.r.clock.Now()
	for _, b := range births {
		h.steps++
		p := b.owner
		if refused := !p.DisabledAt.IsZero() || b.o.CredentialVersion != p.CredentialVersion; refused {
			if !errors.Is(b.err, login.ErrRefused) {
				h.r.Errorf("a session of %s, disabled %t, on credential version %d of %d: %v, want it refused",
					p.Email, !p.DisabledAt.IsZero(), b.o.CredentialVersion, p.CredentialVersion, b.err)
			}
			h.acts["refused login"]++
			continue
		}
		if now.Before(h.floor) {
			if !errors.Is(b.err, login.ErrBelowFloor) {
				h.r.Errorf("a session at %s, everything before %s being revoked: %v, want it refused", now, h.floor, b.err)
			}
			h.acts["login below the floor"]++
			continue
		}
		h.r.must(b.err)
		want := b.o.Family
		want.AuthTime, want.BornAt, want.HeadBorn, want.UsedAt, want.AbsoluteEnd = now, now, now, now, now.Add(b.o.AbsoluteTTL)
		m := &holding{row: want, owner: p, end: want.AbsoluteEnd, handed: map[int32]uint8{1: want.HeadKey}}
		h.readAlong(m)
		h.agree("birth", m, b.row)
		p.families = append(p.families, m)
		h.all = append(h.all, m)
		h.acts["login"]++
	}
}

// spread calls do for 0 to n-1 from several goroutines.
func (h *history) spread(n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

// readAlong brings the part of the model's row that is not in the row.
func (h *history) readAlong(m *holding) {
	m.row.Disabled, m.row.Roles, m.row.Floor = !m.owner.DisabledAt.IsZero(), m.owner.Roles, h.floor
}

// plain is a family in a comparable form: comparing by reflection would take
// longer than the store does.
type plain struct {
	id, session, user                             [16]byte
	client, scope, audience, amr, roles           string
	hash                                          [32]byte
	binding                                       refresh.Binding
	transport                                     refresh.Transport
	agent, ip                                     string
	sender, retry                                 [16]byte
	generation                                    int32
	headKey                                       uint8
	streak                                        int16
	rotates, fresh, seen, disabled, remembered    bool
	idle                                          time.Duration
	auth, born, absolute, headBorn, used, late    int64
	ended, refused, floor                         int64
	endReason, endRequest, refusedAs, refusedTold string
}

func micro(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMicro()
}

func (f *holding) plain() plain { return plainOf(&f.row) }

func plainOf(f *refresh.Family) plain {
	return plain{
		f.ID, f.Session, f.User, f.Client, f.Scope, fmt.Sprint(f.Audience), fmt.Sprint(f.AMR), fmt.Sprint(f.Roles), f.SecretHash,
		f.Binding, f.Transport, f.UserAgent, f.IP, f.Sender, f.RetryKey, f.Generation, f.HeadKey, f.ForeignStreak,
		f.Rotates, f.KeyFresh, f.ForeignSeen, f.Disabled, f.Remembered, f.IdleTTL,
		micro(f.AuthTime), micro(f.BornAt), micro(f.AbsoluteEnd), micro(f.HeadBorn), micro(f.UsedAt), micro(f.LateAt),
		micro(f.EndedAt), micro(f.RefusedAt), max(0, micro(f.Floor)),
		string(f.EndReason), f.EndRequest, string(f.RefusedAs), f.RefusedRequest,
	}
}

// agree wants the store's row to be the model's.
func (h *history) agree(step string, m *holding, row refresh.Family) {
	if m.plain() != plainOf(&row) {
		h.r.Errorf("after %s store and model differ (-model +store)\n%s", step, diff(m.row, row))
	}
}

// round moves the clock, lets some families be born, presents a token of many
// others, and now and then ends something.
func (h *history) round() {
	h.rounds++
	request := fmt.Sprintf("round-%d", h.rounds)
	h.tick()
	if h.chance(5) {
		h.root = uint8(1 + h.rng.IntN(200))
	}
	living := 0
	for _, m := range h.all {
		if h.alive(m) {
			living++
		}
	}
	h.bear(max(0, population-living), request)
	h.present(request)
	if h.chance(60) {
		h.act(fmt.Sprintf("act-%d", h.rounds))
		h.steps++
	}
	if h.rounds%20 == 0 {
		h.sweep()
		h.steps++
	}
}

// alive reports whether a family would be answered under the usual policy.
func (h *history) alive(m *holding) bool {
	return m.row.EndedAt.IsZero() && !m.row.BornAt.Before(h.floor) && h.r.clock.Now().Before(m.row.IdleEnd(policy()))
}

// tick moves the clock: mostly by seconds, sometimes to borders, sometimes
// backwards.
func (h *history) tick() {
	d := time.Duration(h.rng.Int64N(int64(40 * time.Second)))
	switch n := h.rng.IntN(100); {
	case n < 60:
	case n < 65:
		d = 0
	case n < 75:
		d = pick(h, 90*time.Second, 90*time.Second+tick, 90*time.Second-tick)
	case n < 85:
		d = time.Duration(h.rng.Int64N(int64(2 * time.Hour)))
	case n < 88:
		d = pick(h, time.Hour, day, day+tick, 5*day)
	case n < 90:
		d = time.Duration(h.rng.Int64N(int64(3 * day)))
	default:
		d = -time.Duration(h.rng.Int64N(int64(pick(h, 2*time.Minute, 2*time.Minute, 3*time.Hour))))
	}
	h.r.clock.Advance(d.Truncate(tick))
}

// attempt draws one presentation of a family's token.
func (h *history) attempt(m *holding, request string) refresh.Call {
	f := &m.row
	a := refresh.Attempt{
		Family: f.ID, Generation: f.Generation, Key: f.HeadKey, SecretHash: f.SecretHash, Client: f.Client, Transport: f.Transport,
		Sender: f.Sender, UserAgent: f.UserAgent, IP: "192.0.2." + strconv.Itoa(h.rng.IntN(256)), RequestID: request, NewKey: h.root,
	}
	switch n := h.rng.IntN(100); {
	case n < 58: // the head
	case n < 88: // its predecessor
		a.Generation = max(1, f.Generation-1)
	case n < 91: // an older one
		a.Generation = 1 + h.rng.Int32N(f.Generation)
	case n < 93: // one that the store lost
		a.Generation = f.Generation + 1 + h.rng.Int32N(3)
	case n < 94:
		a.SecretHash[h.rng.IntN(32)] ^= 1
	case n < 95:
		a.Client = "shop"
	case n < 96:
		a.Transport = pick(h, refresh.InBody, refresh.InCookie)
	case n < 97:
		a.Key++
	case n < 98:
		a.Family = id.Family(h.bytes16())
	}
	if key, ok := m.handed[a.Generation]; ok && a.Key == f.HeadKey {
		a.Key = key
	}
	switch f.Binding {
	case refresh.ToClient:
		a.Proof = pick(h, refresh.Proof{Secret: true}, refresh.Proof{Secret: true}, refresh.Proof{ClientKey: true})
	case refresh.ToDPoP("thumb"):
		a.Proof.DPoP = "thumb"
	case refresh.ToCertificate("print"):
		a.Proof.Certificate = "print"
	}
	if h.chance(5) {
		a.Proof = refresh.Proof{DPoP: "other"}
	}
	if h.chance(25) {
		a.Sender, a.UserAgent = pick(h, phone, stranger), pick(h, "phone/1.0", "curl/8.0", "")
	}
	switch n := h.rng.IntN(10); {
	case n < 5:
	case n < 6:
		a.RetryKey = f.RetryKey
	case n < 7:
		a.RetryKey = refresh.RetryKey{1, 15: 1} // always the same
	default:
		a.RetryKey = h.bytes16()
	}

	p := policy()
	p.IdleTTL = pick(h, 30*day, 30*day, 30*day, day, time.Hour)
	p.RetryWindow = pick(h, 90*time.Second, 90*time.Second, 10*time.Second, 0)
	p.LateRetry = pick(h, refresh.RefuseLate, refresh.LateOnceADay, refresh.LateOnceADay)
	p.LockStep = pick(h, refresh.EnforceLockStep, refresh.ReportLockStep)
	if h.chance(10) {
		now := h.r.clock.Now()
		p.Outages = p.Outages.Began(now.Add(-time.Duration(h.rng.Int64N(int64(time.Hour)))))
		if h.chance(50) {
			p.Outages = p.Outages.Over(now.Add(-time.Duration(h.rng.Int64N(int64(time.Minute)))))
		}
	}
	return refresh.Call{Attempt: a, Policy: p}
}

// turn is one family's presentation in a round.
type turn struct {
	m       *holding
	call    refresh.Call
	before  refresh.Family
	want    refresh.Outcome
	batched bool
	out     *refresh.Outcome
	row     *refresh.Family
	err     error
}

// present presents a token of many families at once: some in batches, the
// others alone, all at the same time.
func (h *history) present(request string) {
	now := h.r.clock.Now()
	h.rng.Shuffle(len(h.all), func(i, j int) { h.all[i], h.all[j] = h.all[j], h.all[i] })
	var turns []*turn
	dead := 0
	for _, m := range h.all {
		if !h.alive(m) {
			if dead++; dead > 16 {
				continue
			}
		}
		if len(turns) == inRound {
			break
		}
		h.readAlong(m)
		t := &turn{m: m, call: h.attempt(m, request), before: m.row, batched: h.chance(60)}
		known := &t.before
		if t.call.Attempt.Family != m.row.ID {
			known = nil
		}
		t.want = refresh.Judge(known, t.call.Attempt, now, t.call.Policy)
		turns = append(turns, t)
	}
	h.carryOut(turns)

	events := map[[16]byte][]audit.Kind{}
	logged, err := h.r.Audit().Events(h.r.Context(), audit.Filter{RequestID: request})
	h.r.must(err)
	if len(logged) == 1000 {
		h.r.Fatal("more events in one round than one answer holds")
	}
	for _, e := range logged {
		switch e.Kind {
		case audit.SessionOpened:
		case audit.SessionEnded:
			events[e.Session] = append(events[e.Session], e.Kind)
		default:
			events[e.Family] = append(events[e.Family], e.Kind)
		}
	}
	for _, t := range turns {
		h.steps++
		h.check(t, events)
	}
}

// carryOut sends the turns to the store: batches and single attempts at the
// same time, what the batches did not decide afterwards.
func (h *history) carryOut(turns []*turn) {
	families := h.r.Families()
	var batched, alone []*turn
	for _, t := range turns {
		if t.batched {
			batched = append(batched, t)
		} else {
			alone = append(alone, t)
		}
	}
	redeem := func(t *turn) {
		out, err := families.Redeem(h.r.Context(), t.call, patient)
		t.out, t.err = &out, err
	}
	var both sync.WaitGroup
	both.Go(func() { h.spread(len(alone), func(i int) { redeem(alone[i]) }) })
	for chunk := range slices.Chunk(batched, min(families.BatchLimits().Size, 48)) {
		both.Go(func() {
			calls := make([]refresh.Call, len(chunk))
			for i, t := range chunk {
				calls[i] = t.call
			}
			outs, err := families.RotateBatch(h.r.Context(), calls)
			if errors.Is(err, refresh.ErrRefused) { // nothing was done; each is judged alone
				outs, err = make([]*refresh.Outcome, len(calls)), nil
			}
			for i, t := range chunk {
				if t.err = err; err == nil {
					t.out = outs[i]
				}
			}
		})
	}
	both.Wait()
	h.spread(len(batched), func(i int) {
		if t := batched[i]; t.err == nil && t.out == nil {
			t.batched = false
			redeem(t)
		}
	})
	h.spread(len(turns), func(i int) {
		if t := turns[i]; t.err == nil {
			t.row, _, t.err = families.Family(h.r.Context(), t.m.row.ID)
		}
	})
	for _, t := range batched {
		if t.want.Row == 6 && t.before.Binding == refresh.Unbound && t.before.RefusedAt.IsZero() {
			h.ordinary++
			if t.batched {
				h.inBulk++
			}
		}
	}
}

// check holds one turn against the model and the invariants.
func (h *history) check(t *turn, events map[[16]byte][]audit.Kind) {
	m, c, r := t.m, t.call, h.r
	if t.err != nil {
		r.Errorf("redeem: %v", t.err)
		return
	}
	if t.row == nil {
		r.Errorf("family %s is gone", m.row.ID)
		return
	}
	// Verdict, effect, next head.
	out, want := *t.out, t.want
	told := plainOf(&out.Next)
	if want.Ends { // whether an outcome shows the end it made is the store's affair
		out.Next.EndedAt, out.Next.EndReason, out.Next.EndRequest = time.Time{}, "", ""
		told = plainOf(&out.Next)
	}
	if out.Verdict != want.Verdict || out.Reason != want.Reason || out.Row != want.Row || out.Writes != want.Writes || out.Ends != want.Ends ||
		!out.Now.Equal(want.Now) || !slices.Equal(out.Events, want.Events) || told != plainOf(&want.Next) {
		r.Errorf("generation %d of %d, batched %t: outcomes differ (-model +store)\n%s", c.Attempt.Generation, t.before.Generation, t.batched, diff(want, out))
	}
	if t.batched && out.Row != 6 {
		r.Errorf("a batch decided row %d", out.Row)
	}
	// The row.
	if want.Writes {
		m.row = want.Next
	}
	if want.Ends {
		m.row.EndedAt, m.row.EndReason, m.row.EndRequest = want.Now, refresh.EndedByReuse, c.Attempt.RequestID
	}
	h.agree(fmt.Sprintf("%s (%s)", out.Verdict, out.Reason), m, *t.row)
	// The log.
	kinds := append(slices.Clone(events[m.row.ID]), events[m.row.Session]...)
	expected := slices.Clone(want.Events)
	if want.Ends {
		expected = append(expected, audit.SessionEnded)
	}
	slices.Sort(kinds)
	slices.Sort(expected)
	if !slices.Equal(kinds, expected) {
		r.Errorf("%s (%s): the log says %v, want %v", out.Verdict, out.Reason, kinds, expected)
	}
	h.invariants(t, out)
	h.verdicts[out.Verdict]++
	h.rows[out.Row]++
}

// invariants holds what must be true whatever Judge says.
func (h *history) invariants(t *turn, out refresh.Outcome) {
	m, r, g := t.m, h.r, t.call.Attempt.Generation
	dead := !t.before.EndedAt.IsZero() || !m.owner.DisabledAt.IsZero() || t.before.BornAt.Before(h.floor)
	switch {
	case out.Verdict.Answers() && dead:
		r.Errorf("I5: a refresh after the end was answered: %s", out.Verdict)
	case out.Verdict.Answers():
		head := out.Next.Generation
		if key, ok := m.handed[head]; ok && key != out.Next.HeadKey {
			r.Errorf("I1: generation %d was handed out under root key %d and now under %d", head, key, out.Next.HeadKey)
		}
		m.handed[head] = out.Next.HeadKey
	case out.Verdict == refresh.Reused && t.row.EndedAt.IsZero():
		r.Error("I4: an old token was refused as reused, and the family lives")
	}
	if unbound := t.before.Binding == refresh.Unbound; unbound && !dead && g < t.before.Generation-1 && out.Verdict.Answers() {
		r.Errorf("I4: generation %d was answered at head %d", g, t.before.Generation)
	}
	switch moved := t.row.Generation - t.before.Generation; {
	case moved == 0 && (t.row.HeadKey != t.before.HeadKey || !t.row.HeadBorn.Equal(t.before.HeadBorn)):
		r.Error("I6: another head at the same generation")
	case moved != 0 && out.Verdict != refresh.Rotated, moved < 0:
		r.Errorf("I6: %s moved the head from %d to %d", out.Verdict, t.before.Generation, t.row.Generation)
	case moved > 1 && (g <= t.before.Generation || t.row.Generation != g+1):
		r.Errorf("I6: generation %d moved the head from %d to %d", g, t.before.Generation, t.row.Generation)
	}
	if !t.row.AbsoluteEnd.Equal(m.end) {
		r.Errorf("I7: the absolute end moved from %s to %s", m.end, t.row.AbsoluteEnd)
	}
	p := t.call.Policy
	if end := t.row.IdleEnd(p); end.After(m.end) {
		r.Errorf("I7: the idle end %s lies beyond the absolute end %s", end, m.end)
	}
	if out.Verdict == refresh.Replayed && !t.row.UsedAt.Equal(t.before.UsedAt) {
		r.Error("I7: a replay moved the idle end")
	}
}

// sawEverything wants that a long history was not a dull one.
func (h *history) sawEverything(steps int) {
	h.r.Logf("%d steps in %d rounds; verdicts %v; rows %v; acts %v; batches decided %d of %d ordinary rotations",
		h.steps, h.rounds, h.verdicts, h.rows, h.acts, h.inBulk, h.ordinary)
	if steps < manySteps {
		return // a short one may be dull by chance
	}
	for _, act := range []string{"login", "refused login", "end", "disable", "enable", "password", "floor", "root key", "role", "swept"} {
		if h.acts[act] == 0 {
			h.r.Errorf("no step was %q", act)
		}
	}
	for row := 1; row <= 12; row++ {
		if h.rows[row] == 0 {
			h.r.Errorf("no step met row %d of the table", row)
		}
	}
	if h.inBulk*10 < h.ordinary*9 {
		h.r.Errorf("batches decided %d of %d ordinary rotations, want nine in ten", h.inBulk, h.ordinary)
	}
}
