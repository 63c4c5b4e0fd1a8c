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

// What the store holds opens only if nothing in it was changed.
func FuzzOpen(f *testing.F) {
	master := secret.NewBytes([]byte("0123456789abcdef0123456789abcdef"))
	material := secret.NewBytes([]byte("private"))
	sealed, err := seal(master, Sign, "kid", material)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{sealed, {}, sealed[:12], sealed[:len(sealed)-1], append(bytes.Clone(sealed), 0), make([]byte, 100)} {
		f.Add(seed, "kid")
	}
	f.Add(sealed, "other")
	f.Fuzz(func(t *testing.T, given []byte, kid string) {
		got, err := open(master, Sign, kid, given)
		if whole := bytes.Equal(given, sealed) && kid == "kid"; whole != (err == nil) || whole && !bytes.Equal(got.Reveal(), material.Reveal()) {
			t.Fatalf("%x under %q: %v", given, kid, err)
		}
	})
}
