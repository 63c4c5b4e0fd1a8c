package refresh

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
)

// ring is a set of root keys in memory.
type ring struct {
	active  uint8
	known   map[uint8]secret.Bytes
	hidden  map[uint8]secret.Bytes // known to the store; Reread finds them
	revoked []uint8                // in the store; Reread finds out
	trouble error                  // of Reread
	lost    error                  // of ActiveRoot
	rereads atomic.Int32
	seen    int64 // the revision
}

func (r *ring) Revision() int64 { return r.seen }

func rootOf(n uint8) secret.Bytes {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i) ^ n
	}
	return secret.NewBytes(b)
}

func newRing(numbers ...uint8) *ring {
	r := &ring{active: numbers[0], known: map[uint8]secret.Bytes{}, hidden: map[uint8]secret.Bytes{}}
	for _, n := range numbers {
		r.known[n] = rootOf(n)
	}
	return r
}

func (r *ring) ActiveRoot() (uint8, secret.Bytes, error) {
	return r.active, r.known[r.active], r.lost
}

func (r *ring) Root(n uint8) (secret.Bytes, bool) {
	key, ok := r.known[n]
	return key, ok
}

func (r *ring) Reread(context.Context) error {
	r.rereads.Add(1)
	if r.trouble != nil {
		return r.trouble
	}
	r.seen++
	for _, n := range r.revoked {
		delete(r.known, n)
	}
	for n, key := range r.hidden {
		r.known[n] = key
	}
	return nil
}

func someToken(generation int32, key uint8) Token {
	t := Token{family: id.Family{1, 2, 3, 4, 5, 6, 0x87, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}, generation: generation, key: key}
	for i := range t.secret {
		t.secret[i] = 0xa0 + byte(i)
	}
	return t
}

// TestToken_bytesNeverChange holds the format fast: every token out there was
// made by it. The strings were computed by another program from the format's
// description, with the root key 00 01 02 .. 1f.
func TestToken_bytesNeverChange(t *testing.T) {
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	root := secret.NewBytes(counting)
	roots := newRing(1)
	roots.known = map[uint8]secret.Bytes{7: root, 255: root}
	for _, c := range []struct {
		generation int32
		key        uint8
		text       string
	}{
		{1, 7, "asrt_AQcBAgMEBQaHCIkKCwwNDg8QAAAAAaChoqOkpaanqKmqq6ytrq_6DjwRIpxrcsehqaDb0ZoX"},
		{2, 7, "asrt_AQcBAgMEBQaHCIkKCwwNDg8QAAAAAqChoqOkpaanqKmqq6ytrq-DAiXFd_hUf6DcVYckoN05"},
		{MaxGeneration, 255, "asrt_Af8BAgMEBQaHCIkKCwwNDg8Qf____6ChoqOkpaanqKmqq6ytrq-WA4z2NYgnNnNGXkReTe19"},
	} {
		want := someToken(c.generation, c.key)
		if got := want.spell(root); got != c.text {
			t.Errorf("generation %d: got %s, want %s", c.generation, got, c.text)
		}
		got, err := Parse(t.Context(), roots, c.text)
		if err != nil || got != want {
			t.Errorf("Parse of generation %d: %v, %+v", c.generation, err, got.generation)
		}
	}
	if TokenLength != 77 {
		t.Errorf("a token has %d characters, want 77", TokenLength)
	}
}

