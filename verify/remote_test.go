package verify_test

import (
	"context"
	"errors"
	"fmt"
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
)

// publisher serves a key set to a verifier in the same bubble of time. There
// is no network between them: sockets stand outside synctest's clock.
type publisher struct {
	mu      sync.Mutex
	body    []byte
	etag    string
	control string
	down    bool          // refuses connections
	hang    bool          // takes the request and never answers
	slow    time.Duration // until it answers
	asked   []time.Time
	headers []http.Header
	onFetch []verify.Fetch
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.asked = append(p.asked, time.Now())
	p.headers = append(p.headers, r.Header.Clone())
	now := struct {
		body          []byte
		etag, control string
		down, hang    bool
		slow          time.Duration
	}{p.body, p.etag, p.control, p.down, p.hang, p.slow}
	p.mu.Unlock()
	switch {
	case now.down:
		return nil, errors.New("connection refused")
	case now.hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	time.Sleep(now.slow)
	w := httptest.NewRecorder()
	if now.control != "" {
		w.Header().Set("Cache-Control", now.control)
	}
	if now.etag != "" {
		w.Header().Set("ETag", now.etag)
	}
	if now.etag != "" && r.Header.Get("If-None-Match") == now.etag {
		w.WriteHeader(http.StatusNotModified)
	} else {
		_, _ = w.Write(now.body)
	}
	return w.Result(), nil
}

func (p *publisher) set(change func(*publisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// times are the instants of all fetches, in seconds after the first.
func (p *publisher) times() []float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var seconds []float64
	for _, at := range p.asked {
		seconds = append(seconds, at.Sub(p.asked[0]).Seconds())
	}
	return seconds
}

func (p *publisher) last(t *testing.T) verify.Fetch {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.onFetch) == 0 {
		t.Fatal("OnFetch was never called")
	}
	return p.onFetch[len(p.onFetch)-1]
}

// follow returns a key set fed by p, closed at the end of the test.
func follow(t *testing.T, p *publisher, change func(*verify.RemoteConfig)) *verify.Remote {
	t.Helper()
	c := verify.RemoteConfig{
		URL:     issuerName + "/.well-known/jwks.json",
		Client:  &http.Client{Transport: p},
		OnFetch: func(f verify.Fetch) { p.set(func(p *publisher) { p.onFetch = append(p.onFetch, f) }) },
	}
	if change != nil {
		change(&c)
	}
	keys, err := verify.RemoteKeys(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	return keys
}

// over is a verifier with these keys and the bubble's clock, believing in i.
func over(t *testing.T, keys verify.KeySet) *verify.Verifier {
	t.Helper()
	v, err := verify.New(verify.Config{Issuer: issuerName, Audience: ourName, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fresh is a token that is good now and for a week.
func fresh(t testing.TB, i *issuer) string {
	t.Helper()
	return i.with(t, nil, map[string]any{"iat": time.Now().Unix(), "exp": time.Now().Add(7 * 24 * time.Hour).Unix()})
}

func mustVerify(t *testing.T, v *verify.Verifier, raw string) {
	t.Helper()
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
}

func TestRemoteKeys_theFirstTokenWaitsForTheFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i), slow: 2 * time.Second}
		v := over(t, follow(t, p, nil))
		begun := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { mustVerify(t, v, fresh(t, i)) })
		}
		all.Wait()
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("took %v, the server takes 2s", took)
		}
		if got := p.times(); len(got) != 1 {
			t.Errorf("%d fetches for 100 first tokens, expected one", len(got))
		}
	})
}

func TestRemoteKeys_aCallerInAHurryDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		v := over(t, follow(t, &publisher{hang: true}, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := v.Verify(ctx, fresh(t, i))
		if !errors.Is(err, verify.ErrKeysUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if took := time.Since(begun); took != 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		// Whoever has no deadline waits for the fetch's own.
		refused(t, v, fresh(t, i), verify.ErrKeysUnavailable)
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("the attempt ended after %v, expected 4s", took)
		}
	})
}

// Services start before their auth server. That is no error, they say 503 at
// once, and they recover within seconds: whether connections are refused or
// requests vanish.
func TestRemoteKeys_serverDownAtTheStart(t *testing.T) {
	for name, break_ := range map[string]func(p *publisher, broken bool){
		"refused": func(p *publisher, broken bool) { p.down = broken },
		"vanish":  func(p *publisher, broken bool) { p.hang = broken },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newKey(t, "k1", "ES256")
				p := &publisher{body: jwks(t, i)}
				break_(p, true)
				v := over(t, follow(t, p, nil))
				time.Sleep(61500 * time.Millisecond)
				raw := fresh(t, i)
				begun := time.Now()
				for range 1000 {
					refused(t, v, raw, verify.ErrKeysUnavailable)
				}
				if took := time.Since(begun); took != 0 {
					t.Errorf("1000 refusals took %v", took)
				}
				// Requests do not drive the attempts.
				if n := len(p.times()); n > 62 {
					t.Errorf("%d fetches in a minute", n)
				}
				p.set(func(p *publisher) { break_(p, false) })
				time.Sleep(5 * time.Second)
				mustVerify(t, v, raw)
			})
		})
	}
}

