package verify_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/verify"
	"example.com/authserver/verify/verifytest"
)

// told collects what OnFeed hears.
type told struct {
	mu     sync.Mutex
	states []verify.FeedState
}

func (l *told) hear(s verify.FeedState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states = append(l.states, s)
}

// count says how many states were told that are like that.
func (l *told) count(like func(verify.FeedState) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.states {
		if like(s) {
			n++
		}
	}
	return n
}

func (l *told) last(t *testing.T) verify.FeedState {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.states) == 0 {
		t.Fatal("OnFeed was never called")
	}
	return l.states[len(l.states)-1]
}

// following returns a verifier of auth's tokens with a feed of its own.
func following(t *testing.T, auth *verifytest.Issuer, change ...func(*verify.FeedConfig)) (*verify.Verifier, *verify.Feed) {
	t.Helper()
	keys := auth.Keys()
	feed := auth.Feed(keys, change...)
	return believing(t, auth, keys, feed), feed
}

func believing(t *testing.T, auth *verifytest.Issuer, keys verify.KeySet, feed *verify.Feed) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Config{Issuer: auth.URL(), Audience: ourName, Keys: keys, Revocations: feed})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ready(t *testing.T, feed *verify.Feed) {
	t.Helper()
	if err := feed.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// asked counts the requests to path since the issuer began.
func asked(auth *verifytest.Issuer, path string) int {
	n := 0
	for _, r := range auth.Requests() {
		if r.URL.Path == path {
			n++
		}
	}
	return n
}

const jwksPath = "/.well-known/jwks.json"

func TestFeed_eachKindEndsItsTokensAndNoOthers(t *testing.T) {
	mine := verifytest.Token{Audience: ourName, Subject: "eve", SessionID: "s1", ClientID: "app"}
	for kind, tt := range map[string]struct {
		revoke func(*verifytest.Issuer)
		spared verifytest.Token
	}{
		"session": {func(i *verifytest.Issuer) { i.RevokeSession("s1") }, verifytest.Token{Subject: "eve", SessionID: "s2", ClientID: "app"}},
		"grant":   {func(i *verifytest.Issuer) { i.RevokeGrant("s1", "app") }, verifytest.Token{Subject: "eve", SessionID: "s1", ClientID: "other"}},
		"user":    {func(i *verifytest.Issuer) { i.RevokeUser("eve") }, verifytest.Token{Subject: "s1", SessionID: "eve", ClientID: "app"}},
		"client":  {func(i *verifytest.Issuer) { i.RevokeClient("app") }, verifytest.Token{Subject: "app", SessionID: "s1", ClientID: "app2"}},
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				auth := verifytest.NewInProcess(t)
				v := auth.Verifier(ourName)
				time.Sleep(time.Second / 2)
				tt.spared.Audience = ourName
				old, spared := auth.Mint(mine), auth.Mint(tt.spared)
				mustVerify(t, v, old)
				mustVerify(t, v, spared)
				tt.revoke(auth)
				refused(t, v, old, verify.ErrRevoked) // from the cache
				refused(t, v, old, verify.ErrRevoked) // and afresh
				mustVerify(t, v, spared)
				mustVerify(t, v, auth.Mint(mine)) // who logs in again is welcome
				if _, err := v.VerifyEvenIfExpired(t.Context(), old); !errors.Is(err, verify.ErrRevoked) {
					t.Errorf("VerifyEvenIfExpired: %v", err)
				}
			})
		})
	}
}

func TestFeed_allEndsEveryTokenThatIsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v := auth.Verifier(ourName)
		time.Sleep(time.Second / 2)
		old := []string{auth.Mint(verifytest.Token{Audience: ourName}), auth.Mint(verifytest.Token{Audience: ourName, Subject: "eve"})}
		auth.RevokeAll()
		for _, raw := range old {
			refused(t, v, raw, verify.ErrRevoked)
		}
		mustVerify(t, v, auth.Mint(verifytest.Token{Audience: ourName}))
	})
}

