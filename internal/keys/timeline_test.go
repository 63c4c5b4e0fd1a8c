package keys

import (
	"slices"
	"testing"
	"time"
)

func at(d time.Duration) *time.Time { t := epoch.Add(d); return &t }

func row(number int, active *time.Time) StoredKey {
	return StoredKey{
		Purpose: Sign, Algorithm: ES256, Number: number, KID: string(rune('a' + number)), Sealed: []byte{1},
		PublishedAt: epoch, ActiveAt: active, SignsFor: 10 * time.Minute,
	}
}

func revoked(k StoredKey, when *time.Time) StoredKey { k.RevokedAt = when; return k }
func erased(k StoredKey) StoredKey                   { return destroyed(k) }

func TestTimeline_walksTheTableAndItsBorders(t *testing.T) {
	long, short := DefaultPolicy(), DefaultPolicy()
	short.RotateEvery, short.Lead, short.MaxAge = time.Hour, 20*time.Second, 10*time.Second
	const ms = time.Millisecond
	// A key that retires at 10 h with tokens of 10 m: the default policy keeps
	// it 2 h; the short one 10 m + 2 x 10 s + 60 s.
	pair := []StoredKey{row(1, at(0)), row(2, at(10*time.Hour))}
	tests := []struct {
		name   string
		keys   []StoredKey
		policy Policy
		at     time.Duration
		want   []State
	}{
		{"alone and not dated", []StoredKey{row(1, nil)}, long, time.Hour, []State{Published}},
		{"before its date", []StoredKey{row(1, at(time.Hour))}, long, time.Hour - ms, []State{Published}},
		{"at its date", []StoredKey{row(1, at(time.Hour))}, long, time.Hour, []State{Active}},
		{"alone for years", []StoredKey{row(1, at(0))}, long, 40000 * time.Hour, []State{Active}},
		{"before the next one's date", pair, long, 10*time.Hour - ms, []State{Active, Published}},
		{"at the next one's date", pair, long, 10 * time.Hour, []State{Retiring, Active}},
		{"two hours stay where keys live long", pair, long, 12*time.Hour - ms, []State{Retiring, Active}},
		{"and no longer", pair, long, 12 * time.Hour, []State{Gone, Active}},
		{"minutes where they live short", pair, short, 10*time.Hour + 11*time.Minute + 20*time.Second - ms, []State{Retiring, Active}},
		{"and no longer there either", pair, short, 10*time.Hour + 11*time.Minute + 20*time.Second, []State{Gone, Active}},
		{"revoked at once, even on a clock that is behind", []StoredKey{revoked(row(1, at(0)), at(time.Hour)), row(2, at(time.Hour))}, long, time.Minute, []State{Revoked, Published}},
		{"a revoked key relieves nobody", []StoredKey{row(1, at(0)), revoked(row(2, at(time.Hour)), at(2*time.Hour))}, long, 3 * time.Hour, []State{Active, Revoked}},
		{"who relieves is the next unrevoked one", []StoredKey{row(1, at(0)), revoked(row(2, at(time.Hour)), at(3*time.Hour)), row(3, at(3*time.Hour))}, long, 5*time.Hour - ms, []State{Retiring, Revoked, Active}},
		{"erased is gone for good", []StoredKey{erased(row(1, at(0))), revoked(row(2, at(time.Hour)), at(2*time.Hour))}, long, 3 * time.Hour, []State{Gone, Revoked}},
		{"equal dates are settled by number", []StoredKey{row(1, at(time.Hour)), row(2, at(time.Hour))}, long, time.Hour, []State{Retiring, Active}},
		{"a key without a date retires with the one that passes it", []StoredKey{row(1, at(0)), row(2, nil), row(3, at(time.Hour))}, long, time.Hour, []State{Retiring, Retiring, Active}},
		{"but waits while only older ones sign", []StoredKey{row(1, at(0)), row(2, nil)}, long, time.Hour, []State{Active, Published}},
		{"order of dates, not of numbers", []StoredKey{row(1, at(5*time.Hour)), row(2, at(time.Hour))}, long, 6 * time.Hour, []State{Active, Retiring}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // the order of the rows means nothing
				var got []State
				for _, l := range Timeline(test.keys, test.policy) {
					got = append(got, l.State(epoch.Add(test.at)))
				}
				if !slices.Equal(got, test.want) {
					t.Fatalf("states %v, want %v", got, test.want)
				}
				test.keys = slices.Clone(test.keys)
				slices.Reverse(test.keys)
			}
		})
	}
}

func TestTimeline_otherAlgorithmsAndPurposesDoNotRelieve(t *testing.T) {
	rsa := row(1, at(time.Hour))
	rsa.Algorithm = RS256
	root := row(1, at(2*time.Hour))
	root.Purpose, root.Algorithm = Refresh, RootMAC
	lives := Timeline([]StoredKey{root, rsa, row(1, at(0))}, DefaultPolicy())
	for i, want := range []Algorithm{ES256, RS256, RootMAC} {
		if lives[i].Key.Algorithm != want || lives[i].State(epoch.Add(100*time.Hour)) != Active {
			t.Errorf("place %d: %s is %s", i, lives[i].Key.Name(), lives[i].State(epoch.Add(100*time.Hour)))
		}
	}
}

func TestTimeline_rootKeysAreNeverGoneByTheClock(t *testing.T) {
	one, two := row(1, at(0)), row(2, at(time.Hour))
	one.Purpose, one.Algorithm = Refresh, RootMAC
	two.Purpose, two.Algorithm = Refresh, RootMAC
	lives := Timeline([]StoredKey{one, two}, DefaultPolicy())
	if state := lives[0].State(epoch.Add(100000 * time.Hour)); state != Retiring {
		t.Errorf("a superseded root key is %s, want retiring while families name it", state)
	}
}

func TestLife_tellsSinceAndUntil(t *testing.T) {
	lives := Timeline([]StoredKey{row(1, at(0)), row(2, at(10*time.Hour))}, DefaultPolicy())
	for _, test := range []struct {
		key          int
		at           time.Duration
		state        State
		since, until time.Duration
	}{
		{0, time.Hour, Active, 0, 10 * time.Hour},
		{0, 11 * time.Hour, Retiring, 10 * time.Hour, 12 * time.Hour},
		{1, time.Hour, Published, 0, 10 * time.Hour},
	} {
		state, since, until := lives[test.key].At(epoch.Add(test.at))
		if state != test.state || !since.Equal(epoch.Add(test.since)) || !until.Equal(epoch.Add(test.until)) {
			t.Errorf("key %d at %s: %s from %s until %s, want %+v", test.key+1, test.at, state, since, until, test)
		}
	}
	if got := nextChange(lives, epoch.Add(10*time.Hour)); !got.Equal(epoch.Add(12 * time.Hour)) {
		t.Errorf("after 10 h the next change is at %s, want 12 h", got)
	}
}
