package refresh

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"example.com/authserver/internal/audit"
)

var (
	senders  = rapid.SampledFrom([]Sender{phone, stranger})
	keys     = rapid.SampledFrom([]RetryKey{{}, someKey, otherKey})
	bindings = rapid.SampledFrom([]Binding{Unbound, Unbound, Unbound, ToClient, ToDPoP("thumb"), ToCertificate("print"), "dpop:", "tpm:x"})
	proofs   = rapid.SampledFrom([]Proof{{}, {Secret: true}, {ClientKey: true}, {DPoP: "thumb"}, {DPoP: "other"}, {Certificate: "print"}, {Secret: true, DPoP: "thumb"}})
	around   = rapid.SampledFrom([]time.Duration{
		0, tick, second, window - tick, window, window + tick, minute, time.Hour, day - tick, day, day + tick,
		30*day - tick, 30 * day, 89 * day, 90*day - tick, 90 * day, 100 * day, -tick, -window, -day,
	})
	generations = rapid.SampledFrom([]int32{1, 2, 3, 4, 5, 6, 100, MaxGeneration - 1, MaxGeneration})
)

func drawFamily(t *rapid.T) Family {
	f := living()
	f.Generation = generations.Draw(t, "head")
	f.HeadKey = rapid.Uint8Range(1, 3).Draw(t, "head key")
	f.Binding = bindings.Draw(t, "binding")
	f.Rotates = f.Binding == Unbound || rapid.Bool().Draw(t, "rotates")
	f.UsedAt = born.Add(around.Draw(t, "used"))
	f.Sender = senders.Draw(t, "sender")
	if f.RetryKey = keys.Draw(t, "retry key"); f.RetryKey != (RetryKey{}) {
		f.KeyFresh = rapid.Bool().Draw(t, "fresh")
	}
	f.ForeignSeen = rapid.Bool().Draw(t, "seen")
	f.ForeignStreak = rapid.Int16Range(0, 2).Draw(t, "streak")
	f.Disabled = rapid.IntRange(0, 9).Draw(t, "disabled") == 0
	if rapid.IntRange(0, 9).Draw(t, "ended") == 0 {
		ended(&f)
	}
	if rapid.IntRange(0, 9).Draw(t, "floor") == 0 {
		below(&f)
	}
	if rapid.Bool().Draw(t, "was late") {
		f.LateAt = born.Add(around.Draw(t, "late"))
	}
	return f
}

// TestJudge_isTotalAndKeepsItsWord holds the table to what the specification
// says around it, for any family, attempt, moment and policy.
func TestJudge_isTotalAndKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFamily(t)
		a := presents(f, generations.Draw(t, "presented"))
		if rapid.Bool().Draw(t, "the head") {
			a.Generation = f.Generation
		} else if f.Generation > 1 && rapid.Bool().Draw(t, "the predecessor") {
			a.Generation = f.Generation - 1
		}
		a.Key = rapid.SampledFrom([]uint8{f.HeadKey, f.HeadKey, f.HeadKey, 9}).Draw(t, "key")
		a.NewKey = rapid.Uint8Range(1, 3).Draw(t, "new key")
		a.Proof, a.Sender, a.RetryKey = proofs.Draw(t, "proof"), senders.Draw(t, "from"), keys.Draw(t, "with key")
		p := strict()
		p.IdleTTL = rapid.SampledFrom([]time.Duration{second, time.Hour, 30 * day, 365 * day}).Draw(t, "policy")
		p.LateRetry = rapid.SampledFrom([]LateRetry{RefuseLate, LateOnceADay}).Draw(t, "late retry")
		p.LockStep = rapid.SampledFrom([]LockStep{EnforceLockStep, ReportLockStep}).Draw(t, "lock step")
		if rapid.Bool().Draw(t, "outage") {
			p.Outages = Outages{{From: born.Add(around.Draw(t, "down")), Until: born.Add(around.Draw(t, "up"))}}
		}
		now := born.Add(around.Draw(t, "now"))

		out := Judge(&f, a, now, p)
		if out.Row < 1 || out.Row > 12 || out.Reason == "" || !out.Now.Equal(now) {
			t.Fatalf("no verdict: %+v", out)
		}
		if again := Judge(&f, a, now, p); !cmp.Equal(again, out) {
			t.Fatal("the same question has two answers")
		}
		if out.Verdict != Unknown && !out.Writes && !cmp.Equal(out.Next, f) {
			t.Fatalf("%s changes the family without writing it:\n%s", out.Verdict, cmp.Diff(f, out.Next))
		}
		if out.Ends != (out.Verdict == Reused) {
			t.Fatalf("%s ends: %t", out.Verdict, out.Ends)
		}
		if out.Ends && out.Writes {
			t.Fatal("an end that also writes")
		}

		proven := a.Proof.proves(f.Binding)
		dead := !f.EndedAt.IsZero() || f.Disabled || f.BornAt.Before(f.Floor) || !now.Before(f.AbsoluteEnd) || !now.Before(f.IdleEnd(p))
		switch {
		case out.Verdict.Answers() && (!proven || dead):
			t.Fatalf("answers (%s) though proven %t, dead %t", out.Reason, proven, dead)
		case out.Ends && (!proven || dead || a.Generation >= f.Generation || a.Proof.byKey(f.Binding)):
			t.Fatalf("ends (%s) though proven %t, dead %t, generation %d of %d", out.Reason, proven, dead, a.Generation, f.Generation)
		case !proven && (out.Writes || out.Ends || len(out.Events) > 0):
			t.Fatal("who lacks the key leaves a trace")
		}
		n := out.Next
		switch out.Verdict {
		case Rotated:
			if n.Generation != a.Generation+1 || n.Generation <= f.Generation || n.HeadKey != a.NewKey || !n.HeadBorn.Equal(now) || !n.UsedAt.Equal(now) {
				t.Fatalf("rotated from %d to %d", f.Generation, n.Generation)
			}
			if a.Generation > f.Generation && !slices.Contains(out.Events, audit.FamilyAhead) {
				t.Fatal("a lost rotation is not audited")
			}
		case Replayed, Kept:
			if n.Generation != f.Generation || n.HeadKey != f.HeadKey || !n.HeadBorn.Equal(f.HeadBorn) {
				t.Fatal("the head moved without a rotation")
			}
			if out.Verdict == Replayed && !n.UsedAt.Equal(f.UsedAt) {
				t.Fatal("a replay moved an end of time")
			}
		}
		if out.Verdict == Unknown {
			return
		}
		// What was fixed at birth, and the end, no verdict touches.
		n.UserAgent, n.IP, n.Sender, n.Generation, n.HeadKey, n.HeadBorn, n.UsedAt = f.UserAgent, f.IP, f.Sender, f.Generation, f.HeadKey, f.HeadBorn, f.UsedAt
		n.RetryKey, n.KeyFresh, n.ForeignSeen, n.ForeignStreak, n.LateAt = f.RetryKey, f.KeyFresh, f.ForeignSeen, f.ForeignStreak, f.LateAt
		n.RefusedAt, n.RefusedAs, n.RefusedRequest = f.RefusedAt, f.RefusedAs, f.RefusedRequest
		if diff := cmp.Diff(f, n); diff != "" {
			t.Fatalf("a column that is fixed changed:\n%s", diff)
		}
		// The schema's own conditions.
		if out.Next.KeyFresh && out.Next.RetryKey == (RetryKey{}) {
			t.Fatal("no key is fresh")
		}
		if s := out.Next.ForeignStreak; s < 0 || s > 2 {
			t.Fatalf("streak %d", s)
		}
	})
}