// The 30 s floor is for what anybody can make up; a signed event is not.
func TestFeed_aRevokedKeyIsDroppedAtOnceAndTheSetFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v := auth.Verifier(ourName)
		stolen := auth.KeyID()
		old := auth.Mint(verifytest.Token{Audience: ourName})
		mustVerify(t, v, old)
		for range 10 { // more than are published ahead: each needs the fetch of the one before
			auth.RevokeKey(auth.KeyID())
			refused(t, v, old, verify.ErrRevoked)
			synctest.Wait()
			mustVerify(t, v, auth.Mint(verifytest.Token{Audience: ourName}))
		}
		if n := asked(auth, jwksPath); n != 1+10 {
			t.Errorf("%d fetches of the key set for 10 events, expected 11 with the first", n)
		}
		// Snapshots name them again and again. That is no news.
		time.Sleep(29 * time.Second)
		before := asked(auth, jwksPath)
		for range 100 {
			refused(t, v, auth.Mint(verifytest.Token{Audience: ourName, KeyID: stolen}), verify.ErrRevoked)
		}
		if n := asked(auth, jwksPath); n != before {
			t.Errorf("%d fetches for tokens that name a revoked key", n-before)
		}
		// Nor does it come back when its entry has run out, days later.
		time.Sleep(48 * time.Hour)
		refused(t, v, auth.Mint(verifytest.Token{Audience: ourName, KeyID: stolen}), verify.ErrRevoked)
		if fetches, most := asked(auth, jwksPath), before+48*6+2+48; fetches > most {
			t.Errorf("%d fetches in two days, expected at most %d", fetches, most)
		}
	})
}

func TestFeed_effectWithinTheInstantOfTheEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v, feed := following(t, auth)
		ready(t, feed)
		synctest.Wait()
		if !feed.State().Streaming {
			t.Fatalf("not streaming: %+v", feed.State())
		}
		time.Sleep(3*time.Minute + time.Second/3)
		raw := auth.Mint(verifytest.Token{Audience: ourName})
		mustVerify(t, v, raw)
		begun := time.Now()
		auth.RevokeUser("ada")
		refused(t, v, raw, verify.ErrRevoked)
		if took := time.Since(begun); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

// Behind a proxy that holds events back, the server is asked instead.
func TestFeed_pollsWhereStreamsDoNotComeThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		auth.FailFeed(verifytest.BufferedStreams)
		v, feed := following(t, auth)
		ready(t, feed)
		time.Sleep(20*time.Second + time.Second/3)
		raw := auth.Mint(verifytest.Token{Audience: ourName})
		mustVerify(t, v, raw)
		auth.RevokeSession("session of ada")
		time.Sleep(1001 * time.Millisecond)
		refused(t, v, raw, verify.ErrRevoked)
		if s := feed.State(); s.Streaming || s.Lost() || s.Age > time.Second || s.Seq != 1 || s.Entries != 1 {
			t.Errorf("state is %+v", s)
		}
		// Streams are tried again, and found working once the proxy is mended.
		auth.FailFeed(verifytest.None)
		time.Sleep(70 * time.Second)
		if s := feed.State(); !s.Streaming || s.Lost() {
			t.Errorf("state is %+v", s)
		}
	})
}

// A rolling restart breaks every stream; nothing that happened meanwhile is
// missed, and the feed is never lost.
func TestFeed_aRestartOfTheServerMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log told
		auth := verifytest.NewInProcess(t)
		v, feed := following(t, auth, func(c *verify.FeedConfig) { c.OnFeed = log.hear })
		ready(t, feed)
		time.Sleep(time.Minute + time.Second/3)
		raw := auth.Mint(verifytest.Token{Audience: ourName})
		mustVerify(t, v, raw)
		auth.Fail(verifytest.Unreachable)
		time.Sleep(3 * time.Second)
		auth.RevokeUser("ada")
		mustVerify(t, v, raw)
		auth.Fail(verifytest.None)
		time.Sleep(5 * time.Second)
		refused(t, v, raw, verify.ErrRevoked)
		if s := feed.State(); !s.Streaming || s.Err != nil || s.Seq != 1 {
			t.Errorf("state is %+v", s)
		}
		if n := log.count(verify.FeedState.Lost); n != 0 {
			t.Errorf("told %d times that the feed is lost", n)
		}
	})
}

