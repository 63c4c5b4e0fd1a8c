package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
)

func (r *rig) ring() keys.StoredRing {
	r.Helper()
	ring := got(r.Keys().ReadRing(r.Context()))(r)
	slices.SortFunc(ring.Keys, func(a, b keys.StoredKey) int {
		return cmp.Or(cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Algorithm, b.Algorithm), a.Number-b.Number)
	})
	if !ring.StoreNow.Equal(r.clock.Now()) {
		r.Errorf("the ring was read at %s, want %s", ring.StoreNow, r.clock.Now())
	}
	return ring
}

func (r *rig) signKey(number int) keys.StoredKey {
	active := r.clock.Now().Add(24 * time.Hour).Truncate(time.Millisecond)
	return keys.StoredKey{
		Purpose: keys.Sign, Algorithm: keys.ES256, Number: number, KID: fmt.Sprintf("kid-%d", number),
		Sealed: bytes.Repeat([]byte{0, byte(number), 0xff}, 50), MasterID: keys.MasterID{1, 2, 3, 4, 5, 6, 7, 8},
		PublishedAt: r.clock.Now().Truncate(time.Millisecond), ActiveAt: &active, SignsFor: 610*time.Second + 7*time.Millisecond,
	}
}

func rootKey(number int, at time.Time) keys.StoredKey {
	at = at.Truncate(time.Millisecond)
	return keys.StoredKey{
		Purpose: keys.Refresh, Algorithm: keys.RootMAC, Number: number, KID: fmt.Sprintf("refresh-%d", number),
		Sealed: []byte{9, 8, 7}, MasterID: keys.MasterID{1, 2, 3, 4, 5, 6, 7, 8}, PublishedAt: at, ActiveAt: &at,
	}
}

func (r *rig) change(c keys.Change) int64 {
	r.Helper()
	return got(r.Keys().ChangeRing(r.Context(), c))(r)
}

// unchanged wants that a change is refused and leaves the ring as it was.
func (r *rig) unchanged(what string, c keys.Change) {
	r.Helper()
	before := r.ring()
	c.Audit = append(c.Audit, audit.Event{Kind: audit.KeyRevoked, Actor: "operator:x", RequestID: what})
	if _, err := r.Keys().ChangeRing(r.Context(), c); !errors.Is(err, keys.ErrRingChanged) {
		r.Errorf("%s: %v, want ErrRingChanged", what, err)
	}
	r.same("the ring after "+what, before, r.ring())
	if e := r.events(audit.Filter{RequestID: what}); len(e) > 0 {
		r.Errorf("%s is in the log", what)
	}
}

