package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"example.com/authserver/internal/secret"
)

// A master key is 32 bytes, however it is spelled, and an error never repeats it.
func FuzzParseMasterKey(f *testing.F) {
	raw := []byte("0123456789abcdef0123456789abcdef")
	for _, seed := range []string{
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		" " + base64.StdEncoding.EncodeToString(raw) + "\n", "", strings.Repeat("A", 43), strings.Repeat("ab", 32), "not a key", base64.StdEncoding.EncodeToString(raw[:31]),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseMasterKey(text)
		if err != nil {
			if key.Len() != 0 {
				t.Fatalf("%q is an error and a key", text)
			}
			if len(text) >= 16 && strings.Contains(err.Error(), text) {
				t.Fatalf("the error repeats %q", text)
			}
			return
		}
		if key.Len() != masterSize {
			t.Fatalf("%q is a key of %d bytes", text, key.Len())
		}
		again, err := ParseMasterKey(hex.EncodeToString(key.Reveal()))
		if err != nil || !bytes.Equal(again.Reveal(), key.Reveal()) {
			t.Fatalf("%q spelled in hexadecimal is another key: %v", text, err)
		}
	})
}

// What the store holds opens only as it was written: no byte of it, no end and
// no name may be another one.
func FuzzOpen(f *testing.F) {
	master := secret.NewBytes([]byte("0123456789abcdef0123456789abcdef"))
	material := secret.NewBytes([]byte("private"))
	sealed, err := seal(master, Sign, "kid", material) // another one in every process
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), byte(0), uint16(0), []byte{}, "kid")
	f.Add(uint16(0), byte(1), uint16(0), []byte{}, "kid")
	f.Add(uint16(12), byte(0x80), uint16(0), []byte{}, "kid")
	f.Add(uint16(0), byte(0), uint16(1), []byte{}, "kid")
	f.Add(uint16(0), byte(0), uint16(100), []byte{}, "")
	f.Add(uint16(0), byte(0), uint16(0), []byte{0}, "kid")
	f.Add(uint16(0), byte(0), uint16(0), []byte{}, "kid\x00")
	f.Fuzz(func(t *testing.T, at uint16, flip byte, cut uint16, more []byte, kid string) {
		given := bytes.Clone(sealed)
		given[int(at)%len(given)] ^= flip
		given = append(given[:len(given)-min(int(cut), len(given))], more...)
		whole := bytes.Equal(given, sealed) && kid == "kid"
		got, err := open(master, Sign, kid, given)
		if whole != (err == nil) || whole && !bytes.Equal(got.Reveal(), material.Reveal()) {
			t.Fatalf("%x under %q, in place of %x: %v", given, kid, sealed, err)
		}
	})
}
