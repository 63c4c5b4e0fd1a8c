package password

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"example.com/authserver/internal/secret"
)

// tally is an Observer that counts, and calls during while a hash still
// holds its place.
type tally struct {
	mu     sync.Mutex
	hashed map[string]int
	shed   int
	during func()
}

func (o *tally) Hashed(kind string, _ time.Duration) {
	o.mu.Lock()
	if o.hashed == nil {
		o.hashed = map[string]int{}
	}
	o.hashed[kind]++
	o.mu.Unlock()
	if o.during != nil {
		o.during()
	}
}

func (o *tally) Shed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shed++
}

func (o *tally) reset() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	counted := maps.Clone(o.hashed)
	clear(o.hashed)
	return counted
}

// small returns a hasher far below the floor, so that tests are fast.
func small(t testing.TB, observer Observer) *Hasher {
	t.Helper()
	return newHasher(Policy{Memory: 64, Time: 1, Parallelism: 1, Slots: 1, Queue: 1}, 1<<30, observer)
}

func scheme(t testing.TB, text string) Scheme {
	t.Helper()
	s, err := ParseScheme(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHash_isWhatTheReferenceImplementationMakes(t *testing.T) {
	// Made by the reference implementation with the default cost.
	const encoded = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0"
	h, err := New(Policy{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Verify(t.Context(), encoded, secret.NewText(staple)); err != nil || got != (Verdict{Match: true}) {
		t.Fatalf("Verify = %+v, %v; want a match that is not stale", got, err)
	}
	made, err := h.Hash(t.Context(), secret.NewText(staple))
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Encoded) != len(encoded) || made.Encoded[:31] != encoded[:31] || made.Scheme.String() != defaultScheme {
		t.Fatalf("Hash made %s (%s), want the form of %s", made.Encoded, made.Scheme, encoded)
	}
	again, _ := h.Hash(t.Context(), secret.NewText(staple))
	if again.Encoded == made.Encoded {
		t.Fatal("two hashes of one password are equal: there is no salt")
	}
}

func TestHash_takesEveryByteAsItComes(t *testing.T) {
	h := small(t, nil)
	long := strings.Repeat("x", 72)
	spellings := []string{
		"pass\u00e9word", "passe\u0301word", "Pass\u00e9word", "pass\u00e9word ", " pass\u00e9word", "pass\u00e9word\n",
		"pass\x00word", "pass\x00wore", "pass\xffword", "pass\xfeword", long + "a", long + "b", long, "",
	}
	for _, made := range spellings {
		hash, err := h.Hash(t.Context(), secret.NewText(made))
		if err != nil {
			t.Fatal(err)
		}
		for _, given := range spellings {
			got, err := h.Verify(t.Context(), hash.Encoded, secret.NewText(given))
			if err != nil || got.Match != (made == given) || got.Stale {
				t.Errorf("hash of %q with %q: %+v, %v", made, given, got, err)
			}
		}
	}
}

func TestVerify_staleOnceThePolicyChanges(t *testing.T) {
	old := small(t, nil)
	hash, err := old.Hash(t.Context(), secret.NewText(staple))
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Policy{
		"memory":      {Memory: 128, Time: 1, Parallelism: 1},
		"time":        {Memory: 64, Time: 2, Parallelism: 1},
		"parallelism": {Memory: 64, Time: 1, Parallelism: 2},
	} {
		got, err := newHasher(p, 1<<30, nil).Verify(t.Context(), hash.Encoded, secret.NewText(staple))
		if err != nil || got != (Verdict{Match: true, Stale: true}) {
			t.Errorf("another %s: %+v, %v; want stale", name, got, err)
		}
	}
	r, _ := parse(hash.Encoded)
	r.salt = r.salt[:8]
	r.sum = argon2.IDKey([]byte(staple), r.salt, 1, 64, 1, 32)
	if got, err := old.Verify(t.Context(), r.encode(), secret.NewText(staple)); err != nil || !got.Stale {
		t.Errorf("a short salt: %+v, %v; want stale", got, err)
	}
}

func TestHash_neverPrints(t *testing.T) {
	hash, err := small(t, nil).Hash(t.Context(), secret.NewText(staple))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x", hash, hash, hash, hash, &hash, []Hash{hash})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "h", hash)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "h", hash)
	if err := json.NewEncoder(&out).Encode(struct{ H Hash }{hash}); err != nil {
		t.Fatal(err)
	}
	sum := hash.Encoded[strings.LastIndexByte(hash.Encoded, '$')+1:]
	if strings.Contains(out.String(), sum) || strings.Contains(out.String(), fmt.Sprintf("%x", sum)) || !strings.Contains(out.String(), secret.Redacted) {
		t.Fatalf("printed:\n%s", out.String())
	}
}

func BenchmarkHash(b *testing.B) {
	h, err := New(DefaultPolicy(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := h.Hash(b.Context(), secret.NewText(staple)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkArgon2 is the bare function, to see what BenchmarkHash adds.
func BenchmarkArgon2(b *testing.B) {
	salt := make([]byte, ourSalt)
	for b.Loop() {
		argon2.IDKey([]byte(staple), salt, DefaultTime, DefaultMemory, DefaultParallelism, ourSum)
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse(imported[1].encoded); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDearest shows how long the costliest hashes that Parse admits take.
func BenchmarkDearest(b *testing.B) {
	for _, text := range []string{
		"argon2id m=262144,t=4,p=1", "argon2id m=19456,t=53,p=1", "bcrypt cost=15", "scrypt ln=18,r=8,p=2", "scrypt ln=17,r=8,p=4",
		"pbkdf2-sha1 i=4000000,l=20", "pbkdf2-sha256 i=4000000,l=32", "pbkdf2-sha512 i=4000000,l=64",
	} {
		b.Run(strings.ReplaceAll(text, " ", "_"), func(b *testing.B) {
			d := dummy(scheme(b, text))
			for b.Loop() {
				if _, err := d.matches(staple); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