// refusals returns texts made from a genuine token that must all be refused.
func refusals(genuine string) map[string]string {
	bad := map[string]string{
		"empty": "", "prefix only": Prefix, "white space around": " " + genuine[:76], "upper-case prefix": "ASRT_" + genuine[5:],
		"another prefix": "asat_" + genuine[5:], "no prefix": genuine[5:], "padded": genuine + "=", "padding inside": genuine[:76] + "=",
		"extended": genuine + "A", "doubled": genuine + genuine, "a line end after it": genuine + "\n",
		"standard alphabet": genuine[:76] + "+", "a byte beyond ASCII": genuine[:76] + "\xff", "NUL": genuine[:76] + "\x00",
	}
	for n := range len(genuine) {
		bad[fmt.Sprintf("truncated to %d", n)] = genuine[:n]
	}
	for i := range len(genuine) {
		for bit := range 8 {
			flipped := []byte(genuine)
			flipped[i] ^= 1 << bit
			bad[fmt.Sprintf("character %d, bit %d flipped", i, bit)] = string(flipped)
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(genuine[len(Prefix):])
	for i := range raw {
		for bit := range 8 {
			flipped := append([]byte{}, raw...)
			flipped[i] ^= 1 << bit
			bad[fmt.Sprintf("byte %d, bit %d flipped", i, bit)] = Prefix + base64.RawURLEncoding.EncodeToString(flipped)
		}
	}
	return bad
}

func TestParse_everyMangledTokenIsForged(t *testing.T) {
	roots := newRing(7)
	genuine := someToken(5, 7).spell(rootOf(7))
	for name, text := range refusals(genuine) {
		if _, err := Parse(t.Context(), roots, text); !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v, want ErrForged", name, err)
		}
	}
}

func TestParse_anotherServersTokenIsForged(t *testing.T) {
	foreign := someToken(5, 7).spell(rootOf(8)) // says number 7, made under another key
	if _, err := Parse(t.Context(), newRing(7, 8), foreign); !errors.Is(err, ErrForged) {
		t.Errorf("%v, want ErrForged", err)
	}
}

func TestParse_generationsOutsideTheTableAreForged(t *testing.T) {
	roots := newRing(7)
	for _, g := range []uint32{0, 1 << 31, 1<<32 - 1} {
		genuine := someToken(1, 7).spell(rootOf(7))
		raw, _ := base64.RawURLEncoding.DecodeString(genuine[len(Prefix):])
		binary.BigEndian.PutUint32(raw[18:], g)
		sum := mac(rootOf(7), raw[:38])
		copy(raw[38:], sum[:])
		if _, err := Parse(t.Context(), roots, Prefix+base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, ErrForged) {
			t.Errorf("generation %d under a genuine MAC: %v, want ErrForged", g, err)
		}
	}
}

func TestParse_anUnknownRootNumberIsReadAgainOnce(t *testing.T) {
	text := someToken(5, 9).spell(rootOf(9))

	t.Run("and found", func(t *testing.T) {
		roots := newRing(7)
		roots.hidden[9] = rootOf(9)
		token, err := Parse(t.Context(), roots, text)
		if err != nil || token != someToken(5, 9) {
			t.Errorf("%v", err)
		}
		if n := roots.rereads.Load(); n != 1 {
			t.Errorf("read again %d times, want once", n)
		}
		if _, err := Parse(t.Context(), roots, text); err != nil || roots.rereads.Load() != 1 {
			t.Errorf("once known: %v, read again %d times in all", err, roots.rereads.Load())
		}
	})
	t.Run("and not found", func(t *testing.T) {
		roots := newRing(7)
		if _, err := Parse(t.Context(), roots, text); !errors.Is(err, ErrForged) {
			t.Errorf("%v, want ErrForged", err)
		}
		if n := roots.rereads.Load(); n != 1 {
			t.Errorf("read again %d times, want once", n)
		}
	})
	t.Run("and the store is gone", func(t *testing.T) {
		roots := newRing(7)
		roots.trouble = errors.New("connection refused")
		_, err := Parse(t.Context(), roots, text)
		if err == nil || errors.Is(err, ErrForged) || !errors.Is(err, roots.trouble) {
			t.Errorf("%v: want trouble, never a verdict", err)
		}
	})
	t.Run("but not for what is no token at all", func(t *testing.T) {
		roots := newRing(7)
		for _, text := range []string{text + "A", "asat" + text[4:], Prefix + strings.Repeat("_", 72)} { // the last: version 255
			if _, err := Parse(t.Context(), roots, text); !errors.Is(err, ErrForged) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if n := roots.rereads.Load(); n != 0 {
			t.Errorf("read again %d times", n)
		}
	})
}

func TestBear_theFirstToken(t *testing.T) {
	roots := newRing(7)
	b := Birth{
		Session: id.NewSession(), User: id.NewUser(), Client: "first-party", Scope: "openid", Audience: []string{"a"}, AMR: []string{"pwd"},
		Binding: ToDPoP("x"), Transport: InCookie, Rotates: true, IdleTTL: 30 * day, Sender: phone, UserAgent: "phone/1.0", IP: "192.0.2.1",
	}
	f, text, err := Bear(roots, b)
	if err != nil {
		t.Fatal(err)
	}
	token, err := Parse(t.Context(), roots, text.Reveal())
	if err != nil || token.Family() != f.ID || token.Generation() != 1 || token.SecretHash() != f.SecretHash {
		t.Errorf("its own token: %v, family %s generation %d", err, token.Family(), token.Generation())
	}
	if f.Generation != 1 || f.HeadKey != 7 || f.Sender != phone || !f.Rotates || f.Binding != b.Binding || f.Transport != InCookie {
		t.Errorf("born as %+v", f)
	}
	if tag := id.Tag(b.User); [2]byte(f.ID[:2]) != tag {
		t.Errorf("family id %s does not begin with the user's tag %x", f.ID, tag)
	}
	other, _, _ := Bear(roots, b)
	if other.ID == f.ID || other.SecretHash == f.SecretHash {
		t.Error("two families share an id or a secret")
	}
	roots.lost = errors.New("ring is old")
	if _, _, err := Bear(roots, b); !errors.Is(err, roots.lost) {
		t.Errorf("without a root key: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	genuine := someToken(5, 7).spell(rootOf(7))
	f.Add(genuine)
	f.Add(someToken(MaxGeneration, 9).spell(rootOf(9)))
	f.Add(genuine[:76] + "\n")
	f.Add(Prefix)
	f.Add("")
	roots := newRing(7)
	f.Fuzz(func(t *testing.T, text string) {
		token, err := Parse(t.Context(), roots, text)
		if err != nil {
			if !errors.Is(err, ErrForged) || token != (Token{}) {
				t.Fatalf("%q: %v with generation %d", text, err, token.generation)
			}
			return
		}
		// Whoever gets past the MAC holds the one spelling of that token.
		if again := token.spell(rootOf(7)); again != text {
			t.Fatalf("%q passes for %q", text, again)
		}
	})
}