func TestFeed_lostFeedAndItsPolicy(t *testing.T) {
	for name, policy := range map[string]verify.LostPolicy{"carry on": verify.CarryOn, "refuse": verify.Refuse} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log told
				auth := verifytest.NewInProcess(t)
				v, feed := following(t, auth, func(c *verify.FeedConfig) { c.WhenLost, c.OnFeed = policy, log.hear })
				ready(t, feed)
				synctest.Wait()
				time.Sleep(time.Second / 2)
				banned := auth.Mint(verifytest.Token{Audience: ourName, Subject: "eve"})
				auth.RevokeUser("eve")
				raw := auth.Mint(verifytest.Token{Audience: ourName})
				mustVerify(t, v, raw)

				auth.FailFeed(verifytest.Unreachable)
				time.Sleep(29 * time.Second)
				mustVerify(t, v, raw)
				if n := log.count(verify.FeedState.Lost); n != 0 {
					t.Errorf("told of a loss before its time")
				}
				time.Sleep(time.Second + 2*time.Millisecond)
				synctest.Wait()
				if n := log.count(verify.FeedState.Lost); n == 0 {
					t.Error("not told of the loss at its time")
				}
				if s := feed.State(); !s.Lost() || s.Age < 30*time.Second || s.Err == nil || s.Seq != 1 || !s.Loaded {
					t.Errorf("state is %+v", s)
				}
				// What is known to be revoked stays refused, whatever the policy.
				refused(t, v, banned, verify.ErrRevoked)
				// A bad token is a bad token, feed or not.
				refused(t, v, auth.Mint(verifytest.Token{Audience: ourName, Expired: true}), verify.ErrExpired)
				if policy == verify.CarryOn {
					mustVerify(t, v, raw)
				} else {
					refused(t, v, raw, verify.ErrFeedLost)
					if _, err := v.VerifyEvenIfExpired(t.Context(), raw); err != nil {
						t.Errorf("logging out has to work without the feed: %v", err)
					}
					answers503(t, v, raw)
				}

				auth.FailFeed(verifytest.None)
				time.Sleep(5 * time.Second)
				mustVerify(t, v, raw)
				last := log.last(t)
				if s := feed.State(); s.Lost() || last.Lost() || last.Err != nil {
					t.Errorf("after the recovery the state is %+v, last told was %+v", s, last)
				}
			})
		})
	}
}

// A server that cannot read its store answers and says so. It may have missed
// what happened since, so it counts as lost like one that is down.
func TestFeed_aServerWithAStaleStoreIsLost(t *testing.T) {
	for name, fault := range map[string]verifytest.Fault{"stream": verifytest.None, "polling": verifytest.BufferedStreams} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log told
				auth := verifytest.NewInProcess(t)
				auth.FailFeed(fault)
				v, feed := following(t, auth, func(c *verify.FeedConfig) { c.WhenLost, c.OnFeed = verify.Refuse, log.hear })
				ready(t, feed)
				time.Sleep(20*time.Second + time.Second/3)
				raw := auth.Mint(verifytest.Token{Audience: ourName})
				mustVerify(t, v, raw)
				auth.Fail(verifytest.StaleStore)
				if fault != verifytest.None {
					auth.FailFeed(verifytest.StaleStore) // what is asked is answered all the same
				}
				auth.RevokeUser("ada")
				time.Sleep(15 * time.Second)
				mustVerify(t, v, raw)
				time.Sleep(40 * time.Second)
				refused(t, v, raw, verify.ErrFeedLost)
				if s := feed.State(); !s.Lost() || s.Err == nil || log.count(verify.FeedState.Lost) == 0 {
					t.Errorf("state is %+v, told %d times", s, log.count(verify.FeedState.Lost))
				}
				// Who starts now does not take it for fresh either.
				time.Sleep(time.Minute)
				v2, feed2 := following(t, auth, func(c *verify.FeedConfig) { c.WhenLost = verify.Refuse })
				ready(t, feed2)
				time.Sleep(15 * time.Second)
				if s := feed2.State(); !s.Loaded {
					t.Errorf("state is %+v", s)
				}
				auth.FailFeed(verifytest.None)
				auth.Fail(verifytest.None)
				time.Sleep(11 * time.Second)
				refused(t, v, raw, verify.ErrRevoked)
				refused(t, v2, raw, verify.ErrRevoked)
				if s := feed.State(); s.Lost() || s.Err != nil {
					t.Errorf("after the recovery the state is %+v", s)
				}
			})
		})
	}
}

