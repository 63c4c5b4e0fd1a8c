package keys

import (
	"slices"
	"testing"
	"time"
)

// wanted renders steps as "do name from..to" with hours since the epoch.
func wanted(steps []Step) []string {
	var out []string
	for _, s := range steps {
		text := string(s.Do) + " " + s.Key.Name().String()
		if s.Do == Publish || s.Do == Date {
			text += " " + s.Key.PublishedAt.Sub(epoch).String() + ".." + s.Key.ActiveAt.Sub(epoch).String()
		}
		if s.Urgent {
			text += " urgent"
		}
		out = append(out, text)
	}
	return out
}

func rootRow(number int, active *time.Time) StoredKey {
	k := row(number, active)
	k.Purpose, k.Algorithm, k.KID, k.SignsFor = Refresh, RootMAC, "refresh", 0
	return k
}

func TestPlan(t *testing.T) {
	one := DefaultPolicy()
	one.Algorithms = []Algorithm{ES256}
	two := DefaultPolicy()
	tight := one
	tight.RotateEvery, tight.Lead, tight.MaxAge = 30*time.Hour, 24*time.Hour, time.Hour
	longer := one
	longer.TokenLife = time.Hour + time.Nanosecond
	ring := func(keys ...StoredKey) StoredRing {
		return StoredRing{Revision: 1, Keys: append(keys, rootRow(1, at(0)))}
	}
	tests := []struct {
		name   string
		ring   StoredRing
		policy Policy
		at     time.Duration
		want   []string
	}{
		{
			"a store that never held a key gets all of them at once",
			StoredRing{},
			two, 0,
			[]string{"publish sign ES256 1 0s..0s urgent", "publish sign RS256 1 0s..0s urgent", "publish refresh HMAC-SHA-256 1 0s..0s urgent"},
		},
		{
			"an emptied store does not: its verifiers hold old sets",
			StoredRing{Revision: 9},
			one, 0,
			[]string{"publish sign ES256 1 0s..24h0m0s", "publish refresh HMAC-SHA-256 1 0s..0s urgent"},
		},
		{"nothing is lacking on the first day", ring(row(1, at(0))), one, 24*time.Hour - time.Millisecond, nil},
		{"an algorithm configured later waits its lead", ring(row(1, at(0))), two, time.Hour, []string{"publish sign RS256 1 1h0m0s..25h0m0s"}},
		{"one lead later the standby is published", ring(row(1, at(0))), one, 24 * time.Hour, []string{"publish sign ES256 2 24h0m0s..2160h0m0s"}},
		{"and once is enough", ring(row(1, at(0)), row(2, at(2160*time.Hour))), one, 25 * time.Hour, nil},
		{"who slept for a year still gives a lead", ring(row(1, at(0))), one, 9000 * time.Hour, []string{"publish sign ES256 2 9000h0m0s..9024h0m0s"}},
		{"a short life publishes what it can of the lead early", ring(row(1, at(0))), tight, 6 * time.Hour, []string{"publish sign ES256 2 6h0m0s..30h0m0s"}},
		{"a standby without a date gets one", ring(row(1, at(0)), row(2, nil)), one, 25 * time.Hour, []string{"date sign ES256 2 0s..2160h0m0s"}},
		{"the number of a revoked key is not given again", ring(row(1, at(0)), erased(revoked(row(7, at(48*time.Hour)), at(time.Hour)))), one, 24 * time.Hour, []string{"publish sign ES256 8 24h0m0s..2160h0m0s"}},
		{
			"longer tokens extend what stands, also what retires", ring(row(1, at(0)), row(2, at(25*time.Hour)), row(3, at(2000*time.Hour))), longer, 26 * time.Hour,
			[]string{"extend sign ES256 1 urgent", "extend sign ES256 2 urgent", "extend sign ES256 3 urgent"},
		},
		{"a key that is gone is erased", ring(row(1, at(0)), row(2, at(24*time.Hour))), one, 26 * time.Hour, []string{"destroy sign ES256 1"}},
		{"a revoked key is erased", ring(row(1, at(0)), revoked(row(2, nil), at(0))), one, time.Hour, []string{"destroy sign ES256 2"}},
		{"erased once is enough", ring(erased(row(1, at(0))), row(2, at(24*time.Hour))), one, 26 * time.Hour, nil},
		{"the keys of an algorithm no longer configured stay as they are", ring(row(1, at(0))), Policy{Algorithms: []Algorithm{EdDSA}, RotateEvery: day, Lead: day, MaxAge: time.Hour, TokenLife: time.Minute}, 100 * time.Hour, []string{"publish sign EdDSA 1 100h0m0s..124h0m0s"}},
		{"without an active root key the next one takes its place", StoredRing{Revision: 3, Keys: []StoredKey{row(1, at(0)), erased(revoked(rootRow(1, at(0)), at(0))), rootRow(2, at(time.Minute))}}, one, time.Second, []string{"date refresh HMAC-SHA-256 2 0s..1s urgent"}},
		{"a superseded root key stays while nobody was asked", StoredRing{Revision: 3, Keys: []StoredKey{row(1, at(0)), rootRow(1, at(0)), rootRow(2, at(time.Minute))}}, one, 23 * time.Hour, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := wanted(Plan(test.ring, epoch.Add(test.at), test.policy)); !slices.Equal(got, test.want) {
				t.Fatalf("plan\n  %q, want\n  %q", got, test.want)
			}
		})
	}
}

