package verify_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/authserver/verify"
)

// speaker answers every question to the feed with the same statement, and
// knows no streams unless it has events.
type speaker struct {
	mu        sync.Mutex
	statement string
	events    string
	asked     int
}

func (s *speaker) say(statement string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statement = statement
}

func (s *speaker) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Request: r}
	text := s.statement
	if r.Header.Get("Accept") == "text/event-stream" {
		if s.events == "" {
			resp.StatusCode, resp.Status = http.StatusServiceUnavailable, "503 Service Unavailable"
		}
		text = s.events
		resp.Header.Set("Content-Type", "text/event-stream; charset=utf-8")
	}
	resp.Body = io.NopCloser(strings.NewReader(text))
	return resp, nil
}

// saying is a statement of i, but for the given members; nil takes one away.
func (i *issuer) saying(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	h := changed(map[string]any{"alg": i.alg, "kid": i.kid, "typ": "revocations+jwt"}, header)
	return i.raw(t, toJSON(t, h), toJSON(t, changed(i.statement(), claims)))
}

// statement revokes one key that nobody has and two things more.
func (i *issuer) statement() map[string]any {
	return map[string]any{
		"iss": issuerName, "iat": time.Now().Unix(), "seq": 7, "after": 0, "entries": []any{listed(2, nil), listed(5, nil), listed(7, nil)},
	}
}

func listed(seq int, change map[string]any) map[string]any {
	now := time.Now().Unix()
	return changed(map[string]any{
		"seq": seq, "kind": "session", "id": b64(fmt.Appendf(nil, "%016d", seq)), "not_before": now, "until": now + 720,
	}, change)
}

// spoken follows s over the keys of i.
func spoken(t *testing.T, s *speaker, i *issuer, change func(*verify.FeedConfig)) (*verify.Feed, *told) {
	t.Helper()
	keys, err := verify.StaticKeys(jwks(t, i))
	if err != nil {
		t.Fatal(err)
	}
	log := &told{}
	c := verify.FeedConfig{Issuer: issuerName, Keys: keys, Client: &http.Client{Transport: s}, OnFeed: log.hear}
	if change != nil {
		change(&c)
	}
	feed, err := verify.FollowRevocations(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = feed.Close() })
	return feed, log
}