// cutOff brings requests to an issuer. Once its node is cut off from the store,
// the stream that is open tells nothing but that; whatever is asked after that
// comes to another node.
type cutOff struct {
	http.RoundTripper
	now     chan struct{} // closed when it happens
	streams atomic.Int32
}

func (c *cutOff) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(r)
	if err != nil || r.Header.Get("Accept") != "text/event-stream" || c.streams.Add(1) > 1 {
		return resp, err
	}
	theirs, out := resp.Body, (*io.PipeWriter)(nil)
	resp.Body, out = io.Pipe()
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := theirs.Read(buffer)
			text := buffer[:n]
			select {
			case <-c.now:
				text = []byte(": stale 11\n\n")
			default:
			}
			if _, failed := out.Write(text); err != nil || failed != nil {
				_ = out.CloseWithError(err)
				_ = theirs.Close()
				return
			}
		}
	}()
	return resp, nil
}

// A node that lost its store is not followed for ever: the other nodes know.
func TestFeed_leavesANodeThatCannotReadItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		way := &cutOff{RoundTripper: auth.Client().Transport, now: make(chan struct{})}
		keys := auth.Keys()
		feed, err := verify.FollowRevocations(verify.FeedConfig{
			Issuer: auth.URL(), Keys: keys, Client: &http.Client{Transport: way}, SnapshotEvery: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		v := believing(t, auth, keys, feed)
		ready(t, feed)
		time.Sleep(15 * time.Second)
		raw := auth.Mint(verifytest.Token{Audience: ourName, Subject: "eve"})
		mustVerify(t, v, raw)
		close(way.now)
		time.Sleep(time.Second)
		auth.RevokeUser("eve")
		time.Sleep(45 * time.Second) // until the feed counts as lost, and one beat more
		refused(t, v, raw, verify.ErrRevoked)
		if s := feed.State(); s.Lost() || !s.Streaming {
			t.Errorf("the state is %+v", s)
		}
		if n := way.streams.Load(); n != 2 {
			t.Errorf("%d streams were opened, want 2", n)
		}
	})
}

func answers503(t *testing.T, v *verify.Verifier, raw string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+raw)
	v.Middleware(orders).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("the middleware answers %d with %v", w.Code, w.Header())
	}
}

func TestFeed_revokedTokensAre401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v := auth.Verifier(ourName)
		time.Sleep(time.Second / 2)
		raw := auth.Mint(verifytest.Token{Audience: ourName})
		auth.RevokeUser("ada")
		_, err := v.Verify(t.Context(), raw)
		status, challenge := v.Challenge(err)
		if status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) || !strings.Contains(challenge, "revoked") {
			t.Errorf("%d with %s", status, challenge)
		}
	})
}