func TestPlan_extendsInWholeMillisecondsUpwards(t *testing.T) {
	p := DefaultPolicy()
	p.Algorithms, p.TokenLife = []Algorithm{ES256}, time.Hour+time.Nanosecond
	steps := Plan(StoredRing{Revision: 1, Keys: []StoredKey{row(1, at(0)), rootRow(1, at(0))}}, epoch, p)
	if len(steps) != 1 || steps[0].Key.SignsFor != time.Hour+time.Millisecond {
		t.Fatalf("plan %+v, want SignsFor 1h0m0.001s", steps)
	}
	p.TokenLife = time.Minute
	if steps := Plan(StoredRing{Revision: 1, Keys: []StoredKey{row(1, at(0)), rootRow(1, at(0))}}, epoch, p); len(steps) != 0 {
		t.Fatalf("SignsFor shrinks: %+v", steps)
	}
}

func TestPlan_forgetsTheOldestEndedKeysButNeverTheGreatestNumber(t *testing.T) {
	p := DefaultPolicy()
	p.Algorithms = []Algorithm{ES256}
	var keys []StoredKey
	for n := 1; n <= keptRows+3; n++ {
		keys = append(keys, erased(row(n, at(time.Duration(n)*time.Hour))))
	}
	ring := StoredRing{Revision: 1, Keys: append(keys, row(keptRows+4, at(100*time.Hour)), rootRow(1, at(0)))}
	got := wanted(Plan(ring, epoch.Add(101*time.Hour), p))
	if want := []string{"forget sign ES256 1", "forget sign ES256 2", "forget sign ES256 3"}; !slices.Equal(got, want) {
		t.Fatalf("plan %q, want %q", got, want)
	}
	ring.Keys[1] = row(2, at(2*time.Hour)) // stands in the way: not erased yet
	if got := wanted(Plan(ring, epoch.Add(101*time.Hour), p)); !slices.Equal(got, []string{"destroy sign ES256 2"}) {
		t.Fatalf("plan %q", got)
	}
}

func TestPlanRoots_dropsOnlyWhatNoFamilyNames(t *testing.T) {
	ring := StoredRing{Revision: 1, Keys: []StoredKey{rootRow(1, at(0)), rootRow(2, at(time.Hour)), rootRow(3, at(2*time.Hour)), rootRow(4, at(2*rootRest))}}
	for _, test := range []struct {
		at   time.Duration
		live []int
		want []string
	}{
		{2*time.Hour + rootRest - time.Millisecond, nil, []string{"destroy refresh HMAC-SHA-256 1"}},
		{3*time.Hour + rootRest, []int{1, 3}, []string{"destroy refresh HMAC-SHA-256 2"}},
		{3*time.Hour + rootRest, []int{1, 2}, nil}, // the active one stays, named or not, and so does the next
	} {
		if got := wanted(PlanRoots(ring, epoch.Add(test.at), DefaultPolicy(), test.live)); !slices.Equal(got, test.want) {
			t.Errorf("at %s with %v alive: %q, want %q", test.at, test.live, got, test.want)
		}
	}
}
