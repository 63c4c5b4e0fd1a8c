package revocation_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/revocation"
)

// shelf is a store that a test sets forward and back: what a restored backup
// does to a node is not to be had from a database by ordinary acts.
type shelf struct {
	mu      sync.Mutex
	entries []revocation.Entry
	newest  int64
	now     time.Time
	err     error
	limit   int // of one page, below what is asked for
}

func (s *shelf) Read(_ context.Context, after int64, limit int) (revocation.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := revocation.Page{Newest: s.newest, Now: s.now}
	for _, e := range s.entries {
		if e.Seq > after {
			page.Entries = append(page.Entries, e)
		}
		if len(page.Entries) == min(limit, s.limit) {
			page.Newest = e.Seq
			page.More = e.Seq < s.newest
			break
		}
	}
	return page, s.err
}

func (*shelf) TakeIndexes(context.Context, int) (int64, error) { return 1, nil }

func (*shelf) Sweep(context.Context, time.Time, int) (int, error) { return 0, nil }

func (s *shelf) set(newest int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.newest, s.err = nil, newest, err
	for n := int64(1); n <= newest; n++ {
		s.entries = append(s.entries, revocation.Entry{
			Seq: n, Kind: revocation.Session, ID: revocation.IDOf(revocation.Session, fmt.Sprint(n)), NotBefore: s.now.Unix(), Until: s.now.Unix() + 100 + n,
		})
	}
}

type oneKey struct {
	key    crypto.Signer
	signed int // how often it was asked
	err    error
	reread func()
}

func (k *oneKey) Reread(context.Context) error {
	if k.reread != nil {
		k.reread()
	}
	return k.err
}

func (k *oneKey) Herald() (string, jwt.SigningMethod, crypto.Signer, error) {
	k.signed++
	return "kid-1", keys.MethodOf(keys.ES256), k.key, k.err
}

type ear struct {
	mu    sync.Mutex
	reads int
	fails int
}

func (e *ear) FeedRead(_ time.Duration, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reads++
	if err != nil {
		e.fails++
	}
}

type node struct {
	*revocation.Feed
	t     *testing.T
	store *shelf
	key   *oneKey
	ear   *ear
}

func newNode(t *testing.T) *node {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, store: &shelf{now: time.Unix(1_764_150_000, 0), limit: 3}, key: &oneKey{key: key}, ear: new(ear)}
	clock := func() time.Time { return n.store.now }
	n.Feed = revocation.NewFeed(n.store, n.key, revocation.DefaultPolicy("https://auth.example.com"), clock, n.ear)
	return n
}

func (n *node) read() {
	n.t.Helper()
	if err := n.Read(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// claims reads a statement without looking at its signature.
func (n *node) claims(st revocation.Statement, err error) (c revocation.Claims) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(string(st.JWS), ".")[1])
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func numbers(c revocation.Claims) (list []int64) {
	for _, e := range c.Entries {
		list = append(list, e.Seq)
	}
	return list
}

func TestFeed_pagesBecomeOneSnapshot(t *testing.T) {
	n := newNode(t)
	if _, err := n.Statement(0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("never read: %v", err)
	}
	n.store.set(8, nil)
	n.read()
	c := n.claims(n.Statement(0))
	if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6, 7, 8}, numbers(c)); diff != "" || c.Seq != 8 || c.After != 0 || c.IssuedAt != n.store.now.Unix() {
		t.Errorf("%+v\n%s", c, diff)
	}
	if c := n.claims(n.Statement(6)); !cmp.Equal(numbers(c), []int64{7, 8}) || c.After != 6 {
		t.Errorf("after 6: %+v", c)
	}
	if c := n.claims(n.Statement(9)); len(c.Entries) != 8 || c.After != 0 {
		t.Errorf("after 9: %+v", c)
	}
	if signed := n.key.signed; signed != 2 {
		t.Errorf("signed %d times, want 2: the third question is that of a snapshot", signed)
	}
}