func TestRemoteKeys_unknownKidsCauseOneFetchIn30Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i), slow: 50 * time.Millisecond}
		v := over(t, follow(t, p, nil))
		good := fresh(t, i)
		mustVerify(t, v, good)
		const kids = 100_000
		payload := strings.SplitN(good, ".", 2)[1]
		for n := range kids {
			forged := b64(fmt.Appendf(nil, `{"alg":"ES256","typ":"at+jwt","kid":"%d"}`, n)) + "." + payload
			if _, err := v.Verify(t.Context(), forged); !errors.Is(err, verify.ErrUnknownKey) {
				t.Fatalf("kid %d: %v", n, err)
			}
			time.Sleep(3 * time.Millisecond) // five minutes in all
			if n%1000 == 0 {
				begun := time.Now()
				mustVerify(t, v, good)
				if took := time.Since(begun); took != 0 {
					t.Fatalf("a good token waited %v", took)
				}
			}
		}
		spaced(t, p, 30)
		if n := len(p.times()); n < 10 || n > 12 {
			t.Errorf("%d fetches in 5 minutes of unknown kids, expected about 10", n)
		}
	})
}

// Many at once are one flight.
func TestRemoteKeys_aStormAtOneInstantIsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, next := newKey(t, "k1", "ES256"), newKey(t, "k2", "ES256")
		p := &publisher{body: jwks(t, i), slow: time.Second}
		v := over(t, follow(t, p, nil))
		mustVerify(t, v, fresh(t, i))
		time.Sleep(time.Minute)
		p.set(func(p *publisher) { p.body = jwks(t, i, next) })
		raw := fresh(t, next)
		var all sync.WaitGroup
		for n := range 1000 {
			all.Go(func() {
				if n%2 == 0 {
					mustVerify(t, v, raw) // the new key: found by the very fetch it caused
				} else {
					refused(t, v, newToken(t, i, fmt.Sprint(n)), verify.ErrUnknownKey)
				}
			})
		}
		all.Wait()
		if n := len(p.times()); n != 2 {
			t.Errorf("%d fetches, expected 2", n)
		}
		if got := p.headers[1].Get("Cache-Control"); got != "no-cache" {
			t.Errorf("Cache-Control of an urgent fetch is %q, expected no-cache", got)
		}
	})
}

func newToken(t testing.TB, i *issuer, kid string) string {
	t.Helper()
	return i.with(t, map[string]any{"kid": kid}, map[string]any{"iat": time.Now().Unix(), "exp": time.Now().Unix() + 60})
}

// One misconfigured client with one wrong token is not worth a fetch every 30
// seconds.
func TestRemoteKeys_theSameUnknownKidIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i)}
		keys := follow(t, p, nil)
		synctest.Wait()
		for range 9 * 60 { // short of the scheduled fetch after ten minutes
			time.Sleep(time.Second)
			if _, err := keys.Key(t.Context(), "stranger"); !errors.Is(err, verify.ErrUnknownKey) {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]float64{0, 30, 150, 270, 390, 510}, p.times()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRemoteKeys_aKeyThatLeavesTheSetIsRefusedAfterTheNextFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := newKey(t, "k1", "ES256"), newKey(t, "k2", "ES256")
		p := &publisher{body: jwks(t, old, next)}
		keys := follow(t, p, nil)
		v := over(t, keys)
		raw := fresh(t, old)
		mustVerify(t, v, raw)
		p.set(func(p *publisher) { p.body = jwks(t, next) })
		time.Sleep(10*time.Minute + time.Second)
		refused(t, v, raw, verify.ErrUnknownKey)
		mustVerify(t, v, fresh(t, next))
		if diff := cmp.Diff([]string{"k2"}, keys.KeyIDs()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRemoteKeys_aBadAnswerNeverReplacesAGoodSet(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	for name, bad := range map[string][]byte{
		"empty set":       []byte(`{"keys":[]}`),
		"no body":         {},
		"an error page":   []byte("<html>502 Bad Gateway</html>"),
		"cut off":         jwks(t, i)[:50],
		"too large":       []byte(strings.Repeat(" ", 1<<20) + string(jwks(t, i))),
		"private members": set(t, changed(i.jwk(), map[string]any{"d": "AQ"})),
		"only encryption": set(t, changed(i.jwk(), map[string]any{"use": "enc"})),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: jwks(t, i), etag: `"good"`}
				v := over(t, follow(t, p, nil))
				raw := fresh(t, i)
				mustVerify(t, v, raw)
				p.set(func(p *publisher) { p.body, p.etag = bad, `"bad"` })
				time.Sleep(time.Hour)
				mustVerify(t, v, raw)
				if f := p.last(t); f.Err == nil || f.Keys != 1 || f.Age < 59*time.Minute || f.Next != 30*time.Second {
					t.Errorf("OnFetch says %+v", f)
				}
				// The good set is still asked for by its own tag.
				if got := p.headers[len(p.headers)-1].Get("If-None-Match"); got != `"good"` {
					t.Errorf("If-None-Match is %s", got)
				}
				spaced(t, p, 30)
				p.set(func(p *publisher) { p.body, p.etag = jwks(t, i), `"good"` })
				time.Sleep(31 * time.Second)
				if f := p.last(t); f.Err != nil || !f.NotModified || f.Age != 0 {
					t.Errorf("after the recovery OnFetch says %+v", f)
				}
			})
		})
	}
}

