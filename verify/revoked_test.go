package verify

import (
	"errors"
	"maps"
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Unix(1_772_366_400, 0)

// about is an entry on the session named by a letter.
func about(seq int64, letter string, until time.Duration) listed {
	return listed{markOf(ofSession, letter), revocation{seq: seq, session: true, notBefore: noon.Unix(), until: noon.Add(until).Unix()}}
}

func snapshot(seq, issued int64, entries ...listed) *statement {
	return &statement{issued: noon.Unix() + issued, seq: seq, entries: entries}
}

func delta(after, seq int64, entries ...listed) *statement {
	return &statement{issued: noon.Unix(), after: after, seq: seq, entries: entries}
}

func issuedLater(st *statement, seconds int64) *statement {
	st.issued += seconds
	return st
}

func TestRevocations_take(t *testing.T) {
	a, b, c := about(2, "a", time.Hour), about(5, "b", time.Hour), about(9, "c", time.Hour)
	held := func(t *testing.T) *revocations {
		r, _, err := (*revocations)(nil).take(snapshot(5, 0, a, b), 0, noon, 10)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, tt := range map[string]struct {
		st    *statement
		asked int64
		after time.Duration // of the reader's clock after noon
		want  string        // sessions that have ended
		seq   int64
		err   error
	}{
		"delta":                       {delta(5, 9, c), 5, 0, "abc", 9, nil},
		"delta that overlaps":         {delta(2, 9, b, c), 5, 0, "abc", 9, nil},
		"delta that is known":         {delta(2, 5, b), 5, 0, "ab", 5, nil},
		"delta of nothing":            {delta(5, 5), 5, 0, "ab", 5, nil},
		"delta from a node behind":    {delta(3, 4), 5, 0, "ab", 5, nil},
		"delta beyond a gap":          {delta(6, 9, c), 5, 0, "ab", 5, errBehind},
		"snapshot":                    {snapshot(9, 0, b, c), 5, 0, "bc", 9, nil},
		"snapshot of nothing":         {snapshot(5, 0), 5, 0, "", 5, nil},
		"snapshot, overtaken":         {snapshot(4, 0, a), 3, 0, "ab", 5, nil},
		"snapshot of a restored one":  {snapshot(3, 1, a), 5, 0, "ab", 3, nil}, // b lingers
		"snapshot, replayed":          {snapshot(3, -1, a), 5, 0, "ab", 5, errOld},
		"entry that is over at once":  {delta(5, 9, about(9, "c", -1)), 5, 0, "ab", 9, nil},
		"entries over meanwhile":      {issuedLater(delta(5, 9, about(9, "c", 2*time.Hour)), 3600), 5, time.Hour, "c", 9, nil},
		"entries over by one clock":   {delta(5, 9, about(9, "c", 30*time.Minute)), 5, time.Hour, "abc", 9, nil},
		"and by the other":            {issuedLater(delta(5, 9, about(9, "c", 30*time.Minute)), 3600), 5, 0, "abc", 9, nil},
		"snapshot after their end":    {snapshot(9, 3600), 5, 59 * time.Minute, "ab", 9, nil}, // by our clock they have a minute
		"snapshot after both ends":    {snapshot(9, 3600), 5, time.Hour, "", 9, nil},
		"more than fits":              {delta(5, 20, many(9)...), 5, 0, "b", 20, nil}, // a is the oldest
		"exactly what fits":           {delta(5, 20, many(8)...), 5, 0, "ab", 20, nil},
		"a later ban of the same one": {delta(5, 9, about(9, "a", time.Minute)), 5, 0, "ab", 9, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := held(t)
			before := maps.Clone(r.entries)
			next, _, err := r.take(tt.st, tt.asked, noon.Add(tt.after), 10)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error is %v, expected %v", err, tt.err)
			}
			got := ""
			for _, letter := range []string{"a", "b", "c"} {
				if next.has(markOf(ofSession, letter)) {
					got += letter
				}
			}
			if got != tt.want || next.seq != tt.seq {
				t.Errorf("ended are %q up to %d, expected %q up to %d", got, next.seq, tt.want, tt.seq)
			}
			if !maps.Equal(before, r.entries) {
				t.Error("the snapshot that readers hold has changed")
			}
			if next != r && next.generation() == r.generation() {
				t.Error("another snapshot of the same generation")
			}
		})
	}
}

func many(n int) (list []listed) {
	for i := range n {
		list = append(list, about(int64(10+i), string(rune('p'+i)), time.Hour))
	}
	return list
}