// Whoever asks after every number there is costs no statement for each of them.
func TestFeed_whoIsFarBehindSharesAStatement(t *testing.T) {
	const most = 4000
	n := newNode(t)
	n.store.limit = most
	n.store.set(most, nil)
	n.read()
	told := map[string]revocation.Claims{}
	for after := range int64(most + 1) {
		st, err := n.Statement(after)
		if err != nil {
			t.Fatal(err)
		}
		if _, known := told[string(st.JWS)]; !known {
			told[string(st.JWS)] = n.claims(st, nil)
		}
		c := told[string(st.JWS)]
		begins := c.After <= after && len(c.Entries) == int(most-c.After) && (len(c.Entries) == 0 || c.Entries[0].Seq == c.After+1)
		if !begins || c.Seq != most || most-after <= 256 && c.After != after || most-c.After > 2*(most-after) {
			t.Fatalf("after %d: %d entries after %d", after, len(c.Entries), c.After)
		}
	}
	if n.key.signed > 256+32 {
		t.Errorf("signed %d times", n.key.signed)
	}
}

func TestFeed_troubleLeavesWhatIsHeld(t *testing.T) {
	n := newNode(t)
	n.store.set(2, nil)
	n.read()
	before, begun := n.claims(n.Statement(0)), n.store.now
	n.store.set(5, errors.New("no answer"))
	n.store.now = begun.Add(40 * time.Second)
	if err := n.Read(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if diff := cmp.Diff(before, n.claims(n.Statement(0))); diff != "" {
		t.Errorf("what is told changed: %s", diff)
	}
	if st := n.Status(); st.Age != 40*time.Second || st.Entries != 2 || st.Newest != 2 || !st.Read {
		t.Errorf("%+v", st)
	}
	if n.ear.reads != 2 || n.ear.fails != 1 {
		t.Errorf("the observer heard of %d reads, %d failed", n.ear.reads, n.ear.fails)
	}
	n.key.err = fault.Trouble(errors.New("an old ring"))
	n.store.set(3, nil)
	n.read()
	if _, err := n.Statement(0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a node that may not sign: %v", err)
	}
}

func TestFeed_whatPassesIsDroppedWithoutNews(t *testing.T) {
	n := newNode(t)
	n.store.set(4, nil)
	n.read()
	at, more := n.At()
	first, _ := n.Statement(0)
	n.store.now = n.store.now.Add(102 * time.Second) // 1 and 2 have passed
	n.read()
	second, _ := n.Statement(0)
	if c := n.claims(second, nil); !cmp.Equal(numbers(c), []int64{3, 4}) || c.Seq != 4 {
		t.Errorf("%+v", c)
	}
	if first.ETag == second.ETag {
		t.Error("other entries have the same ETag")
	}
	select {
	case <-more:
		t.Error("it is told as news")
	default:
	}
	n.store.set(5, nil)
	n.read()
	select {
	case <-more:
	default:
		t.Error("news are not told to who waited since before")
	}
	if c := n.claims(n.Since(at)); c.After != 4 || !cmp.Equal(numbers(c), []int64{5}) {
		t.Errorf("%+v", c)
	}
}

// What had passed by a clock that was ahead is told again when it comes back: a banned
// user's tokens would pass until they expire.
func TestFeed_aClockThatComesBackBringsEntriesBack(t *testing.T) {
	n := newNode(t)
	n.store.set(4, nil)
	n.read()
	at, more := n.At()
	n.store.now = n.store.now.Add(time.Hour)
	n.read()
	if c := n.claims(n.Statement(0)); len(c.Entries) != 0 {
		t.Fatalf("by a clock that is an hour ahead: %+v", c)
	}
	n.store.now = n.store.now.Add(-time.Hour)
	n.read()
	if c := n.claims(n.Statement(0)); !cmp.Equal(numbers(c), []int64{1, 2, 3, 4}) {
		t.Errorf("the clock is back: %+v", c)
	}
	select {
	case <-more:
	default:
		t.Error("nobody is told that there is news")
	}
	if c := n.claims(n.Since(at)); c.After != 0 || len(c.Entries) != 4 {
		t.Errorf("who has followed is told %+v", c)
	}
	at, more = n.At()
	n.store.now = n.store.now.Add(-time.Second) // as on another machine after a failover
	n.read()
	select {
	case <-more:
		t.Error("a second is told as news")
	default:
	}
	if c := n.claims(n.Since(at)); c.After != 4 {
		t.Errorf("after a second: %+v", c)
	}
}

// One network takes half of the places for streams, and no more.
func TestFeed_nobodyTakesAllPlacesForStreams(t *testing.T) {
	n := newNode(t)
	policy := revocation.DefaultPolicy("https://auth.example.com")
	policy.Streams = 4
	n.Feed = revocation.NewFeed(n.store, n.key, policy, func() time.Time { return n.store.now }, n.ear)
	var leave []func()
	join := func(network string, want error) {
		t.Helper()
		gone, err := n.Join(t.Context(), network)
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", network, err, want)
		}
		if err == nil {
			leave = append(leave, gone)
		}
	}
	join("a", nil)
	join("a", nil)
	join("a", limit.ErrFull)
	join("b", nil)
	join("c", nil)
	join("b", limit.ErrFull) // none is left
	for _, gone := range leave {
		gone()
	}
	if s := n.Status(); s.Streams != 0 {
		t.Errorf("%d streams when all have gone", s.Streams)
	}
	join("a", nil) // and no share was lost
	join("a", nil)
}

