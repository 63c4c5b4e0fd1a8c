package storetest

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/session"
)

// reader follows the feed as a node does.
type reader struct {
	r  *rig
	at int64
}

func (f *reader) read() []revocation.Entry {
	f.r.Helper()
	var list []revocation.Entry
	for {
		page := got(f.r.Revocations().Read(f.r.Context(), f.at, 3))(f.r)
		for _, e := range page.Entries {
			if e.Seq <= f.at || e.Seq > page.Newest {
				f.r.Errorf("entry %d on the page from %d to %d", e.Seq, f.at, page.Newest)
			}
			f.at = e.Seq
		}
		list = append(list, page.Entries...)
		f.at = page.Newest
		if !page.More {
			return list
		}
	}
}

// entry is one line as it is expected: kind and subject.
type entry struct {
	kind    revocation.Kind
	subject string
}

func ofSession(f refresh.Family) entry { return entry{revocation.Session, f.Session.String()} }

// life is how long the tokens live that the store's signing key stands for.
const life = 610*time.Second + 7*time.Millisecond

// tells wants exactly these entries, in any order, and instants as they should
// be.
func (f *reader) tells(what string, want ...entry) {
	f.r.Helper()
	now := f.r.clock.Now()
	left := map[revocation.ID]revocation.Kind{}
	for _, e := range want {
		left[revocation.IDOf(e.kind, e.subject)] = e.kind
	}
	for _, e := range f.read() {
		notBefore := now.Truncate(time.Second).Add(time.Second)
		if e.Kind == revocation.Session {
			notBefore = notBefore.Add(revocation.Settling)
		}
		until := notBefore.Add(life + e.Kind.Lag())
		if e.NotBefore != notBefore.Unix() || e.Until != until.Truncate(time.Second).Unix()+1 {
			f.r.Errorf("%s: a %s from %d to %d, want %d to %s", what, e.Kind, e.NotBefore, e.Until, notBefore.Unix(), until)
		}
		if kind, ok := left[e.ID]; !ok || kind != e.Kind {
			f.r.Errorf("%s: an unexpected %s", what, e.Kind)
		}
		delete(left, e.ID)
	}
	for _, kind := range left {
		f.r.Errorf("%s: no entry for the %s", what, kind)
	}
}

// signing gives the ring a signing key, so that entries know how long tokens
// live, and two root keys.
func (r *rig) signing() *reader {
	r.Helper()
	r.change(keys.Change{Insert: []keys.StoredKey{r.signKey(1), r.signKey(2), rootKey(1, r.clock.Now()), rootKey(2, r.clock.Now())}})
	return &reader{r: r}
}

// revoked returns rows of the ring as a revocation leaves them.
func (r *rig) revoked(kids ...string) (list []keys.StoredKey) {
	r.Helper()
	now := r.clock.Now().Truncate(time.Millisecond)
	for _, k := range r.ring().Keys {
		if slices.Contains(kids, k.KID) {
			k.RevokedAt, k.Sealed, k.MasterID = &now, nil, keys.MasterID{}
			list = append(list, k)
		}
	}
	return list
}

