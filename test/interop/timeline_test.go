package interop

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sort"
	"testing"
	"time"

	"example.com/authserver/internal/keys"
)

// moment is what the server showed and signed at one time.
type moment struct {
	at    time.Time
	set   keySet
	token string
	kid   string            // of token
	pem   map[string][]byte // keys export --format pem, of each key of the algorithm
}

// recording is three months of one server: two rotations.
type recording struct {
	alg     keys.Algorithm // of its tokens
	moments []moment
	turns   []time.Time // when another key began to sign
}

const (
	day = 24 * time.Hour
	// The rotation that an operator asks for an hour after the foundation, when
	// there is no standby yet: the lead of 24 h is all that verifiers get.
	byHand = time.Hour
	// Then the timetable: 2160 h after the last one.
	first, second = byHand + day, byHand + day + 2160*time.Hour
)

// instants are when the server is looked at, since the foundation: often where
// keys come, begin to sign and go, and now and then between.
func instants() []time.Duration {
	var all []time.Duration
	span := func(from, to, step time.Duration) {
		for d := from; d < to; d += step {
			all = append(all, d)
		}
	}
	span(0, 2*time.Hour, 6*time.Minute)
	all = append(all, byHand-time.Second)
	span(2*time.Hour, first-20*time.Minute, 2*time.Hour)
	for _, turn := range []time.Duration{first, second} {
		span(turn-20*time.Minute, turn+16*time.Minute, 3*time.Minute) // no divisor of any cache's life
		all = append(all, turn-time.Second, turn, turn+time.Second)
		span(turn+16*time.Minute, turn+2*time.Hour+10*time.Minute, 11*time.Minute) // the old key goes after two hours
		span(turn+2*time.Hour+10*time.Minute, turn+day-time.Hour, 4*time.Hour)
		span(turn+day-time.Hour, turn+day+time.Hour, 20*time.Minute) // the next standby comes
		if turn != second {
			span(turn+2*day, turn+2160*time.Hour-20*time.Minute, day)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// record lets the server live through the timeline.
func record(t testing.TB, i *issuer, alg keys.Algorithm) *recording {
	t.Helper()
	r := &recording{alg: alg}
	founded := i.clock.Now()
	for _, d := range instants() {
		i.moveTo(founded.Add(d))
		if d == byHand {
			if _, err := i.custodian.Rotate(t.Context(), keys.By{Actor: "operator:test"}, "", time.Time{}); err != nil {
				t.Fatal(err)
			}
			i.moveTo(founded.Add(d))
		}
		m := moment{at: i.clock.Now(), set: i.keySet(), token: i.good(), pem: i.export(alg, keys.PEM)}
		head, _ := parts(t, m.token)
		m.kid, _ = head["kid"].(string)
		if n := len(r.moments); n > 0 && r.moments[n-1].kid != m.kid {
			r.turns = append(r.turns, m.at)
		}
		r.moments = append(r.moments, m)
	}
	// The recording must show what it is for.
	want := []time.Time{founded.Add(first), founded.Add(second)}
	if len(r.turns) != len(want) {
		t.Fatalf("the server signed with another key %d times, want %d", len(r.turns), len(want))
	}
	for n := range want {
		// The store keeps milliseconds and rounds the date of a key up.
		if late := r.turns[n].Sub(want[n]); late < 0 || late > time.Second {
			t.Fatalf("rotation %d came at %s, want %s", n+1, r.turns[n], want[n])
		}
	}
	return r
}

// atOnce returns the recording as servers without a lead would have made it: a
// key appears in the set when it begins to sign. It shows that the replay
// notices what it is there to notice.
func (r *recording) atOnce(t testing.TB) *recording {
	t.Helper()
	begins := map[string]time.Time{}
	for _, m := range r.moments {
		if _, ok := begins[m.kid]; !ok {
			begins[m.kid] = m.at
		}
	}
	out := &recording{alg: r.alg, turns: r.turns}
	for _, m := range r.moments {
		var shown []jwk
		for _, k := range m.set.keys(t) {
			if from, signs := begins[k.KID]; k.Alg != string(r.alg) || signs && !m.at.Before(from) {
				shown = append(shown, k)
			}
		}
		body, err := json.Marshal(map[string]any{"keys": shown})
		if err != nil {
			t.Fatal(err)
		}
		header := m.set.header.Clone()
		header.Del("Etag")
		header.Del("Content-Length")
		m.set = keySet{header, body}
		out.moments = append(out.moments, m)
	}
	return out
}

// now returns what the server showed at that time.
func (r *recording) now(at time.Time) moment {
	n := sort.Search(len(r.moments), func(n int) bool { return r.moments[n].at.After(at) })
	return r.moments[max(0, n-1)]
}

// alive returns the tokens that an honest client may present at a moment: the
// one just minted and those that have two minutes left, which is how slow an
// answer may be on an overbooked machine.
func (r *recording) alive(n int) []moment {
	oldest := n
	for oldest > 0 && r.moments[n].at.Sub(r.moments[oldest-1].at) <= ttl-2*time.Minute {
		oldest--
	}
	return r.moments[oldest : n+1]
}

// answer is the server's answer at that time to a request for the key set.
func (r *recording) answer(at time.Time, request *http.Request) (status int, header http.Header, body []byte) {
	if request.Method != http.MethodGet || request.URL.Path != "/.well-known/jwks.json" {
		return http.StatusNotFound, http.Header{}, nil
	}
	set := r.now(at).set
	if etag := set.header.Get("Etag"); etag != "" && request.Header.Get("If-None-Match") == etag {
		header = set.header.Clone()
		header.Del("Content-Length")
		header.Del("Content-Type")
		return http.StatusNotModified, header, nil
	}
	return http.StatusOK, set.header, set.body
}

// RoundTrip implements http.RoundTripper with the server as it was at
// time.Now, which is the false clock inside a bubble of testing/synctest.
func (r *recording) RoundTrip(request *http.Request) (*http.Response, error) {
	if err := request.Context().Err(); err != nil {
		return nil, err
	}
	status, header, body := r.answer(time.Now(), request)
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header.Clone(), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: request,
	}, nil
}
