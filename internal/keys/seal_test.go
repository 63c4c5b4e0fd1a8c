package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"example.com/authserver/internal/secret"
)

func TestSeal_opensOnlyUnderItsMasterPurposeAndKID(t *testing.T) {
	master, material := secret.Random(32), secret.Random(138)
	sealed, err := seal(master, Sign, "kid", material)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := open(master, Sign, "kid", sealed); err != nil || !got.Equal(material) {
		t.Fatalf("it does not open: %v", err)
	}
	again, _ := seal(master, Sign, "kid", material)
	if bytes.Equal(sealed, again) || bytes.Equal(sealed[:12], again[:12]) {
		t.Fatal("the nonce repeats")
	}
	if bytes.Contains(sealed, material.Reveal()[:16]) {
		t.Fatal("the key stands in what is sealed")
	}
	for name, try := range map[string]func() (secret.Bytes, error){
		"another master":  func() (secret.Bytes, error) { return open(secret.Random(32), Sign, "kid", sealed) },
		"another purpose": func() (secret.Bytes, error) { return open(master, Refresh, "kid", sealed) },
		"another kid":     func() (secret.Bytes, error) { return open(master, Sign, "kie", sealed) },
		"cut short":       func() (secret.Bytes, error) { return open(master, Sign, "kid", sealed[:27]) },
		"a short master":  func() (secret.Bytes, error) { return open(secret.Random(16), Sign, "kid", sealed) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("it opens with %s", name)
		}
	}
	for i := range sealed {
		bent := bytes.Clone(sealed)
		bent[i] ^= 1
		if _, err := open(master, Sign, "kid", bent); err == nil {
			t.Fatalf("it opens with byte %d changed", i)
		}
	}
}

func TestUnlock_refusesARowThatNamesAnotherKey(t *testing.T) {
	m := masters()
	s := smith{m, 2048}
	k, err := s.make(StoredRing{}, StoredKey{Purpose: Sign, Algorithm: ES256, Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.unlock(Life{Key: k}); err != nil {
		t.Fatal(err)
	}
	material, err := m.open(k)
	if err != nil {
		t.Fatal(err)
	}
	k.KID = "mine" // who holds the master key could; then kid and thumbprint disagree
	k.Sealed, _ = seal(m.Current, Sign, k.KID, material)
	if _, err := m.unlock(Life{Key: k}); err == nil {
		t.Error("a kid that is no thumbprint passes")
	}
	k.Algorithm = EdDSA
	if _, err := m.unlock(Life{Key: k}); err == nil {
		t.Error("an EC key passes as EdDSA")
	}
}

func TestParseMasterKey_readsWhatPeopleHave(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb, 0xff, 1, 2}, 8)
	for _, text := range []string{
		hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)),
		base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
		"  " + base64.StdEncoding.EncodeToString(key) + "\r\n",
	} {
		got, err := ParseMasterKey(text)
		if err != nil || !bytes.Equal(got.Reveal(), key) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseMasterKey_saysWhatItSawAndNeverTheValue(t *testing.T) {
	long := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s3cr3t-x"), 5))
	for text, want := range map[string]string{
		"":                                   "it is empty",
		"  \n":                               "it is empty",
		"correct horse battery":              "21 characters that are neither",
		long:                                 "56 characters that make 40 bytes",
		strings.Repeat("00", 32):             "the same byte",
		hex.EncodeToString(make([]byte, 16)): "32 characters that make 16 bytes",
		hex.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))[:40] + "\n" + strings.Repeat("0", 24): "neither",
	} {
		_, err := ParseMasterKey(text)
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "openssl rand -base64 32") {
			t.Errorf("%q: %v, want %q and the command", text, err, want)
		}
		if trimmed := strings.TrimSpace(text); trimmed != "" && strings.Contains(err.Error(), trimmed) {
			t.Errorf("the error shows the value: %v", err)
		}
	}
}