// What is not a statement of the issuer, or is out of order, changes nothing,
// is reported, and the feed is lost in time.
func TestFeed_badStatementsChangeNothing(t *testing.T) {
	entries := func(list ...any) map[string]any { return map[string]any{"entries": list} }
	one := func(change map[string]any) map[string]any { return entries(listed(7, change)) }
	for name, tt := range map[string]struct {
		bad  func(t *testing.T, i *issuer) string
		want error
	}{
		"no JWT":            {func(*testing.T, *issuer) string { return "<html>502</html>" }, verify.ErrMalformed},
		"a signature":       {func(t *testing.T, _ *issuer) string { return newKey(t, "k1", "ES256").saying(t, nil, nil) }, verify.ErrSignature},
		"unknown key":       {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"kid": "k2"}, nil) }, verify.ErrUnknownKey},
		"alg none":          {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"alg": "none"}, nil) }, verify.ErrAlgorithm},
		"alg of another":    {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"alg": "RS256"}, nil) }, verify.ErrAlgorithm},
		"an access token":   {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"typ": "at+jwt"}, nil) }, verify.ErrType},
		"typ JWT":           {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"typ": "JWT"}, nil) }, verify.ErrType},
		"no typ":            {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"typ": nil}, nil) }, verify.ErrType},
		"crit":              {func(t *testing.T, i *issuer) string { return i.saying(t, map[string]any{"crit": []string{"x"}}, nil) }, verify.ErrMalformed},
		"another issuer":    {claims(map[string]any{"iss": "https://evil.example.com"}), verify.ErrIssuer},
		"no issuer":         {claims(map[string]any{"iss": nil}), verify.ErrClaims},
		"no iat":            {claims(map[string]any{"iat": nil}), verify.ErrClaims},
		"no seq":            {claims(map[string]any{"seq": nil}), verify.ErrClaims},
		"no after":          {claims(map[string]any{"after": nil}), verify.ErrClaims},
		"no entries":        {claims(map[string]any{"entries": nil}), verify.ErrClaims},
		"iat in an hour":    {claims(map[string]any{"iat": time.Now().Unix() + 100*365*86400}), verify.ErrNotYetValid},
		"seq a string":      {claims(map[string]any{"seq": "7"}), verify.ErrMalformed},
		"seq a fraction":    {claims(map[string]any{"seq": 7.5}), verify.ErrMalformed},
		"seq negative":      {claims(map[string]any{"seq": -7}), verify.ErrMalformed},
		"seq beyond 2^53":   {claims(map[string]any{"seq": int64(1) << 53}), verify.ErrMalformed},
		"partial a number":  {claims(map[string]any{"partial": 1}), verify.ErrMalformed},
		"seq below entries": {claims(map[string]any{"seq": 6}), verify.ErrClaims},
		"after above seq":   {claims(map[string]any{"after": 8, "entries": []any{}}), verify.ErrClaims},
		"entries an object": {claims(map[string]any{"entries": map[string]any{}}), verify.ErrClaims},
		"entries descend":   {claims(entries(listed(5, nil), listed(2, nil))), verify.ErrClaims},
		"entry twice":       {claims(entries(listed(5, nil), listed(5, nil))), verify.ErrClaims},
		"entry 0":           {claims(entries(listed(0, nil))), verify.ErrClaims},
		"entry no object":   {claims(entries("x")), verify.ErrClaims},
		"entry no kind":     {claims(one(map[string]any{"kind": nil})), verify.ErrClaims},
		"entry no id":       {claims(one(map[string]any{"id": nil})), verify.ErrClaims},
		"id too short":      {claims(one(map[string]any{"id": b64(make([]byte, 15))})), verify.ErrClaims},
		"id too long":       {claims(one(map[string]any{"id": b64(make([]byte, 17))})), verify.ErrClaims},
		"id padded":         {claims(one(map[string]any{"id": b64(make([]byte, 16)) + "=="})), verify.ErrClaims},
		"id with a break":   {claims(one(map[string]any{"id": b64(make([]byte, 16)) + "\n"})), verify.ErrClaims},
		"id's unused bits":  {claims(one(map[string]any{"id": strings.Repeat("A", 21) + "B"})), verify.ErrClaims},
		"no not_before":     {claims(one(map[string]any{"not_before": nil})), verify.ErrClaims},
		"no until":          {claims(one(map[string]any{"until": nil})), verify.ErrClaims},
		"until a fraction":  {claims(one(map[string]any{"until": 1.5})), verify.ErrClaims},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newKey(t, "k1", "ES256")
				s := &speaker{statement: i.saying(t, nil, nil)}
				feed, log := spoken(t, s, i, nil)
				ready(t, feed)
				s.say(tt.bad(t, i))
				time.Sleep(31 * time.Second)
				state := feed.State()
				if state.Seq != 7 || state.Entries != 3 || !state.Lost() {
					t.Errorf("state is %+v", state)
				}
				if n := log.count(func(s verify.FeedState) bool { return errors.Is(s.Err, tt.want) }); n == 0 {
					t.Errorf("never told of %v; the last error is %v", tt.want, state.Err)
				}
				s.mu.Lock()
				if s.asked > 31 {
					t.Errorf("asked %d times in 31 s", s.asked)
				}
				s.mu.Unlock()
				s.say(i.saying(t, map[string]any{"typ": "Application/Revocations+JWT"}, map[string]any{"seq": 8}))
				time.Sleep(6 * time.Second)
				if state := feed.State(); state.Lost() || state.Seq != 8 || state.Err != nil {
					t.Errorf("after the recovery the state is %+v", state)
				}
			})
		})
	}
}

func claims(change map[string]any) func(*testing.T, *issuer) string {
	return func(t *testing.T, i *issuer) string { return i.saying(t, nil, change) }
}

// One key signs both, and typ alone keeps them apart.
func TestVerify_aFeedStatementIsNoAccessToken(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	v := verifier(t, nil, i)
	refused(t, v, i.with(t, map[string]any{"typ": "revocations+jwt"}, nil), verify.ErrType)
	refused(t, v, i.saying(t, nil, nil), verify.ErrType)
}

// A revoked key does not speak any more, not even to take that back.
func TestFeed_aRevokedKeySignsNoStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		s := &speaker{statement: i.saying(t, nil, map[string]any{"entries": []any{listed(7, map[string]any{"kind": "key", "id": markOf("key:k1")})}})}
		feed, _ := spoken(t, s, i, nil)
		ready(t, feed)
		s.say(i.saying(t, nil, map[string]any{"seq": 8, "entries": []any{}}))
		time.Sleep(10 * time.Second)
		if state := feed.State(); state.Seq != 7 || !errors.Is(state.Err, verify.ErrRevoked) {
			t.Errorf("state is %+v", state)
		}
	})
}

func TestFeed_moreEntriesThanFitCountAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		s := &speaker{statement: i.saying(t, nil, nil)}
		feed, _ := spoken(t, s, i, func(c *verify.FeedConfig) { c.MaxEntries = 3 })
		ready(t, feed)
		s.say(i.saying(t, nil, map[string]any{"seq": 8, "entries": []any{listed(2, nil), listed(5, nil), listed(7, nil), listed(8, nil)}}))
		time.Sleep(2 * time.Second)
		if state := feed.State(); !state.Lost() || state.Seq != 8 || state.Entries != 3 || state.Err == nil {
			t.Errorf("state is %+v", state)
		}
		s.say(i.saying(t, nil, map[string]any{"seq": 9}))
		time.Sleep(26 * time.Second) // the next snapshot
		if state := feed.State(); state.Lost() || state.Seq != 9 {
			t.Errorf("state is %+v", state)
		}
	})
}

// What a server says that it has left out is as unknown as what it does not say at all.
func TestFeed_aPartialSnapshotCountsAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		s := &speaker{statement: i.saying(t, nil, nil)}
		feed, _ := spoken(t, s, i, func(c *verify.FeedConfig) { c.SnapshotEvery = 10 * time.Second })
		ready(t, feed)
		s.say(i.saying(t, nil, map[string]any{"seq": 8, "partial": true, "entries": []any{listed(7, nil), listed(8, nil)}}))
		time.Sleep(15 * time.Second)
		if state := feed.State(); !state.Lost() || state.Seq != 8 || state.Entries != 4 || state.Err == nil {
			t.Errorf("state is %+v", state)
		}
		s.say(i.saying(t, nil, map[string]any{"seq": 9, "partial": false}))
		time.Sleep(26 * time.Second)
		if state := feed.State(); state.Lost() || state.Seq != 9 || state.Entries != 3 {
			t.Errorf("state is %+v", state)
		}
	})
}

// Whoever replays an old answer, a cache say, does not bring back who is banned.
func TestFeed_anOldSnapshotIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		old := i.saying(t, nil, nil)
		time.Sleep(time.Minute)
		s := &speaker{statement: i.saying(t, nil, map[string]any{"seq": 9, "entries": []any{listed(9, nil)}})}
		feed, _ := spoken(t, s, i, nil)
		ready(t, feed)
		s.say(old)
		time.Sleep(10 * time.Second)
		if state := feed.State(); state.Seq != 9 || state.Entries != 1 || state.Err == nil {
			t.Errorf("state is %+v", state)
		}
	})
}

// A delta that begins after what is held leaves a gap; a snapshot fills it.
func TestFeed_aGapIsFilledByASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		s := &speaker{statement: i.saying(t, nil, nil)}
		s.events = "event: revocations\ndata: " + i.saying(t, nil, map[string]any{"after": 9, "seq": 10, "entries": []any{listed(10, nil)}}) + "\n\n"
		feed, _ := spoken(t, s, i, nil)
		ready(t, feed)
		s.say(i.saying(t, nil, map[string]any{"seq": 10, "entries": []any{listed(2, nil), listed(5, nil), listed(7, nil), listed(10, nil)}}))
		time.Sleep(5 * time.Second)
		if state := feed.State(); state.Seq != 10 || state.Entries != 4 {
			t.Errorf("state is %+v", state)
		}
	})
}

// Kinds that a later server may have are about nothing that we know.
func TestFeed_unknownKindsAndMembersAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		s := &speaker{statement: i.saying(t, nil, map[string]any{"x": 1, "entries": []any{
			listed(3, map[string]any{"kind": "device"}), listed(4, map[string]any{"why": "theft"}),
		}})}
		feed, _ := spoken(t, s, i, nil)
		ready(t, feed)
		if state := feed.State(); state.Seq != 7 || state.Entries != 1 {
			t.Errorf("state is %+v", state)
		}
	})
}

// An answer without end is cut off.
func TestFeed_endlessAnswers(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	for name, prefix := range map[string]string{"statement": "", "event": "data: "} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan error, 100)
			feed, _ := spoken(t, &speaker{}, i, func(c *verify.FeedConfig) {
				c.Timeout = time.Minute
				c.OnFeed = func(s verify.FeedState) { heard <- s.Err }
				c.Client = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
					resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Request: r}
					stream := r.Header.Get("Accept") == "text/event-stream"
					if stream == (prefix != "") {
						resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(prefix), &endless{left: 1 << 30}))
					} else {
						resp.Body = io.NopCloser(strings.NewReader(i.saying(t, nil, nil)))
					}
					return resp, nil
				})}
			})
			defer feed.Close()
			for err := range heard {
				if err != nil {
					if want := "long"; !strings.Contains(err.Error(), want) {
						t.Errorf("error is %v", err)
					}
					return
				}
			}
		})
	}
}

// endless is a body that is far too long.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		panic("read on and on")
	}
	for i := range p {
		p[i] = 'A'
	}
	e.left -= len(p)
	return len(p), nil
}