var ringStories = []story{
	{"aFreshStore", func(r *rig) {
		ring := r.ring()
		if ring.Revision != 0 || len(ring.Keys) != 0 || !ring.Fresh() {
			r.Errorf("%+v", ring)
		}
		r.same("live roots", []int(nil), got(r.Keys().LiveRoots(r.Context()))(r))
	}},
	{"keptAsTheyWere", func(r *rig) {
		first, standby, root := r.signKey(1), r.signKey(2), rootKey(255, r.clock.Now())
		standby.ActiveAt = nil
		master := keys.MasterID{8, 7, 6, 5, 4, 3, 2, 1}
		revision := r.change(keys.Change{
			Insert: []keys.StoredKey{first, standby, root}, MasterID: &master,
			Audit: []audit.Event{{Kind: audit.KeyPublished, Actor: audit.BySystem, RequestID: "first", Details: map[string]string{"kid": "kid-1", "alg": "ES256"}}},
		})
		ring := r.ring()
		r.same("the ring", keys.StoredRing{Revision: revision, MasterID: master, Keys: []keys.StoredKey{root, first, standby}, StoreNow: r.clock.Now()}, ring)
		if revision != 1 || ring.Keys[1].PublishedAt.Location() != time.UTC {
			r.Errorf("revision %d, instants in %s", revision, ring.Keys[1].PublishedAt.Location())
		}
		e := r.events(audit.Filter{RequestID: "first"})
		if len(e) != 1 || e[0].Details["kid"] != "kid-1" || e[0].Details["alg"] != "ES256" || !e[0].At.Equal(r.clock.Now()) || e[0].ID.IsZero() {
			r.Errorf("the log says %+v", e)
		}

		r.clock.Advance(time.Hour)
		revoked := r.clock.Now().Truncate(time.Millisecond)
		first.RevokedAt, first.Sealed, first.MasterID = &revoked, nil, keys.MasterID{}
		standby.ActiveAt, standby.SignsFor, standby.Sealed, standby.MasterID = &revoked, time.Hour, []byte{1}, master
		altered := standby
		altered.KID, altered.PublishedAt = "another", revoked // never change
		revision = r.change(keys.Change{IfRevision: revision, Update: []keys.StoredKey{altered, first}})
		ring = r.ring()
		r.same("the ring", []keys.StoredKey{root, first, standby}, ring.Keys)
		if revision != 2 || ring.Revision != 2 || ring.MasterID != master {
			r.Errorf("revision %d and %d, master %s", revision, ring.Revision, ring.MasterID)
		}

		standby.ActiveAt = nil                                    // a rotation that was canceled
		standby.PublishedAt = standby.PublishedAt.Add(-time.Hour) // by a clock that was ahead, as it has turned out
		r.change(keys.Change{IfRevision: 2, Update: []keys.StoredKey{standby}, Forget: []keys.KeyName{first.Name()}})
		r.same("the ring", []keys.StoredKey{root, standby}, r.ring().Keys)
		if n := r.change(keys.Change{IfRevision: 3, Audit: []audit.Event{{Kind: audit.KeyCanceled, Actor: "operator:x", RequestID: "empty"}}}); n != 4 {
			r.Errorf("a change without rows made revision %d, want 4", n)
		}
		if e := r.events(audit.Filter{RequestID: "empty"}); len(e) != 1 {
			r.Errorf("the log of a change without rows: %v", e)
		}
	}},
	{"decidedOnAnotherRing", func(r *rig) {
		r.change(keys.Change{Insert: []keys.StoredKey{r.signKey(1)}})
		twin := r.signKey(2)
		twin.KID = "kid-1"
		for what, c := range map[string]keys.Change{
			"an old revision":                  {IfRevision: 0, Insert: []keys.StoredKey{r.signKey(2)}},
			"a revision to come":               {IfRevision: 2, Insert: []keys.StoredKey{r.signKey(2)}},
			"a number in use":                  {IfRevision: 1, Insert: []keys.StoredKey{func() keys.StoredKey { k := r.signKey(1); k.KID = "x"; return k }()}},
			"a kid in use":                     {IfRevision: 1, Insert: []keys.StoredKey{twin}},
			"a number twice in one change":     {IfRevision: 1, Insert: []keys.StoredKey{r.signKey(2), func() keys.StoredKey { k := r.signKey(2); k.KID = "x"; return k }()}},
			"an update that meets no row":      {IfRevision: 1, Update: []keys.StoredKey{r.signKey(1), r.signKey(2)}},
			"a forget that meets no row":       {IfRevision: 1, Forget: []keys.KeyName{r.signKey(1).Name(), r.signKey(2).Name()}},
			"half of it right, half not there": {IfRevision: 1, Insert: []keys.StoredKey{r.signKey(3)}, Forget: []keys.KeyName{r.signKey(2).Name()}},
		} {
			r.unchanged(what, c)
		}
	}},
	{"ofManyPlannersOneWins", func(r *rig) {
		for revision := range int64(5) {
			var won, lost atomic.Int32
			atOnce(10, func(i int) {
				k := r.signKey(int(revision) + 1)
				k.KID = fmt.Sprintf("kid-%d-%d", revision, i)
				switch n, err := r.Keys().ChangeRing(r.Context(), keys.Change{IfRevision: revision, Insert: []keys.StoredKey{k}}); {
				case errors.Is(err, keys.ErrRingChanged):
					lost.Add(1)
				case err != nil || n != revision+1:
					r.Errorf("planner %d: revision %d, %v", i, n, err)
				default:
					won.Add(1)
				}
			})
			if ring := r.ring(); won.Load() != 1 || lost.Load() != 9 || ring.Revision != revision+1 || len(ring.Keys) != int(revision)+1 {
				r.Errorf("%d won, %d lost; revision %d with %d keys", won.Load(), lost.Load(), ring.Revision, len(ring.Keys))
			}
		}
	}},
	{"liveRoots", func(r *rig) {
		for _, n := range []uint8{3, 3, 200} {
			r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = n })
		}
		ended := r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 7 })
		r.rotate(r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 9 }), 1) // was under 9, is under 1
		logout(r, ended)
		live := got(r.Keys().LiveRoots(r.Context()))(r)
		slices.Sort(live)
		r.same("heads' keys, those of ended families included", []int{1, 3, 7, 200}, live)
	}},
}

