package httpd_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/revocation"
)

const feedPath = "/v1/revocations"

// statement verifies a statement against the key set as a verifier does and returns
// its claims.
func (h *house) statement(jws string) revocation.Claims {
	h.t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		h.t.Fatalf("no compact JWS: %q", jws)
	}
	decode := func(part string, to any) {
		h.t.Helper()
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err == nil && to != nil {
			err = json.Unmarshal(raw, to)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	var head struct{ Alg, Kid, Typ string }
	var claims revocation.Claims
	decode(parts[0], &head)
	decode(parts[1], &claims)
	alg, public, ok := h.ring.Public(head.Kid)
	if !ok || string(alg) != head.Alg || head.Typ != "revocations+jwt" || claims.Issuer != issuer {
		h.t.Fatalf("header %+v, issuer %q", head, claims.Issuer)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		h.t.Fatal(err)
	}
	if err := jwt.GetSigningMethod(head.Alg).Verify(parts[0]+"."+parts[1], signature, public); err != nil {
		h.t.Fatalf("the signature: %v", err)
	}
	return claims
}

// read lets the node read its feed again, as it does every 250 ms.
func (h *house) read() {
	h.t.Helper()
	if err := h.feed.Read(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) logout(tk tokens) {
	h.t.Helper()
	h.post("/v1/logout", fields{"refresh_token": tk.Refresh}).is(204)
}

func TestFeed_snapshotDeltaAndETag(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		empty := h.do("GET", feedPath, nil).is(200)
		if c := h.statement(string(empty.body)); c.Seq != 0 || c.After != 0 || c.Entries == nil || len(c.Entries) != 0 || c.IssuedAt != h.clock.Now().Unix() {
			t.Errorf("before anything ended: %+v", c)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/revocations+jwt", "Cache-Control": "no-cache",
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "", "Authserver-Feed-Age": "0",
		} {
			if got := empty.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}

		h.register("ada@example.com")
		first, second := h.login("ada@example.com"), h.login("ada@example.com")
		h.logout(first)
		h.read()
		one := h.do("GET", feedPath, nil, header("If-None-Match", empty.Header.Get("Etag"))).is(200)
		c := h.statement(string(one.body))
		if len(c.Entries) != 1 || c.Entries[0].Seq != c.Seq || c.Entries[0].ID != revocation.IDOf(revocation.Session, first.Session) {
			t.Fatalf("after a logout: %+v", c)
		}
		h.do("GET", feedPath, nil, header("If-None-Match", one.Header.Get("Etag"))).is(304)
		h.do("HEAD", feedPath, nil).is(200)

		h.logout(second)
		h.read()
		delta := h.do("GET", feedPath+"?after="+strconv.FormatInt(c.Seq, 10), nil, header("If-None-Match", one.Header.Get("Etag"))).is(200)
		d := h.statement(string(delta.body))
		if d.After != c.Seq || len(d.Entries) != 1 || d.Entries[0].ID != revocation.IDOf(revocation.Session, second.Session) {
			t.Errorf("the delta: %+v", d)
		}
		none := h.statement(string(h.do("GET", feedPath+"?after="+strconv.FormatInt(d.Seq, 10), nil).is(200).body))
		if none.After != d.Seq || none.Entries == nil || len(none.Entries) != 0 {
			t.Errorf("a delta of nothing: %+v", none)
		}
		if beyond := h.statement(string(h.do("GET", feedPath+"?after="+strconv.FormatInt(d.Seq+1, 10), nil).is(200).body)); beyond.After != 0 || len(beyond.Entries) != 2 {
			t.Errorf("from a number that was not reached: %+v", beyond)
		}

		h.advance(20 * time.Minute) // 10 min of token life, 2 min, and the seconds of settling have passed
		h.read()
		if late := h.statement(string(h.do("GET", feedPath, nil).is(200).body)); len(late.Entries) != 0 || late.Seq != d.Seq {
			t.Errorf("what has passed is still told: %+v", late)
		}
	})
}

