package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// A header that is accepted says to encoding/json what it says to us.
func FuzzParseHeader(f *testing.F) {
	for _, seed := range []string{
		`{"alg":"ES256","typ":"at+jwt","kid":"k1"}`, `{"alg":"none"}`, `{"alg":1}`, `{"crit":["x"]}`, `{"al\u0067":"x"}`, `{"x":[[{}]],"kid":"\ud83d\ude00"}`, `{"ALG":"x"}`, ``, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHeader(base64url.EncodeToString([]byte(text)))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		var other map[string]any
		if err := json.Unmarshal([]byte(text), &other); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		for name, ours := range map[string]string{"alg": h.alg, "typ": h.typ, "kid": h.kid} {
			if theirs, _ := other[name].(string); theirs != ours {
				t.Errorf("%s is %q to us and %q to encoding/json", name, ours, theirs)
			}
		}
		if _, there := other["crit"]; there {
			t.Error("accepted with crit")
		}
	})
}

// Whatever a statement says, a reader ends up with nothing or with what it
// says, within its bound, and what it held before is not touched.
func FuzzStatement(f *testing.F) {
	id := strings.Repeat("A", 22)
	entry := func(seq int, kind string) string {
		return fmt.Sprintf(`{"seq":%d,"kind":"%s","id":"%s","not_before":1772366400,"until":1772367120}`, seq, kind, id)
	}
	for _, seed := range []string{
		`{"iss":"i","iat":1772366400,"seq":7,"after":0,"entries":[` + entry(2, "session") + `,` + entry(7, "key") + `]}`,
		`{"iss":"i","iat":1772366400,"seq":9,"after":5,"entries":[` + entry(9, "user") + `]}`,
		`{"iss":"i","iat":1772366400,"seq":3,"after":0,"entries":[` + entry(3, "new") + `]}`,
		`{"iss":"i","iat":-1,"seq":1e3,"after":0,"entries":{}}`, `{"entries":[]}`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	held := &revocations{number: 1, seq: 5, issued: noon.Unix(), entries: map[mark]revocation{
		markOf(ofUser, "a"): {seq: 5, notBefore: noon.Unix(), until: noon.Unix() + 720}, markOf(ofKey, "k"): {seq: 2, key: true, notBefore: 1, until: 1},
	}}
	f.Fuzz(func(t *testing.T, payload []byte) {
		_, st, err := parseStatement(payload)
		if err != nil {
			if errors.Is(err, ErrMalformed) == errors.Is(err, ErrClaims) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		var other struct {
			Iat, Seq, After int64
			Entries         []struct{ Seq int64 }
		}
		if err := json.Unmarshal(payload, &other); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if len(st.entries) > len(other.Entries) {
			t.Fatalf("%d entries, to encoding/json %d", len(st.entries), len(other.Entries))
		}
		last := st.after
		for _, e := range st.entries {
			if e.seq <= last || e.seq > st.seq {
				t.Fatalf("number %d after %d of %d", e.seq, last, st.seq)
			}
			last = e.seq
		}
		for _, from := range []*revocations{nil, held} {
			before := *held
			before.entries = maps.Clone(held.entries)
			next, _, err := from.take(st, from.heldSeq(), noon, 3)
			switch {
			case err != nil && next != from:
				t.Fatal("refused, and yet taken")
			case err == nil && len(next.entries) > 3:
				t.Fatal("more than fits")
			case err == nil && next != from && next.seq != st.seq:
				t.Fatalf("held up to %d, said was %d", next.seq, st.seq)
			case !maps.Equal(before.entries, held.entries) || before.seq != held.seq:
				t.Fatal("the snapshot that readers hold has changed")
			}
		}
	})
}

func (r *revocations) heldSeq() int64 {
	if r == nil {
		return 0
	}
	return r.seq
}

// Events are those that a reading of the whole text finds, line by line,
// however the text comes in pieces.
func FuzzEventReader(f *testing.F) {
	for _, seed := range []string{
		"id: 7\nevent: revocations\ndata: x\n\n", ": alive\n\n", "data: x\r\ndata: y\r\r\n", "\xef\xbb\xbfdata:x\n\n", "event\ndata\n\n", "data: x\n", "\r\n\r", "data:\n\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := eventsOf(text)
		for _, in := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
			got, err := readAll(in, len(text)+1)
			if !errors.Is(err, io.EOF) {
				t.Fatalf("error is %v", err)
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Fatalf("events are %q, expected %q", got, want)
			}
		}
		if _, err := readAll(strings.NewReader(text), 8); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errEventTooLong) {
			t.Fatalf("error is %v", err)
		}
	})
}

// eventsOf reads events as the standard describes it, from the whole text.
func eventsOf(text string) (events [][2]string) {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var name string
	var data []string
	for _, line := range lines[:len(lines)-1] { // what follows the last break is no line
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if joined := strings.Join(data, "\n"); joined != "" {
				events = append(events, [2]string{name, joined})
			}
			name, data = "", nil
		case field == "event":
			name = value
		case field == "data":
			data = append(data, value)
		}
	}
	return events
}

// A token that comes out is one word; one that does not has one reason.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{"Bearer a.b.c", "bearer  x", "Bearer", "Bearer a b", "Basic x", "", "Bearer a,b", "BEARER\tx"} {
		f.Add(seed, "", false)
		f.Add(seed, seed, true)
	}
	f.Fuzz(func(t *testing.T, one, two string, both bool) {
		r := &http.Request{Header: http.Header{"Authorization": {one}}}
		if both {
			r.Header.Add("Authorization", two)
		}
		token, err := Bearer(r)
		switch {
		case err == nil:
			if both || token == "" || strings.ContainsAny(token, " \t,") || !strings.HasSuffix(one, token) || !strings.EqualFold(one[:len("Bearer ")], "Bearer ") {
				t.Fatalf("%q comes out of %q", token, one)
			}
		case token != "" || errors.Is(err, ErrNoToken) == errors.Is(err, ErrRequest):
			t.Fatalf("%q with error %v", token, err)
		case both && !errors.Is(err, ErrRequest):
			t.Fatalf("two headers: %v", err)
		}
	})
}