// Verifiers read 16 MiB at most, and must hear of bans and revoked keys however many
// sessions somebody ends.
func TestFeed_aSnapshotLeavesOutEndsOfSessionsAndNothingElse(t *testing.T) {
	n := newNode(t)
	n.store.limit = 1000
	policy := revocation.DefaultPolicy("https://auth.example.com")
	policy.Listed = 5
	n.Feed = revocation.NewFeed(n.store, n.key, policy, func() time.Time { return n.store.now }, n.ear)
	n.store.set(12, nil)
	for at := range 3 {
		n.store.entries[at].Until += 1000
	}
	for at, kind := range map[int]revocation.Kind{0: revocation.User, 1: revocation.Key, 2: revocation.All, 4: revocation.Grant, 11: revocation.Client} {
		n.store.entries[at].Kind = kind
	}
	n.read()
	st, err := n.Statement(0)
	if c := n.claims(st, err); !c.Partial || c.Seq != 12 || !cmp.Equal(numbers(c), []int64{1, 2, 3, 11, 12}) {
		t.Errorf("a snapshot: %+v", c)
	}
	if c := n.claims(n.Statement(5)); c.After != 0 || !c.Partial {
		t.Errorf("a delta of seven: %+v", c)
	}
	if c := n.claims(n.Statement(7)); c.After != 7 || c.Partial || len(c.Entries) != 5 {
		t.Errorf("a delta of five: %+v", c)
	}
	n.store.now = n.store.now.Add(110 * time.Second) // what was left out has passed
	whole := newNode(t)
	whole.Feed = revocation.NewFeed(n.store, n.key, policy, func() time.Time { return n.store.now }, n.ear)
	whole.read()
	again, err := whole.Statement(0)
	if c := n.claims(again, err); c.Partial || !cmp.Equal(numbers(c), []int64{1, 2, 3, 11, 12}) {
		t.Errorf("later: %+v", c)
	}
	if again.ETag == st.ETag {
		t.Error("a partial snapshot and the whole one have one ETag: readers would go on thinking that something is missing")
	}
}

// The longest entries there can be, in the greatest number, fit into what package verify reads.
func TestFeed_theLongestStatementIsRead(t *testing.T) {
	n := newNode(t)
	n.store.limit = 1 << 20
	most := revocation.DefaultPolicy("").Listed
	n.store.set(int64(most), nil)
	for i := range n.store.entries {
		e := &n.store.entries[i]
		e.Seq, e.Until, e.NotBefore = 1<<53-1-int64(most-i), 99_999_999_999, 99_999_999_999
	}
	n.store.newest = 1<<53 - 1
	n.read()
	st, err := n.Statement(0)
	if c := n.claims(st, err); len(c.Entries) != most || c.Partial || len(st.JWS) > 16<<20-10_000 {
		t.Errorf("%d entries in %d bytes, partial is %t", len(c.Entries), len(st.JWS), c.Partial)
	}
}

// A store that was set back gives numbers again that readers have seen.
func TestFeed_aStoreThatWasSetBackIsToldAsASnapshot(t *testing.T) {
	n := newNode(t)
	n.store.set(6, nil)
	n.read()
	at, more := n.At()
	n.store.set(2, nil)
	n.read()
	<-more
	n.store.set(7, nil) // before anybody could look
	n.read()
	if c := n.claims(n.Since(at)); c.After != 0 || len(c.Entries) != 7 {
		t.Errorf("a reader at 6 of before is told %+v", c)
	}
	at, _ = n.At()
	if c := n.claims(n.Since(at)); c.After != 7 || len(c.Entries) != 0 {
		t.Errorf("a reader of today is told %+v", c)
	}
}

