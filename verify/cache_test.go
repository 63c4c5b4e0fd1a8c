package verify_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/mldsa"

	"example.com/authserver/verify"
	"example.com/authserver/verify/verifytest"
)

// counting is a key set whose keys can be changed, and an algorithm that
// counts how often a signature is really checked.
type counting struct {
	keys   atomic.Pointer[map[string]verify.Key]
	checks atomic.Int64
}

func (c *counting) Key(_ context.Context, kid string) (verify.Key, error) {
	if k, ok := (*c.keys.Load())[kid]; ok {
		return k, nil
	}
	return verify.Key{}, verify.ErrUnknownKey
}

func (c *counting) hold(keys ...verify.Key) {
	m := map[string]verify.Key{}
	for _, k := range keys {
		m[k.ID] = k
	}
	c.keys.Store(&m)
}

// counted returns a verifier of ML-DSA-44 tokens that counts, and its issuer.
func counted(t *testing.T, change func(*verify.Config)) (*verify.Verifier, *counting, *issuer) {
	t.Helper()
	i, set := newKey(t, "k1", "ML-DSA-44"), &counting{}
	set.hold(verify.Key{ID: "k1", Algorithm: "ML-DSA-44", Public: i.private.Public()})
	alg := mlDSA[0]
	check := alg.Verify
	alg.Verify = func(pub crypto.PublicKey, signed, sig []byte) error {
		set.checks.Add(1)
		return check(pub, signed, sig)
	}
	v := verifier(t, func(c *verify.Config) {
		c.Keys, c.Extra = set, []verify.Algorithm{alg}
		if change != nil {
			change(c)
		}
	}, i)
	return v, set, i
}

// sees fails the test unless so many signatures were checked since the start.
func (c *counting) sees(t *testing.T, want int64) {
	t.Helper()
	if got := c.checks.Load(); got != want {
		t.Errorf("%d signatures were checked, expected %d", got, want)
	}
}

func TestCache_theSecondSightChecksNoSignature(t *testing.T) {
	v, set, i := counted(t, nil)
	raw := i.token(t)
	first, err := v.Verify(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		again, err := v.Verify(t.Context(), raw)
		if err != nil || again != first {
			t.Fatalf("%p, %v, expected %p", again, err, first)
		}
	}
	set.sees(t, 1)
	if allocations := testing.AllocsPerRun(100, func() { _, _ = v.Verify(t.Context(), raw) }); allocations > 0 {
		t.Errorf("%v allocations, expected none", allocations)
	}
}

func TestCache_canBeSwitchedOff(t *testing.T) {
	v, set, i := counted(t, func(c *verify.Config) { c.CacheSize = verify.NoCache })
	raw := i.token(t)
	for range 3 {
		mustVerify(t, v, raw)
	}
	set.sees(t, 3)
	if _, err := verify.New(verify.Config{Issuer: issuerName, Audience: ourName, Keys: set, CacheSize: -2}); err == nil {
		t.Error("a CacheSize of -2 is accepted")
	}
}

// The whole token is the key: another signature, or another payload under the
// same signature, is another token.
func TestCache_nothingButTheWholeTokenIsKnown(t *testing.T) {
	v, set, i := counted(t, nil)
	good, other := i.token(t), i.with(t, nil, map[string]any{"sub": "usr_eve"})
	mustVerify(t, v, good)
	at, end := signatureOf(good), len(good)
	refused(t, v, other[:signatureOf(other)]+good[at:], verify.ErrSignature)
	// Near its beginning: towards the end an ML-DSA signature is often zeros anyway.
	refused(t, v, good[:at+16]+"AAAAAAAA"+good[at+24:], verify.ErrSignature)
	refused(t, v, good[:end-1], verify.ErrMalformed)
	set.sees(t, 3)
	mustVerify(t, v, good)
	set.sees(t, 3)
}

func signatureOf(raw string) int {
	for i := len(raw) - 1; ; i-- {
		if raw[i] == '.' {
			return i + 1
		}
	}
}

