package interop

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// The cache rules of tools that cannot be run here, or that leave caching to
// their user. None ever asks again because it met an unknown kid.
var caches = []struct {
	name string
	keep time.Duration
}{
	{"a cache of max-age, 10 min", 10 * time.Minute},
	{"a cache of 2 h (API gateways)", 2 * time.Hour},
	{"a cache of 24 h (.NET's default)", 24 * time.Hour},
}

// playCaches replays the tape to strict caches, each begun at many moments, so
// that some fetch just before the set changes. On the tape of a server without
// a lead every one of them must refuse something.
func playCaches(t *testing.T, tape, naive *recording) {
	for _, c := range caches {
		refused := func(r *recording) (checked, refused int, first string) {
			for begin, m := range r.moments {
				if m.at.After(r.moments[0].at.Add(byHand + 10*time.Minute)) {
					break
				}
				n, bad, why := r.cached(t, begin, c.keep)
				checked, refused = checked+n, refused+bad
				if first == "" {
					first = why
				}
			}
			return checked, refused, first
		}
		checked, bad, why := refused(tape)
		if bad > 0 || checked == 0 {
			t.Errorf("%s: %d of %d good tokens refused: %s", c.name, bad, checked, why)
		}
		_, control, _ := refused(naive)
		if control == 0 {
			t.Errorf("%s: refuses nothing where keys sign at once: this replay would not notice a broken rotation", c.name)
		}
		fmt.Printf("%s: %d good tokens over two rotations, %d refused; %d refused where keys sign at once\n", c.name, checked, bad, control)
	}
}

// cached replays the tape from one moment on to a verifier that keeps a set
// for exactly that long.
func (r *recording) cached(t *testing.T, begin int, keep time.Duration) (checked, refused int, first string) {
	t.Helper()
	var set verify.KeySet
	var fetched time.Time
	var body []byte // of set: it seldom changes
	for n := begin; n < len(r.moments); n++ {
		m := r.moments[n]
		if set == nil || m.at.Sub(fetched) >= keep {
			if !bytes.Equal(body, m.set.body) {
				var err error
				if set, err = verify.StaticKeys(m.set.body); err != nil {
					t.Fatal(err)
				}
			}
			body, fetched = m.set.body, m.at
		}
		for _, token := range r.alive(n) {
			checked++
			if _, err := set.Key(t.Context(), token.kid); err != nil {
				if refused++; first == "" {
					first = fmt.Sprintf("at %s, by a set fetched at %s: %v", m.at.Format(time.RFC3339), fetched.Format(time.RFC3339), err)
				}
			}
		}
	}
	return checked, refused, first
}
