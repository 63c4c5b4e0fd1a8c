package password

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/secret"
)

// zoo returns one hash of each of several kinds, all of password staple.
func zoo(t *testing.T, h *Hasher) (encoded map[string]string, present []Scheme) {
	t.Helper()
	own, err := h.Hash(t.Context(), secret.NewText(staple))
	if err != nil {
		t.Fatal(err)
	}
	encoded = map[string]string{"ours": own.Encoded, "unknown user": ""}
	present = append(present, own.Scheme)
	for _, c := range imported {
		s := scheme(t, c.scheme)
		if c.password == staple && !slices.Contains(present, s) {
			encoded[c.scheme] = c.encoded
			present = append(present, s)
		}
	}
	return encoded, present
}

func TestVerifyEqual_everyFailureDoesTheSameWork(t *testing.T) {
	o := &tally{}
	h := small(t, o)
	hashes, present := zoo(t, h)
	if len(present) != MaxPresent {
		t.Fatalf("%d schemes, want as many as are computed", len(present))
	}
	o.reset()
	want := map[string]int{argon2id: 2, argon2i: 1, bcryptKind: 1, scryptKind: 1, pbkdf2SHA1: 1, pbkdf2SHA256: 1, pbkdf2SHA512: 1}
	for user, encoded := range hashes {
		got, err := h.VerifyEqual(t.Context(), encoded, secret.NewText("wrong "+staple), present)
		if err != nil || got != (Verdict{}) {
			t.Errorf("%s: %+v, %v; want a plain failure", user, got, err)
		}
		if diff := cmp.Diff(want, o.reset()); diff != "" {
			t.Errorf("work of a failure, %s (-want +got):\n%s", user, diff)
		}
	}
}

func TestVerifyEqual_successComputesTheOwnHashAlone(t *testing.T) {
	o := &tally{}
	h := small(t, o)
	hashes, present := zoo(t, h)
	delete(hashes, "unknown user")
	o.reset()
	for user, encoded := range hashes {
		s, _ := Parse(encoded)
		got, err := h.VerifyEqual(t.Context(), encoded, secret.NewText(staple), present)
		if err != nil || got != (Verdict{Match: true, Stale: user != "ours"}) {
			t.Errorf("%s: %+v, %v", user, got, err)
		}
		if diff := cmp.Diff(map[string]int{s.Kind(): 1}, o.reset()); diff != "" {
			t.Errorf("work of a success, %s (-want +got):\n%s", user, diff)
		}
	}
}

func TestVerifyEqual_unknownUserNeverMatches(t *testing.T) {
	h := small(t, nil)
	for _, given := range []string{"", "\x00", staple} {
		got, err := h.VerifyEqual(t.Context(), "", secret.NewText(given), nil)
		if err != nil || got.Match {
			t.Errorf("%q: %+v, %v", given, got, err)
		}
	}
}

func TestVerifyEqual_aBrokenHashIsTroubleAfterTheWork(t *testing.T) {
	o := &tally{}
	h := small(t, o)
	got, err := h.VerifyEqual(t.Context(), "$2b$99$", secret.NewText(staple), []Scheme{scheme(t, "bcrypt cost=4")})
	if err == nil || got.Match {
		t.Fatalf("%+v, %v; want an error", got, err)
	}
	if diff := cmp.Diff(map[string]int{argon2id: 1, bcryptKind: 1}, o.reset()); diff != "" {
		t.Fatalf("work (-want +got):\n%s", diff)
	}
}

func TestDummy_costsWhatARealHashDoes(t *testing.T) {
	for _, c := range imported {
		r, err := parse(c.encoded)
		if err != nil {
			t.Fatal(err)
		}
		d := dummy(r.scheme)
		if match, err := d.matches(c.password); match || err != nil {
			t.Errorf("%s: %t, %v", r.scheme, match, err)
		}
		if d.bcrypt != nil {
			if s, err := Parse(string(d.bcrypt)); err != nil || s != r.scheme {
				t.Errorf("dummy of %s parses as %s, %v", r.scheme, s, err)
			}
		}
	}
}

// TestVerifyEqual_timeTellsNothing measures what the tests above count: the CPU time of
// the tenth that was disturbed least, because the other one is also that of the neighbours.
// One round on a busy machine proves nothing, so it looks again, longer, before it believes
// in a difference.
func TestVerifyEqual_timeTellsNothing(t *testing.T) {
	h := newHasher(Policy{Memory: 512, Time: 1, Parallelism: 1, Slots: 1, Queue: 1}, 1<<30, nil)
	own, err := h.Hash(t.Context(), secret.NewText(staple))
	if err != nil {
		t.Fatal(err)
	}
	users := []string{"", own.Encoded, imported[3].encoded}
	present := []Scheme{own.Scheme, scheme(t, "bcrypt cost=4")}
	wrong := secret.NewText("wrong " + staple)
	var quick [3]time.Duration
	for samples := 50; samples <= 800; samples *= 2 {
		var took [3][]time.Duration
		for range samples {
			for u, encoded := range users { // interleaved: all see the same neighbours
				began := cpuTime(t)
				if v, err := h.VerifyEqual(t.Context(), encoded, wrong, present); err != nil || v.Match {
					t.Fatal(v, err)
				}
				took[u] = append(took[u], cpuTime(t)-began)
			}
		}
		for u := range took {
			slices.Sort(took[u])
			quick[u] = took[u][samples/10]
		}
		if low, high := slices.Min(quick[:]), slices.Max(quick[:]); float64(high) < 1.1*float64(low) {
			return
		}
	}
	t.Fatalf("times of an undisturbed failure: unknown %v, argon2id %v, bcrypt %v; want them within 10%%", quick[0], quick[1], quick[2])
}

// cpuTime is what this process has used, on all of its threads.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