// Before the first snapshot nobody knows who is banned.
func TestFeed_beforeTheFirstSnapshot(t *testing.T) {
	start := func(t *testing.T, change ...func(*verify.FeedConfig)) (*verifytest.Issuer, *verify.Verifier, string) {
		auth := verifytest.NewInProcess(t)
		auth.FailFeed(verifytest.Silent)
		v, _ := following(t, auth, change...)
		return auth, v, auth.Mint(verifytest.Token{Audience: ourName})
	}
	t.Run("carry on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, v, raw := start(t)
			begun := time.Now()
			mustVerify(t, v, raw)
			if took := time.Since(begun); took != 0 {
				t.Errorf("took %v", took)
			}
		})
	})
	t.Run("refuse waits for the first attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, v, raw := start(t, func(c *verify.FeedConfig) { c.WhenLost = verify.Refuse })
			begun := time.Now()
			refused(t, v, raw, verify.ErrFeedLost)
			if took := time.Since(begun); took != 5*time.Second {
				t.Errorf("took %v, expected the Timeout of 5s", took)
			}
			refused(t, v, raw, verify.ErrFeedLost)
			if took := time.Since(begun); took != 5*time.Second {
				t.Error("the second token was made to wait")
			}
		})
	})
	t.Run("refuse, a caller in a hurry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, v, raw := start(t, func(c *verify.FeedConfig) { c.WhenLost = verify.Refuse })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := v.Verify(ctx, raw); !errors.Is(err, verify.ErrFeedLost) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v", err)
			}
		})
	})
	t.Run("refuse after a grace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			auth, v, raw := start(t, func(c *verify.FeedConfig) { c.WhenLost, c.Grace = verify.Refuse, time.Minute })
			mustVerify(t, v, raw)
			time.Sleep(59 * time.Second)
			mustVerify(t, v, raw)
			time.Sleep(time.Second)
			refused(t, v, raw, verify.ErrFeedLost)
			auth.FailFeed(verifytest.None)
			time.Sleep(10 * time.Second)
			mustVerify(t, v, raw)
		})
	})
	t.Run("refuse judges by what has arrived meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			auth := verifytest.NewInProcess(t)
			time.Sleep(time.Second / 2)
			raw := auth.Mint(verifytest.Token{Audience: ourName})
			auth.RevokeUser("ada")
			keys := auth.Keys()
			mustVerify(t, believing(t, auth, keys, nil), raw)
			auth.Delay(2 * time.Second)
			feed := auth.Feed(keys, func(c *verify.FeedConfig) { c.WhenLost = verify.Refuse })
			refused(t, believing(t, auth, keys, feed), raw, verify.ErrRevoked)
		})
	})
}

func TestFeed_entriesEndWithTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		_, feed := following(t, auth)
		ready(t, feed)
		for range 50 {
			auth.RevokeSession(time.Now().String())
			time.Sleep(time.Second)
		}
		if s := feed.State(); s.Entries != 50 || s.Seq != 50 {
			t.Errorf("state is %+v", s)
		}
		time.Sleep(20 * time.Minute)
		auth.RevokeSession("the last one")
		if s := feed.State(); s.Entries != 1 || s.Seq != 51 {
			t.Errorf("20 minutes later the state is %+v", s)
		}
	})
}

// A store restored from a backup counts lower than its readers do. They follow
// it at once; what it has forgotten lingers for the ten seconds in which it
// might only be a node that lags.
func TestFeed_aRestoredStoreIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		v, feed := following(t, auth)
		ready(t, feed)
		time.Sleep(time.Second / 2)
		first, second := auth.Mint(verifytest.Token{Audience: ourName, Subject: "eve"}), auth.Mint(verifytest.Token{Audience: ourName, Subject: "bob"})
		for range 10 {
			auth.RevokeUser("eve")
		}
		refused(t, v, first, verify.ErrRevoked)
		time.Sleep(time.Second)
		auth.Forget(3)
		auth.RevokeUser("bob")
		if s := feed.State(); s.Seq != 4 {
			t.Errorf("state is %+v", s)
		}
		refused(t, v, second, verify.ErrRevoked)
		refused(t, v, first, verify.ErrRevoked)
		time.Sleep(11 * time.Second)
		mustVerify(t, v, first)
		refused(t, v, second, verify.ErrRevoked)
	})
}

func TestFeed_namesItselfAndAsksPlainly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		keys := auth.Keys(func(c *verify.RemoteConfig) { c.Service = "orders-api" })
		feed := auth.Feed(keys, func(c *verify.FeedConfig) {
			c.Service = "orders-api"
			c.Client.Timeout = time.Second // a stream outlives it
		})
		ready(t, feed)
		time.Sleep(10 * time.Minute)
		streams := 0
		for _, r := range auth.Requests() {
			if got, want := r.UserAgent(), "authserver-verify/"+verify.Version+" (+orders-api)"; got != want {
				t.Errorf("User-Agent is %q, expected %q", got, want)
			}
			if r.Header.Get("Accept") == "text/event-stream" {
				streams++
				if diff := cmp.Diff("after=0", r.URL.RawQuery); diff != "" {
					t.Error(diff)
				}
			}
		}
		if streams != 1 {
			t.Errorf("%d streams in ten minutes, expected one", streams)
		}
		// A snapshot at the start, and one each 3:45 to 5:00 after it.
		if n := asked(auth, "/v1/revocations") - streams; n < 3 || n > 4 {
			t.Errorf("%d snapshots in ten minutes", n)
		}
	})
}