func TestFeed_badNumbers(t *testing.T) {
	h := onOne(t)
	for _, after := range []string{"-1", "+1", "x", "", "1.0", "9007199254740992", "1&after=2", "%zz"} {
		h.do("GET", feedPath+"?after="+after, nil).refused(400, "invalid_request")
	}
	h.do("GET", feedPath, nil, header("Accept", "text/event-stream"), header("Last-Event-ID", "x")).refused(400, "invalid_request")
	h.do("GET", feedPath+"?after=9007199254740991", nil).is(200)
	unwanted := h.do("GET", feedPath, nil, header("Accept", "text/event-stream;q=0, */*")).is(200)
	if got := unwanted.Header.Get("Content-Type"); got != "application/revocations+jwt" {
		t.Errorf("who wants no stream got %s", got)
	}
	h.post(feedPath, nil).refused(405, "method_not_allowed")
}

func TestFeed_standsWhateverIsSwitchedOff(t *testing.T) {
	h := onOne(t, with(func(c *httpd.Config) { c.FirstPartyAPI, c.EdgeRate, c.EdgeBurst = false, 0.001, 1 }))
	for range 5 { // no limit of the network either
		h.do("GET", feedPath, nil).is(200)
	}
	preflight := h.do("OPTIONS", feedPath, nil, header("Origin", "https://elsewhere.example"),
		header("Access-Control-Request-Method", "GET"), header("Access-Control-Request-Headers", "last-event-id"))
	if preflight.StatusCode != 204 || preflight.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("preflight: %d %v", preflight.StatusCode, preflight.Header)
	}
}

func TestFeed_aNodeThatMayNotSignOrNeverRead(t *testing.T) {
	h := onOne(t)
	rooms := h.rooms
	rooms.Feed = revocation.NewFeed(h.engine.Revocations(), h.ring, revocation.DefaultPolicy(issuer), h.ring.Now, h.metrics)
	h.serve(rooms)
	h.do("GET", feedPath, nil).refused(503, "temporarily_unavailable")
	h.do("GET", feedPath, nil, header("Accept", "text/event-stream")).refused(503, "temporarily_unavailable")

	rooms.Feed = revocation.NewFeed(h.engine.Revocations(), unreadRing(h), revocation.DefaultPolicy(issuer), h.ring.Now, h.metrics)
	if err := rooms.Feed.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.serve(rooms)
	h.do("GET", feedPath, nil).refused(503, "temporarily_unavailable")
}

// A node whose store is away goes on, and says since when.
func TestFeed_saysHowOldItIs(t *testing.T) {
	h := onOne(t)
	h.clock.Advance(25 * time.Second)
	a := h.do("GET", feedPath, nil).is(200)
	if age := a.Header.Get("Authserver-Feed-Age"); age != "25" {
		t.Errorf("the feed is %q seconds old, want 25", age)
	}
	if c := h.statement(string(a.body)); c.IssuedAt != h.clock.Now().Add(-25*time.Second).Unix() {
		t.Errorf("the statement is of %d, want when the feed was read", c.IssuedAt)
	}
	if text := string(h.send(h.ops, "GET", "/metrics", nil).is(200).body); !strings.Contains(text, "authserver_revocation_feed_age_seconds 25") {
		t.Error("the metrics do not tell")
	}
}

// event is one server-sent event.
type event struct {
	id     string
	claims revocation.Claims
}

// stream opens a stream that ends with the test and returns its events, which
// are closed with it.
func (h *house) stream(base, path string, changes ...change) (<-chan event, context.CancelFunc) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	h.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", base+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, c := range changes {
		c(r)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		h.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	events := make(chan event, 100)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		var e event
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
			case "id":
				e.id = value
			case "event":
				if value != "revocations" {
					h.t.Errorf("event %q", value)
				}
			case "data":
				e.claims = h.statement(value)
			case "":
				if value == "" && e.id != "" {
					events <- e
					e = event{}
				}
			}
		}
	}()
	return events, cancel
}