var revocationStories = []story{
	{"everyPathThatEndsASession", func(r *rig) {
		feed, ctx := r.signing(), r.Context()
		feed.tells("an empty feed")
		u := r.user()
		var f []refresh.Family
		for range 8 {
			f = append(f, r.rotate(r.login(u), 2))
			r.clock.Advance(1300 * time.Millisecond)
		}
		other := r.login(r.user())
		feed.tells("logins and rotations")

		logout(r, f[0])
		feed.tells("a logout", ofSession(f[0]))
		logout(r, f[0])
		feed.tells("the same logout again")
		r.end(session.End{User: u.ID, Session: f[1].Session, Reason: refresh.EndedByOperator, Actor: "operator:x", RequestID: r.request()})
		feed.tells("one session ended by an operator", ofSession(f[1]))
		reborn := r.login(u, func(o *login.Opening) { o.Replaces = f[2].Session })
		feed.tells("a login in its place", ofSession(f[2]))
		r.redeem(r.presents(f[3], 1))
		feed.tells("reuse", ofSession(f[3]))
		if n := got(r.Sessions().EndOldest(ctx, u.ID, 4, r.request()))(r); n != 1 {
			r.Fatalf("%d sessions ended by the limit", n)
		}
		feed.tells("too many sessions", ofSession(f[4]))
		r.end(session.End{User: u.ID, Except: f[5].Session, Reason: refresh.EndedByUser, Actor: audit.ByUser, RequestID: r.request()})
		feed.tells("all but one", ofSession(f[6]), ofSession(f[7]), ofSession(reborn))

		fresh := r.login(u)
		got(r.Accounts().ChangePassword(ctx, account.PasswordChange{
			User: u.ID, Hash: otherHash, Scheme: newScheme, Keep: fresh.Session, Actor: audit.ByUser, RequestID: r.request(),
		}))(r)
		feed.tells("another password: sessions, never the user", ofSession(f[5]))
		ban(r, fresh)
		feed.tells("a ban", entry{revocation.User, u.ID.String()}, ofSession(fresh))
		ban(r, fresh)
		feed.tells("a ban of who is banned")
		r.alive(other)
	}},
	{"floorsAndKeys", func(r *rig) {
		feed := r.signing()
		everybody := entry{revocation.All, facts.Issuer}
		old := []refresh.Family{r.login(r.user()), r.login(r.user()), r.login(r.user())}
		r.clock.Advance(time.Minute)
		young := r.login(r.user())
		floor := got(r.Sessions().RaiseFloor(r.Context(), young.BornAt, "operator:x", r.request()))(r)
		feed.tells("a floor", everybody)
		below := r.request()
		got(r.Sessions().RaiseFloor(r.Context(), floor.Add(-time.Second), "operator:x", below))(r)
		feed.tells("a floor below the floor")
		if events := r.events(audit.Filter{RequestID: below}); len(events) > 0 {
			r.Errorf("a floor below the floor is told of in the log: %v", events)
		}
		r.clock.Advance(2 * time.Second)
		got(r.Sessions().RaiseFloor(r.Context(), floor, "operator:x", r.request()))(r)
		feed.tells("the same floor once more", everybody)
		for got(r.Sessions().EndBelowFloor(r.Context(), 2))(r) > 0 {
		}
		feed.tells("the ends below the floor, which it covers")
		r.over(old[0], r.clock.Now(), refresh.EndedByFloor, "")
		if from := r.row(young.ID).TokensFrom; !from.Equal(r.clock.Now().Truncate(time.Second).Add(time.Second)) {
			r.Errorf("who stays gets tokens from %s, at %s", from, r.clock.Now())
		}

		r.clock.Advance(time.Minute)
		r.change(keys.Change{IfRevision: 1, Update: r.revoked("kid-1")})
		feed.tells("a signing key", entry{revocation.Key, "kid-1"})
		r.change(keys.Change{IfRevision: 2, Update: r.revoked("kid-1", "kid-2")})
		feed.tells("one that is revoked already, and another", entry{revocation.Key, "kid-2"})
		r.clock.Advance(time.Minute)
		r.change(keys.Change{IfRevision: 3, Update: r.revoked("refresh-1", "refresh-2")})
		feed.tells("root keys", everybody)

		// A node that did not know yet answered once more.
		late := r.rotate(r.login(r.user()), 1)
		r.clock.Advance(2 * time.Second)
		late = r.rotate(late, 1)
		got(r.Sessions().EndUnderRoot(r.Context(), 1, 100, "operator:x"))(r)
		feed.tells("the ends under the root key: who was used since has an entry", ofSession(late))
		r.over(young, r.clock.Now(), refresh.EndedByRootKey, "")
	}},
	{"whatIsDatedAheadIsNotCovered", func(r *rig) {
		feed := r.signing()
		everybody := entry{revocation.All, facts.Issuer}
		floor := func() {
			got(r.Sessions().RaiseFloor(r.Context(), r.clock.Now(), "operator:x", r.request()))(r)
			for got(r.Sessions().EndBelowFloor(r.Context(), 100))(r) > 0 {
			}
		}
		floor()
		feed.tells("a floor", everybody)
		r.clock.Advance(200 * time.Millisecond)
		f := r.login(r.user()) // its token is dated by the end of this second
		r.clock.Advance(200 * time.Millisecond)
		floor()
		feed.tells("another floor of the same second", ofSession(f))

		// The same after a ban that was taken back.
		r.clock.Advance(time.Minute)
		u := r.user()
		ban(r, r.login(u))
		r.must(r.Accounts().Enable(r.Context(), u.ID, "operator:x", r.request()))
		back := r.login(got(r.Accounts().ByID(r.Context(), u.ID))(r))
		feed.read()
		r.clock.Advance(200 * time.Millisecond)
		floor()
		feed.tells("a floor in the second of a ban", everybody, ofSession(back))
	}},
	{"whatIsRolledBackIsNotTold", func(r *rig) {
		feed := r.signing()
		f := r.login(r.user())
		twin := r.signKey(3)
		twin.KID = "kid-1"
		_, err := r.Keys().ChangeRing(r.Context(), keys.Change{IfRevision: 1, Update: r.revoked("kid-2", "refresh-1"), Insert: []keys.StoredKey{twin}})
		if !errors.Is(err, keys.ErrRingChanged) {
			r.Fatalf("a kid in use: %v", err)
		}
		_, err = r.Accounts().ChangePassword(r.Context(), account.PasswordChange{
			User: f.User, Version: 9, Hash: otherHash, Scheme: newScheme, Actor: audit.ByUser, RequestID: r.request(),
		})
		if !errors.Is(err, account.ErrChanged) {
			r.Fatalf("another version: %v", err)
		}
		stale := r.opening(r.user(), func(o *login.Opening) { o.CredentialVersion, o.Replaces = 9, f.Session })
		if _, err := r.Logins().Open(r.Context(), stale); !errors.Is(err, login.ErrRefused) {
			r.Fatalf("a login with another credential: %v", err)
		}
		feed.tells("acts that were refused")
		if from := r.row(f.ID).TokensFrom; !from.IsZero() {
			r.Errorf("tokens from %s", from)
		}
		r.alive(f)
	}},
	{"tokensOfTheSameSecondComeAfter", func(r *rig) {
		r.signing()
		u := r.user()
		f := r.login(u)
		if !f.TokensFrom.IsZero() {
			r.Errorf("tokens from %s before anything was revoked", f.TokensFrom)
		}
		ban(r, f)
		r.must(r.Accounts().Enable(r.Context(), u.ID, "operator:x", r.request()))
		want := r.clock.Now().Truncate(time.Second).Add(time.Second)
		u = got(r.Accounts().ByID(r.Context(), u.ID))(r)
		f = r.login(u)
		same := func(what string, from time.Time) {
			r.Helper()
			if !from.Equal(want) {
				r.Errorf("%s: tokens from %s, want %s", what, from, want)
			}
		}
		same("at birth", f.TokensFrom)
		same("judged alone", r.redeem(r.presents(f, 1)).Next.TokensFrom)
		batch := got(r.Families().RotateBatch(r.Context(), []refresh.Call{r.presents(f, 2)}))(r)
		if batch[0] == nil {
			r.Fatal("the batch left an ordinary rotation")
		}
		same("in a batch", batch[0].Next.TokensFrom)
		if other := r.login(r.user()); !other.TokensFrom.IsZero() {
			r.Errorf("somebody else's tokens from %s", other.TokensFrom)
		}
		r.clock.Advance(time.Minute)
		got(r.Sessions().RaiseFloor(r.Context(), f.BornAt, "operator:x", r.request()))(r)
		want = r.clock.Now().Truncate(time.Second).Add(time.Second)
		same("after a floor, the later of both", r.row(f.ID).TokensFrom)
		same("at another birth", r.login(r.user()).TokensFrom)
	}},
	{"statusIndexesAreGivenOnceAndGoWithTheEnd", func(r *rig) {
		feed := r.signing()
		const takers, each = 5, 7
		var first [takers]int64
		atOnce(takers, func(i int) {
			n, err := r.Revocations().TakeIndexes(r.Context(), each)
			if err != nil {
				r.Errorf("taker %d: %v", i, err)
			}
			first[i] = n
		})
		slices.Sort(first[:])
		for i, n := range first {
			if n != int64(1+i*each) {
				r.Errorf("the blocks begin at %v", first)
				break
			}
		}
		if page := got(r.Revocations().Read(r.Context(), 0, 10))(r); page.Indexes != takers*each {
			r.Errorf("up to %d were handed out, want %d", page.Indexes, takers*each)
		}

		with := r.login(r.user(), func(o *login.Opening) { o.Family.StatusIndex = 1<<40 + 5 })
		without := r.login(r.user())
		for what, n := range map[string]int64{
			"at birth": with.StatusIndex, "read": r.row(with.ID).StatusIndex, "judged alone": r.redeem(r.presents(with, 1)).Next.StatusIndex,
		} {
			if n != 1<<40+5 {
				r.Errorf("%s: index %d", what, n)
			}
		}
		batch := got(r.Families().RotateBatch(r.Context(), []refresh.Call{r.presents(with, 2), r.presents(without, 1)}))(r)
		if batch[0] == nil || batch[1] == nil || batch[0].Next.StatusIndex != 1<<40+5 || batch[1].Next.StatusIndex != 0 {
			r.Errorf("in a batch: %+v", batch)
		}
		logout(r, without)
		r.redeem(r.presents(with, 1)) // reuse
		want := map[revocation.ID]int64{
			revocation.IDOf(revocation.Session, with.Session.String()): 1<<40 + 5, revocation.IDOf(revocation.Session, without.Session.String()): 0,
		}
		entries := feed.read()
		for _, e := range entries {
			if n, ok := want[e.ID]; !ok || n != e.Index {
				r.Errorf("entry %+v", e)
			}
		}
		if len(entries) != 2 {
			r.Errorf("%d entries, want 2", len(entries))
		}
	}},
	{"whatHasPassedIsSweptInSteps", func(r *rig) {
		feed := r.signing()
		for range 5 {
			logout(r, r.login(r.user()))
		}
		if n := len(feed.read()); n != 5 {
			r.Fatalf("%d entries, want 5", n)
		}
		if n := got(r.Revocations().Sweep(r.Context(), r.clock.Now(), 100))(r); n != 0 {
			r.Errorf("%d swept while they stand", n)
		}
		r.clock.Advance(life + revocation.Lag + revocation.Settling + time.Second)
		if list := (&reader{r: r}).read(); len(list) != 0 {
			r.Errorf("%d entries that have passed are told", len(list))
		}
		for _, want := range []int{3, 2, 0} {
			if n := got(r.Revocations().Sweep(r.Context(), r.clock.Now(), 3))(r); n != want {
				r.Errorf("%d swept, want %d", n, want)
			}
		}
		logout(r, r.login(r.user()))
		if list := feed.read(); len(list) != 1 || list[0].Seq <= 5 {
			r.Errorf("after the sweep numbers go on with %+v", list)
		}
	}},
	{"nodesNumberWhatManyEndAtOnce", func(r *rig) {
		r.signing()
		const actors, each, nodes = 6, 15, 4
		var families [actors][]refresh.Family
		for i := range families {
			u := r.user()
			for range each {
				families[i] = append(families[i], r.login(u))
			}
		}
		var working atomic.Int32
		working.Store(actors)
		var seen [nodes][]revocation.Entry
		var all sync.WaitGroup
		for i := range actors {
			all.Go(func() {
				defer working.Add(-1)
				for _, f := range families[i] {
					logout(r.alone(i), f)
				}
			})
		}
		for n := range nodes {
			all.Go(func() {
				feed := &reader{r: r}
				for over := false; !over; {
					over = working.Load() == 0 // and then once more
					seen[n] = append(seen[n], feed.read()...)
				}
			})
		}
		all.Wait()
		want := map[revocation.ID]bool{}
		for _, list := range families {
			for _, f := range list {
				want[revocation.IDOf(revocation.Session, f.Session.String())] = true
			}
		}
		for n := range nodes {
			told := map[revocation.ID]bool{}
			for _, e := range seen[n] {
				told[e.ID] = true
			}
			if len(seen[n]) != len(want) || len(told) != len(want) {
				r.Errorf("node %d saw %d entries of %d sessions, want %d", n, len(seen[n]), len(told), len(want))
			}
			if d := diff(seen[0], seen[n]); d != "" {
				r.Errorf("node %d saw other numbers than node 0\n%s", n, strings.TrimSpace(d))
			}
		}
	}},
}

// alone returns the rig for one of several goroutines: its requests have names
// of their own.
func (r *rig) alone(i int) *rig {
	own := *r
	own.n = 1000 * (i + 1)
	return &own
}