func TestMasterKeys_checkNamesWhatIsMissing(t *testing.T) {
	mine, theirs := secret.Random(32), secret.Random(32)
	ring := StoredRing{Revision: 1, MasterID: IDOf(theirs)}
	err := MasterKeys{Current: mine}.Check(ring) // a ring without rows is enough
	if !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), IDOf(theirs).String()) || !strings.Contains(err.Error(), IDOf(mine).String()) {
		t.Errorf("the store names another key: %v", err)
	}
	both := MasterKeys{Current: mine, Former: []secret.Bytes{theirs}}
	if err := both.Check(ring); err != nil {
		t.Errorf("as a former key it is enough: %v", err)
	}
	ring.MasterID = IDOf(mine)
	ring.Keys = []StoredKey{{Purpose: Sign, Algorithm: ES256, Number: 3, Sealed: []byte{1}, MasterID: IDOf(theirs)}}
	if err := (MasterKeys{Current: mine}).Check(ring); !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "sign ES256 3") {
		t.Errorf("a row names another key: %v", err)
	}
	ring.Keys[0] = destroyed(ring.Keys[0])
	if err := (MasterKeys{Current: mine}).Check(ring); err != nil {
		t.Errorf("an erased row needs no key: %v", err)
	}
	if err := (MasterKeys{Current: secret.Random(31)}).Check(StoredRing{}); !errors.Is(err, ErrMasterKey) {
		t.Errorf("31 bytes: %v", err)
	}
}

func TestPolicy_validate(t *testing.T) {
	if err := DefaultPolicy().Validate(); err != nil {
		t.Fatal(err)
	}
	seconds := DefaultPolicy()
	seconds.RotateEvery, seconds.Lead, seconds.MaxAge, seconds.TokenLife = 4e9, 2e9, 1e9, 1e9
	if err := seconds.Validate(); err != nil {
		t.Errorf("seconds are how people try things out: %v", err)
	}
	for want, spoil := range map[string]func(*Policy){
		"AUTHSERVER_KEY_LEAD is 19m59s; want at least twice AUTHSERVER_JWKS_MAX_AGE (2 x 10m0s = 20m0s)": func(p *Policy) { p.Lead = 1199e9 },
		"AUTHSERVER_JWKS_MAX_AGE is 0s": func(p *Policy) { p.MaxAge = 0 },
		"AUTHSERVER_KEY_ROTATE_EVERY is 30s; want at least AUTHSERVER_KEY_LEAD (24h0m0s)": func(p *Policy) { p.RotateEvery = 30e9 },
		"AUTHSERVER_KEY_ALGORITHMS is empty":                                              func(p *Policy) { p.Algorithms = nil },
		`AUTHSERVER_KEY_ALGORITHMS names "HS256"`:                                         func(p *Policy) { p.Algorithms = []Algorithm{ES256, "HS256"} },
		"AUTHSERVER_KEY_ALGORITHMS names ES256 twice":                                     func(p *Policy) { p.Algorithms = []Algorithm{ES256, ES256} },
		"AUTHSERVER_KEY_RSA_BITS is 1024":                                                 func(p *Policy) { p.RSABits = 1024 },
		"AUTHSERVER_ACCESS_TTL":                                                           func(p *Policy) { p.TokenLife = 0 },
	} {
		p := DefaultPolicy()
		spoil(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPolicy_cacheControl(t *testing.T) {
	p := DefaultPolicy()
	if got, want := p.cacheControl(), "public, max-age=600, stale-while-revalidate=600, stale-if-error=86400"; got != want {
		t.Errorf("default: %s, want %s", got, want)
	}
	p.Lead = 25 * 60e9 // no room for a shared cache that revalidates late
	if got, want := p.cacheControl(), "public, max-age=600, stale-while-revalidate=300, stale-if-error=1500"; got != want {
		t.Errorf("short lead: %s, want %s", got, want)
	}
}