var auditStories = []story{
	{"filters", func(r *rig) {
		u, s, f := id.NewUser(), id.NewSession(), id.NewFamily(id.NewUser())
		begun := r.clock.Now()
		event := func(n int, change func(*audit.Event)) audit.Event {
			e := audit.Event{ID: id.NewEvent(), At: begun.Add(time.Duration(n) * time.Minute), Kind: audit.TokenMinted, Actor: "operator:x"}
			change(&e)
			return e
		}
		events := []audit.Event{
			event(0, func(e *audit.Event) { e.User = u }),
			event(1, func(e *audit.Event) {
				e.Session = s
				e.Details = map[string]string{"a": "b", "quote": `"'\ ` + "\u00e9\n"}
			}),
			event(2, func(e *audit.Event) { e.Family = f; e.Kind = audit.FamilyLate }),
			event(3, func(e *audit.Event) { e.RequestID = "r-1"; e.User = u }),
			event(4, func(e *audit.Event) { e.User, e.Session, e.Family, e.RequestID = u, s, f, "r-2" }),
			event(5, func(e *audit.Event) {}),
		}
		written := slices.Clone(events)
		written = append(written, audit.Event{Kind: audit.KeysReset, Actor: audit.BySystem}) // the store's instant, and its id
		r.change(keys.Change{Audit: written})

		expect := func(what string, filter audit.Filter, want ...int) {
			r.Helper()
			var list []audit.Event
			for _, n := range want {
				list = append(list, events[n])
			}
			found := r.events(filter)
			found = slices.DeleteFunc(found, func(e audit.Event) bool { return e.Kind == audit.KeysReset })
			r.same(what, list, found)
		}
		expect("everything, newest first", audit.Filter{}, 5, 4, 3, 2, 1, 0)
		expect("of a user", audit.Filter{User: u}, 4, 3, 0)
		expect("of a session", audit.Filter{Session: s}, 4, 1)
		expect("of a family", audit.Filter{Family: f}, 4, 2)
		expect("of a request", audit.Filter{RequestID: "r-1"}, 3)
		expect("of a kind", audit.Filter{Kind: audit.FamilyLate}, 2)
		expect("of a user in a session", audit.Filter{User: u, Session: s}, 4)
		expect("of nobody", audit.Filter{User: id.NewUser()})
		expect("strictly older", audit.Filter{Before: events[2].At}, 1, 0)
		expect("the newest two", audit.Filter{Limit: 2}, 5, 4)
		expect("a page", audit.Filter{Before: events[4].At, Limit: 2}, 3, 2)
		reset := r.events(audit.Filter{Kind: audit.KeysReset})
		if len(reset) != 1 || !reset[0].At.Equal(begun) || reset[0].ID.IsZero() {
			r.Errorf("without an instant of its own: %+v", reset)
		}
	}},
	{"pageByPageNoneIsLeftOut", func(r *rig) {
		var crowd []audit.Event // of one instant
		for range 7 {
			crowd = append(crowd, audit.Event{At: r.clock.Now(), Kind: audit.TokenMinted, Actor: audit.BySystem})
		}
		r.change(keys.Change{Audit: crowd})
		whole := r.events(audit.Filter{})
		if len(whole) < len(crowd) {
			r.Fatalf("%d events", len(whole))
		}
		var paged []audit.Event
		for page := whole[:2]; len(page) > 0; page = r.events(audit.Filter{After: page[len(page)-1].ID, Limit: 2}) {
			paged = append(paged, page...)
		}
		r.same("page by page", whole, paged)
		if _, err := r.Audit().Events(r.Context(), audit.Filter{After: id.NewEvent()}); !errors.Is(err, audit.ErrNoEvent) {
			r.Errorf("after an event that is not there: %v", err)
		}
	}},
	{"aThousandAtMost", func(r *rig) {
		var events []audit.Event
		for i := range 1100 {
			events = append(events, audit.Event{At: r.clock.Now().Add(time.Duration(i) * time.Second), Kind: audit.TokenMinted, Actor: audit.BySystem})
		}
		r.change(keys.Change{Audit: events})
		for _, limit := range []int{0, 1100, 1 << 40} {
			if n := len(r.events(audit.Filter{Limit: limit})); n != 1000 {
				r.Errorf("asked for %d: %d events, want 1000", limit, n)
			}
		}
	}},
}