func TestFeed_closeEndsTheFollowingButNotWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := verifytest.NewInProcess(t)
		keys := auth.Keys()
		feed, err := verify.FollowRevocations(verify.FeedConfig{Issuer: auth.URL(), Keys: keys, Client: auth.Client()})
		if err != nil {
			t.Fatal(err)
		}
		ready(t, feed)
		v := believing(t, auth, keys, feed)
		time.Sleep(time.Second / 2)
		raw := auth.Mint(verifytest.Token{Audience: ourName})
		auth.RevokeUser("ada")
		synctest.Wait()
		if err := errors.Join(feed.Close(), feed.Close()); err != nil {
			t.Fatal(err)
		}
		before := asked(auth, "/v1/revocations")
		time.Sleep(5 * time.Minute)
		refused(t, v, raw, verify.ErrRevoked)
		if n := asked(auth, "/v1/revocations"); n != before {
			t.Errorf("asked %d times after Close", n-before)
		}
		if !feed.State().Lost() {
			t.Error("a closed feed is lost in time")
		}
	})
}

func TestFollowRevocations_unusableConfigurations(t *testing.T) {
	keys, err := verify.StaticKeys(jwks(t, newKey(t, "k1", "ES256")))
	if err != nil {
		t.Fatal(err)
	}
	good := verify.FeedConfig{Issuer: issuerName, Keys: keys, Client: &http.Client{Transport: &publisher{down: true}}}
	for name, change := range map[string]func(*verify.FeedConfig){
		"no issuer":         func(c *verify.FeedConfig) { c.Issuer = "" },
		"no keys":           func(c *verify.FeedConfig) { c.Keys = nil },
		"http":              func(c *verify.FeedConfig) { c.Issuer = "http://auth.example.com" },
		"a path":            func(c *verify.FeedConfig) { c.URL = "/v1/revocations" },
		"policy unknown":    func(c *verify.FeedConfig) { c.WhenLost = 2 },
		"LostAfter":         func(c *verify.FeedConfig) { c.LostAfter = 14 * time.Second },
		"negative Grace":    func(c *verify.FeedConfig) { c.Grace = -1 },
		"PollEvery":         func(c *verify.FeedConfig) { c.PollEvery = time.Millisecond },
		"SnapshotEvery":     func(c *verify.FeedConfig) { c.SnapshotEvery = time.Second },
		"negative Timeout":  func(c *verify.FeedConfig) { c.Timeout = -1 },
		"MaxEntries":        func(c *verify.FeedConfig) { c.MaxEntries = 100_001 },
		"alg none":          func(c *verify.FeedConfig) { c.Algorithms = []string{"none"} },
		"half an algorithm": func(c *verify.FeedConfig) { c.Extra = []verify.Algorithm{{Name: "X"}} },
		"name with a space": func(c *verify.FeedConfig) { c.Service = "a b" },
		"name with a )":     func(c *verify.FeedConfig) { c.Service = "a)b" },
		"name too long":     func(c *verify.FeedConfig) { c.Service = strings.Repeat("x", 65) },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if feed, err := verify.FollowRevocations(c); err == nil {
				_ = feed.Close()
				t.Error("accepted")
			}
		})
	}
	feed, err := verify.FollowRevocations(good)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for name, c := range map[string]verify.Config{
		"another issuer's feed": {Issuer: "https://other.example.com", Audience: ourName, Keys: keys, Revocations: feed},
		"leeway beyond entries": {Issuer: issuerName, Audience: ourName, Keys: keys, Revocations: feed, Leeway: 2*time.Minute + 1},
	} {
		if _, err := verify.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