// After a failover that lost commits, other nodes may give the lost numbers again
// before this one reads: to it the newest number never went back.
func TestFeed_numbersThatWereGivenAgainDuringAnOutageAreTold(t *testing.T) {
	n := newNode(t)
	n.store.set(6, nil)
	n.read()
	at, more := n.At()
	n.store.set(6, errors.New("no answer"))
	if n.Read(t.Context()) == nil {
		t.Fatal("no error")
	}
	n.store.set(8, nil)
	other := revocation.IDOf(revocation.User, "eve")
	n.store.entries[4].Kind, n.store.entries[4].ID = revocation.User, other // 5 was lost and given again
	n.read()
	<-more
	c := n.claims(n.Since(at))
	if c.After != 0 || len(c.Entries) != 8 || c.Entries[4].ID != other {
		t.Errorf("a reader at 6 of before is told %+v", c)
	}

	// An outage that lost nothing is no reason to tell everything again.
	at, _ = n.At()
	n.store.err = errors.New("no answer")
	_ = n.Read(t.Context())
	n.store.set(9, nil)
	n.store.entries[4].Kind, n.store.entries[4].ID = revocation.User, other
	n.read()
	if c := n.claims(n.Since(at)); c.After != 8 || !cmp.Equal(numbers(c), []int64{9}) {
		t.Errorf("a reader at 8 is told %+v", c)
	}
}

func TestFeed_nodesThatHoldTheSameHaveOneETag(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.store.set(5, nil)
	b.store.set(5, nil)
	a.read()
	b.read()
	for _, after := range []int64{0, 3, 5} {
		x, _ := a.Statement(after)
		y, _ := b.Statement(after)
		if x.ETag != y.ETag || bytes.Equal(x.JWS, y.JWS) || !strings.HasPrefix(x.ETag, `W/"`) {
			t.Errorf("after %d: %s and %s", after, x.ETag, y.ETag)
		}
	}
	x, _ := a.Statement(4)
	y, _ := a.Statement(5)
	if x.ETag == y.ETag {
		t.Error("two deltas have one ETag")
	}
}

func TestID_hidesItsSubject(t *testing.T) {
	// SHA-256("session:abc"), computed with another program.
	if text, _ := revocation.IDOf(revocation.Session, "abc").MarshalText(); string(text) != "op2AO0d-tCCD69JVljVsRQ" {
		t.Errorf("session abc is %s", text)
	}
	seen := map[revocation.ID]bool{}
	for _, k := range revocation.Kinds() {
		seen[revocation.IDOf(k, "abc")] = true
	}
	if len(seen) != len(revocation.Kinds()) {
		t.Error("two kinds share an id")
	}
	var i revocation.ID
	for _, bad := range []string{"", "abc", strings.Repeat("A", 21), strings.Repeat("A", 23), strings.Repeat("A", 21) + "B", strings.Repeat("+", 22)} {
		if i.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q passes for an id", bad)
		}
	}
}

func TestNotBefore_isAfterEveryTokenOfThatSecond(t *testing.T) {
	second := time.Unix(1_764_150_000, 0)
	for _, d := range []time.Duration{0, 1, 500 * time.Millisecond, time.Second - 1} {
		if nb := revocation.NotBefore(second.Add(d)); !nb.Equal(second.Add(time.Second)) {
			t.Errorf("%s into the second: %s", d, nb)
		}
	}
}

// Whoever hears of a revoked key fetches the key set at once, from a node that
// knows the successor by then.
func TestFeed_theRingIsReadBeforeARevokedKeyIsTold(t *testing.T) {
	n := newNode(t)
	n.read()
	_, more := n.At()
	rereads := 0
	n.key.reread = func() {
		rereads++
		select {
		case <-more:
			t.Error("the readers were told before the ring was read")
		default:
		}
	}
	n.store.set(1, nil)
	n.read()
	if rereads != 0 {
		t.Errorf("%d reads of the ring for the end of a session, want none", rereads)
	}
	_, more = n.At()
	n.store.entries = append(n.store.entries, revocation.Entry{
		Seq: 2, Kind: revocation.Key, ID: revocation.IDOf(revocation.Key, "kid-0"), NotBefore: n.store.now.Unix(), Until: n.store.now.Unix() + 100,
	})
	n.store.newest = 2
	n.read()
	select {
	case <-more:
	default:
		t.Error("the readers were not told")
	}
	n.read()
	if rereads != 1 {
		t.Errorf("%d reads of the ring for one revoked key, want 1", rereads)
	}
}