// However many sessions somebody ends: what is said of keys and users is heard.
func TestRevocations_manyEndsOfSessionsHideNothingElse(t *testing.T) {
	ban := func(seq int64) listed {
		return listed{markOf(ofUser, string(rune('A'+seq))), revocation{seq: seq, notBefore: noon.Unix(), until: noon.Add(time.Minute).Unix()}}
	}
	r, _, err := (*revocations)(nil).take(snapshot(60, 0, append([]listed{ban(1), ban(2), ban(3)}, many(50)...)...), 0, noon, 10)
	if err != nil || len(r.entries) != 10 || !r.partial || !r.has(ban(1).mark) || !r.has(ban(3).mark) || !r.has(many(50)[49].mark) {
		t.Fatalf("held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
	r, _, err = r.take(delta(60, 61, ban(61)), 60, noon, 10)
	if err != nil || len(r.entries) != 10 || !r.partial || !r.has(ban(61).mark) {
		t.Errorf("after a delta held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
	all := []listed{ban(70), ban(71), ban(72), ban(73), ban(74), ban(75), ban(76)}
	if next, _, err := r.take(delta(61, 80, all...), 61, noon, 10); next != r || !errors.Is(err, errTooMany) {
		t.Errorf("eleven bans where ten fit: %v", err)
	}
	r, _, err = r.take(snapshot(90, 1, ban(61)), 61, noon, 10)
	if err != nil || len(r.entries) != 1 || r.partial {
		t.Errorf("after a snapshot that fits held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
}

// What the server has left out of a snapshot was not taken back, and nobody knows of
// whom it does not speak.
func TestRevocations_aPartialSnapshotTakesNoEndBack(t *testing.T) {
	partial := func(seq int64, entries ...listed) *statement {
		st := snapshot(seq, 0, entries...)
		st.partial = true
		return st
	}
	a, b := about(1, "a", time.Hour), about(2, "b", time.Hour)
	first, _, err := (*revocations)(nil).take(partial(2, b), 0, noon, 10)
	if err != nil || !first.partial {
		t.Fatalf("the first snapshot is partial: %t, %v", first.isPartial(), err)
	}
	r, _, err := (*revocations)(nil).take(snapshot(2, 0, a, b), 0, noon, 10)
	if err != nil || r.partial {
		t.Fatalf("partial is %t, %v", r.isPartial(), err)
	}
	r, _, err = r.take(partial(3, b, about(3, "c", time.Hour)), 2, noon, 10)
	if err != nil || len(r.entries) != 3 || !r.partial || !r.has(a.mark) {
		t.Errorf("after a partial snapshot held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
	r, _, err = r.take(delta(3, 4, about(4, "d", time.Hour)), 3, noon, 10)
	if err != nil || len(r.entries) != 4 || !r.partial {
		t.Errorf("after a delta held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
	r, _, err = r.take(snapshot(4, 1, b), 4, noon, 10)
	if err != nil || len(r.entries) != 1 || r.partial {
		t.Errorf("after a whole snapshot held are %d, partial is %t, %v", len(r.entries), r.isPartial(), err)
	}
}

func TestRevocations_aDeltaNeedsASnapshotFirst(t *testing.T) {
	if _, _, err := (*revocations)(nil).take(delta(1, 2), 0, noon, 10); !errors.Is(err, errBehind) {
		t.Error(err)
	}
}

// What a restored store has forgotten lingers, in case the node only lags, and
// then it is over: for a key as well, which would otherwise never come back.
func TestRevocations_whatLingersIsOverInTime(t *testing.T) {
	k := listed{markOf(ofKey, "k"), revocation{seq: 7, key: true, notBefore: noon.Unix(), until: noon.Unix() + 720}}
	r, named, err := (*revocations)(nil).take(snapshot(7, 0, k), 0, noon, 10)
	if err != nil || !named {
		t.Fatal(named, err)
	}
	r, named, err = r.take(snapshot(3, 1), 7, noon, 10)
	if err != nil || named {
		t.Fatal(named, err)
	}
	e := r.entries[k.mark]
	if e.over(noon.Add(lagGrace-time.Second)) || !e.over(noon.Add(lagGrace)) {
		t.Errorf("entry is %+v", e)
	}
	// The node that lagged has caught up: the key is revoked for good.
	r, named, err = r.take(delta(3, 7, k), 3, noon, 10)
	if err != nil || named {
		t.Fatal(named, err)
	}
	if e := r.entries[k.mark]; e.over(noon.Add(100 * time.Hour)) {
		t.Errorf("entry is %+v", e)
	}
	// And stays so when the server has dropped its entry in time.
	if r, _, err = r.take(snapshot(7, 7200), 7, noon.Add(2*time.Hour), 10); err != nil || !r.has(k.mark) {
		t.Error("the key has come back", err)
	}
}

// Whatever the mix of snapshots and deltas, and however often some are sent
// again: a reader that took the last one holds what a fresh snapshot has.
func TestRevocations_everyWayLeadsToTheSameList(t *testing.T) {
	for seed := range uint64(200) {
		draw := rand.New(rand.NewPCG(seed, 1))
		var all []listed
		for seq := int64(1); seq <= 40; seq += 1 + draw.Int64N(3) {
			all = append(all, about(seq, string(rune('A'+draw.IntN(12))), time.Hour))
		}
		last := all[len(all)-1].seq
		upTo := func(after, seq int64) (list []listed) {
			for _, l := range all {
				if l.seq > after && l.seq <= seq {
					list = append(list, l)
				}
			}
			return list
		}
		var r *revocations
		for r == nil || r.seq < last {
			seq := min(last, 1+draw.Int64N(last+3))
			after := int64(0)
			if r != nil && draw.IntN(3) > 0 {
				after = draw.Int64N(r.seq + 1)
				seq = max(seq, after)
			}
			next, _, err := r.take(&statement{issued: noon.Unix(), after: after, seq: seq, entries: upTo(after, seq)}, 0, noon, 100)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if r != nil && next.seq < r.seq {
				t.Fatalf("seed %d: from %d back to %d", seed, r.seq, next.seq)
			}
			r = next
		}
		fresh, _, err := (*revocations)(nil).take(snapshot(last, 0, all...), 0, noon, 100)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(fresh.entries, r.entries) {
			t.Fatalf("seed %d: held are %v, expected %v", seed, r.entries, fresh.entries)
		}
	}
}