func TestRemoteKeys_staleKeysEndAtTheCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i)}
		keys := follow(t, p, nil)
		v := over(t, keys)
		raw := fresh(t, i)
		mustVerify(t, v, raw)
		p.set(func(p *publisher) { p.down = true })
		time.Sleep(24 * time.Hour)
		mustVerify(t, v, raw)
		time.Sleep(time.Nanosecond)
		refused(t, v, raw, verify.ErrKeysUnavailable)
		if got := keys.KeyIDs(); got != nil {
			t.Errorf("keys in use: %v", got)
		}
		time.Sleep(time.Minute)
		if f := p.last(t); f.Err == nil || f.Keys != 0 {
			t.Errorf("OnFetch says %+v", f)
		}
		p.set(func(p *publisher) { p.down = false })
		time.Sleep(5 * time.Second)
		mustVerify(t, v, raw)
	})
}

func TestRemoteKeys_honoursCacheControlWithinBounds(t *testing.T) {
	for control, want := range map[string]float64{
		"": 600, "public": 600, "max-age=120": 120, "public, max-age=120, stale-if-error=86400": 120, "Max-Age=\"90\"": 90,
		"max-age=5": 30, "max-age=0": 30, "no-cache": 30, "no-store": 30, "max-age=86400": 600, "max-age=-1": 30,
		"max-age=soon": 30, "max-age=99999999999999999999": 600, "max-age=120, no-cache": 30,
	} {
		t.Run(control, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: jwks(t, newKey(t, "k1", "ES256")), control: control}
				follow(t, p, nil)
				time.Sleep(601 * time.Second)
				if got := p.times(); len(got) < 2 || got[1] != want {
					t.Errorf("fetches at %v, expected the second at %v", got, want)
				}
				spaced(t, p, 30)
			})
		})
	}
}

func TestRemoteKeys_closeEndsTheFetchingButNotTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i)}
		keys := follow(t, p, nil)
		v := over(t, keys)
		mustVerify(t, v, fresh(t, i))
		if err := errors.Join(keys.Close(), keys.Close()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		mustVerify(t, v, fresh(t, i))
		refused(t, v, newToken(t, i, "k2"), verify.ErrUnknownKey)
		if n := len(p.times()); n != 1 {
			t.Errorf("%d fetches, expected 1", n)
		}
		time.Sleep(24 * time.Hour)
		refused(t, v, fresh(t, i), verify.ErrKeysUnavailable)
	})
}

func TestRemoteKeys_closeDuringTheFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		keys := follow(t, &publisher{hang: true}, nil)
		v := over(t, keys)
		go refused(t, v, fresh(t, i), verify.ErrKeysUnavailable)
		synctest.Wait()
		_ = keys.Close()
		synctest.Wait()
		refused(t, v, fresh(t, i), verify.ErrKeysUnavailable)
	})
}

// A transport that panics must not take the service down.
func TestRemoteKeys_aPanicIsAFailedFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i)}
		var broken atomic.Bool
		broken.Store(true)
		v := over(t, follow(t, p, func(c *verify.RemoteConfig) {
			c.Client = &http.Client{Transport: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if broken.Load() {
					panic("boom")
				}
				return p.RoundTrip(r)
			})}
		}))
		refused(t, v, fresh(t, i), verify.ErrKeysUnavailable)
		broken.Store(false)
		time.Sleep(5 * time.Second)
		mustVerify(t, v, fresh(t, i))
	})
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// spaced fails the test if two fetches are closer than seconds.
func spaced(t *testing.T, p *publisher, seconds float64) {
	t.Helper()
	times := p.times()
	for n := 1; n < len(times); n++ {
		if gap := times[n] - times[n-1]; gap < seconds {
			t.Errorf("fetches at %vs and %vs", times[n-1], times[n])
		}
	}
}