func next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
	}
	return event{}
}

func TestFeed_events(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		h.logout(h.login("ada@example.com"))
		h.read()
		events, _ := h.stream(h.url, feedPath)
		first := next(t, events)
		if first.claims.After != 0 || len(first.claims.Entries) != 1 || first.id != strconv.FormatInt(first.claims.Seq, 10) {
			t.Fatalf("the first event: %+v", first)
		}
		behind, _ := h.stream(h.url, feedPath+"?after=900", header("Last-Event-ID", first.id)) // the header wins
		if e := next(t, behind); e.claims.After != first.claims.Seq || len(e.claims.Entries) != 0 {
			t.Errorf("an event at once, although there is nothing new: %+v", e)
		}
		h.read() // nothing new: nothing is told

		victim := h.login("ada@example.com")
		user, err := h.engine.Accounts().ByEmail(t.Context(), account.EmailKey("ada@example.com"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.engine.Accounts().Disable(t.Context(), user.ID, "operator:x", "r"); err != nil {
			t.Fatal(err)
		}
		h.read()
		for _, reader := range []<-chan event{events, behind} {
			e := next(t, reader)
			kinds := map[revocation.Kind]revocation.ID{}
			for _, entry := range e.claims.Entries {
				kinds[entry.Kind] = entry.ID
			}
			if e.claims.After != first.claims.Seq || len(e.claims.Entries) != 2 ||
				kinds[revocation.Session] != revocation.IDOf(revocation.Session, victim.Session) ||
				kinds[revocation.User] != revocation.IDOf(revocation.User, user.ID.String()) {
				t.Errorf("after a ban: %+v", e)
			}
		}
	})
}

func TestFeed_streamsAreBounded(t *testing.T) {
	h := onOne(t)
	rooms := h.rooms
	policy := revocation.DefaultPolicy(issuer)
	policy.Streams = 1
	rooms.Feed = revocation.NewFeed(h.engine.Revocations(), h.ring, policy, h.ring.Now, h.metrics)
	if err := rooms.Feed.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.serve(rooms)
	events, leave := h.stream(h.url, feedPath)
	next(t, events)
	a := h.do("GET", feedPath, nil, header("Accept", "text/event-stream"))
	a.refused(503, "temporarily_unavailable")
	if e := h.event(a); e["reason"] != "feed_streams_full" {
		t.Errorf("the log says %v", e["reason"])
	}
	h.do("HEAD", feedPath, nil, header("Accept", "text/event-stream")).is(200) // takes no place
	leave()
	for deadline := time.Now().Add(30 * time.Second); rooms.Feed.Status().Streams > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the place was not given back")
		}
		h.do("GET", feedPath, nil).is(200)
	}
}

// Streams outlive the deadlines of an ordinary answer, and end with the server.
func TestFeed_streamsEndWithTheServer(t *testing.T) {
	h := onOne(t)
	public := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, public, nil) }()
	events, _ := h.stream("http://"+public.Addr().String(), feedPath)
	next(t, events)
	stop()
	select {
	case _, open := <-events:
		if open {
			t.Error("an event, want the end")
		}
	case <-time.After(25 * time.Second):
		t.Fatal("the stream does not end")
	}
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(25 * time.Second):
		t.Fatal("the server does not end")
	}
}

// A reader that does not read is waited for by nobody.
func TestFeed_aReaderThatSleepsHoldsNobodyUp(t *testing.T) {
	h := onOne(t)
	h.register("ada@example.com")
	r, err := http.NewRequestWithContext(t.Context(), "GET", h.url+feedPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // nothing is ever read of it
	events, _ := h.stream(h.url, feedPath)
	next(t, events)
	for range 20 {
		h.logout(h.login("ada@example.com"))
		h.read()
		if e := next(t, events); len(e.claims.Entries) != 1 {
			t.Fatalf("%+v", e)
		}
	}
}