func TestCache_onlyGoodTokensAreRemembered(t *testing.T) {
	v, set, i := counted(t, nil)
	for name, bad := range map[string]map[string]any{
		"expired": {"exp": noon.Unix() - 3600, "iat": noon.Unix() - 7200}, "audience": {"aud": "x"}, "early": {"iat": noon.Unix() + 3600},
	} {
		raw := i.with(t, nil, bad)
		before := set.checks.Load()
		for range 3 {
			if _, err := v.Verify(t.Context(), raw); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		set.sees(t, before+3)
	}
}

func TestCache_anEntryDiesWithItsToken(t *testing.T) {
	now := noon
	v, set, i := counted(t, func(c *verify.Config) { c.Now = func() time.Time { return now } })
	raw := i.token(t)
	mustVerify(t, v, raw)
	now = noon.Add(11*time.Minute - 1) // exp and the leeway of a minute
	mustVerify(t, v, raw)
	set.sees(t, 1)
	now = noon.Add(11 * time.Minute)
	refused(t, v, raw, verify.ErrExpired)
	// A clock that is set back finds no leftovers, nor does one that is far
	// behind believe what it remembers.
	now = noon
	mustVerify(t, v, raw)
	set.sees(t, 3)
	now = noon.Add(-time.Hour)
	refused(t, v, raw, verify.ErrNotYetValid)
}

func TestCache_anEntryDiesWithItsKey(t *testing.T) {
	v, set, i := counted(t, nil)
	thief := newKey(t, "k1", "ML-DSA-44")
	raw := i.token(t)
	mustVerify(t, v, raw)
	good := (*set.keys.Load())["k1"]
	set.hold()
	refused(t, v, raw, verify.ErrUnknownKey)
	set.hold(good)
	mustVerify(t, v, raw)
	set.sees(t, 2)
	// Another key of that name: what the old one signed is not believed.
	set.hold(verify.Key{ID: "k1", Algorithm: "ML-DSA-44", Public: thief.private.Public()})
	refused(t, v, raw, verify.ErrSignature)
	// The same key as another value, as after a fetch, is the same key.
	set.hold(good)
	mustVerify(t, v, raw)
	set.sees(t, 4)
	copied, err := mlDSA[0].ParseKey(i.private.Public().(*mldsa.PublicKey).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	set.hold(verify.Key{ID: "k1", Algorithm: "ML-DSA-44", Public: copied})
	mustVerify(t, v, raw)
	set.sees(t, 4)
}

// A fetch that brings the same keys costs nobody a second verification: each
// kind of key is known again.
func TestCache_knowsEachKindOfKeyAgain(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "RS256", "PS256", "EdDSA"} {
		i, other := newKey(t, "k1", alg), newKey(t, "k1", "ES256")
		set := &counting{}
		read := func(from *issuer) verify.Key {
			keys, err := verify.ParseJWKS(jwks(t, from))
			if err != nil {
				t.Fatal(err)
			}
			return keys[0]
		}
		v := verifier(t, func(c *verify.Config) { c.Keys = set }, i)
		set.hold(read(i))
		raw := i.token(t)
		first, err := v.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		set.hold(read(i))
		if again, err := v.Verify(t.Context(), raw); err != nil || again != first {
			t.Errorf("%s: verified anew, %v", alg, err)
		}
		set.hold(read(other))
		if _, err := v.Verify(t.Context(), raw); err == nil {
			t.Errorf("%s: accepted though the key is another", alg)
		}
	}
}

// Trouble with the keys is no reason to believe what is remembered, nor to
// forget it.
func TestCache_staleKeysAreStaleForItToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newKey(t, "k1", "ES256")
		p := &publisher{body: jwks(t, i)}
		v := over(t, follow(t, p, nil))
		raw := fresh(t, i)
		mustVerify(t, v, raw)
		p.set(func(p *publisher) { p.down = true })
		time.Sleep(25 * time.Hour)
		refused(t, v, raw, verify.ErrKeysUnavailable)
	})
}

// However many tokens come, no more than CacheSize are held, and those in use
// stay.
func TestCache_isBounded(t *testing.T) {
	for _, size := range []int{1, 7, 24} {
		v, set, i := counted(t, func(c *verify.Config) { c.CacheSize = size })
		var all []string
		for n := range 4 * size {
			all = append(all, i.with(t, nil, map[string]any{"jti": fmt.Sprint(n)}))
		}
		for _, raw := range all {
			mustVerify(t, v, raw)
		}
		before := set.checks.Load()
		if before != int64(len(all)) {
			t.Errorf("size %d: %d signatures of %d tokens were checked", size, before, len(all))
		}
		for _, raw := range all { // no two copies: whatever is held is found at most once
			mustVerify(t, v, raw)
		}
		if hits := int64(len(all)) - (set.checks.Load() - before); hits > int64(size) {
			t.Errorf("size %d: %d of %d tokens were remembered", size, hits, len(all))
		}
	}
}

func TestCache_whatIsInUseStays(t *testing.T) {
	v, set, i := counted(t, func(c *verify.Config) { c.CacheSize = 8 })
	busy := i.token(t)
	mustVerify(t, v, busy)
	strangers := int64(0)
	for n := range 60 {
		mustVerify(t, v, i.with(t, nil, map[string]any{"jti": fmt.Sprint(n)}))
		strangers++
		mustVerify(t, v, busy)
	}
	set.sees(t, 1+strangers)
}

// Verifying, forgetting and revoking at once, for the race detector; and after
// a revocation has been heard of, nobody sees the token pass.
func TestCache_underConcurrentRevocation(t *testing.T) {
	auth := verifytest.NewIssuer(t)
	v := auth.Verifier(ourName)
	var revoked [20]atomic.Bool
	var raws [20]string
	issued := time.Now().Add(-time.Minute)
	for n := range raws {
		raws[n] = auth.Mint(verifytest.Token{Audience: ourName, Subject: fmt.Sprint(n), SessionID: fmt.Sprint("s", n), IssuedAt: issued})
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				for n, raw := range raws {
					dead := revoked[n].Load()
					_, err := v.Verify(t.Context(), raw)
					if dead && !errors.Is(err, verify.ErrRevoked) || err != nil && !errors.Is(err, verify.ErrRevoked) {
						t.Errorf("token %d, revoked: %v, error: %v", n, dead, err)
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for n := range raws {
		auth.RevokeSession(fmt.Sprint("s", n))
		revoked[n].Store(true)
	}
	close(stop)
	all.Wait()
	for _, raw := range raws {
		refused(t, v, raw, verify.ErrRevoked)
	}
}
