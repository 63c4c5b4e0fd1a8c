package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/authserver/internal/keys"
)

// reader is a verifier that fetched a set so long ago.
func (r *rig) reader(name, etag string, ago time.Duration) keys.Verifier {
	at := r.clock.Now().UTC().Truncate(time.Millisecond).Add(-ago)
	return keys.Verifier{
		Network: "192.0.2.0/24", UserAgent: name, ETag: etag, SetAt: at.Add(-time.Hour), FirstAt: at, FetchedAt: at,
	}
}

func (r *rig) record(list ...keys.Verifier) {
	r.Helper()
	r.must(r.Verifiers().RecordVerifiers(r.Context(), list))
}

func (r *rig) wantReaders(want ...keys.Verifier) {
	r.Helper()
	list := got(r.Verifiers().Verifiers(r.Context(), 100))(r)
	if diff := cmp.Diff(want, list, cmp.Transformer("utc", time.Time.UTC), cmpopts.EquateEmpty()); diff != "" {
		r.Errorf("verifiers (-want +got)\n%s", diff)
	}
}

var verifierStories = []story{
	{"latestFirstAndAtMost", func(r *rig) {
		r.wantReaders()
		r.record()
		a, b, c := r.reader("a", `"1"`, 3*time.Minute), r.reader("b", `"2"`, time.Minute), r.reader("", `"2"`, 2*time.Minute)
		others := r.reader("", `"1"`, 4*time.Minute)
		others.Network = ""
		r.record(a, others, b, c)
		r.wantReaders(b, c, a, others)
		if list := got(r.Verifiers().Verifiers(r.Context(), 2))(r); len(list) != 2 || list[1].UserAgent != "" {
			r.Errorf("the first two are %v", list)
		}
	}},
	{"theLaterFetchCountsWhoeverWritesFirst", func(r *rig) {
		before, after := r.reader("a", `"1"`, time.Hour), r.reader("a", `"2"`, time.Minute)
		whole := after
		whole.FirstAt = before.FirstAt
		r.record(after)
		r.record(before) // from a node that is late with it
		r.wantReaders(whole)
		r.record(after)
		r.wantReaders(whole)
	}},
	{"whatStrangersSendFits", func(r *rig) {
		v := r.reader(strings.Repeat("\u00e9", 128), `"1"`, 0) // 256 bytes
		r.record(v)
		r.wantReaders(v)
	}},
	{"twoNodesWriteTheSameOnes", func(r *rig) {
		const nodes, many = 4, 50
		atOnce(nodes, func(node int) {
			var list []keys.Verifier
			for i := range many {
				if node%2 == 0 { // each in its own order
					i = many - 1 - i
				}
				list = append(list, r.reader(fmt.Sprintf("reader %02d", i), `"1"`, time.Duration(node)*time.Minute))
			}
			if err := r.Verifiers().RecordVerifiers(r.Context(), list); err != nil {
				r.Errorf("node %d: %v", node, err)
			}
		})
		list := got(r.Verifiers().Verifiers(r.Context(), 100))(r)
		if len(list) != many {
			r.Fatalf("%d verifiers, want %d", len(list), many)
		}
		for _, v := range list {
			if want := r.reader("", "", 0).FetchedAt; !v.FetchedAt.Equal(want) || !v.FirstAt.Equal(want.Add(-3*time.Minute)) {
				r.Errorf("%s was seen from %s to %s, want to %s", v.UserAgent, v.FirstAt, v.FetchedAt, want)
			}
		}
	}},
	{"sweepForgetsTheUnseenAndTheSurplus", func(r *rig) {
		sweep := func(most, limit int) int {
			return got(r.Verifiers().SweepVerifiers(r.Context(), keys.KeepVerifiers, most, limit))(r)
		}
		old, edge := r.reader("old", `"1"`, keys.KeepVerifiers+time.Millisecond), r.reader("edge", `"1"`, keys.KeepVerifiers-time.Millisecond)
		young, younger := r.reader("young", `"1"`, time.Hour), r.reader("younger", `"1"`, time.Minute)
		r.record(old, edge, young, younger)
		if n := sweep(100, 100); n != 1 {
			r.Errorf("%d forgotten, want the one that was not seen for more than 30 days", n)
		}
		r.wantReaders(younger, young, edge)
		if n := sweep(1, 1); n != 1 {
			r.Errorf("%d forgotten at once, want at most 1", n)
		}
		r.wantReaders(younger, young)
		if n := sweep(1, 100) + sweep(1, 100); n != 1 {
			r.Errorf("%d forgotten, want the one beyond the most", n)
		}
		r.wantReaders(younger)
	}},
}
