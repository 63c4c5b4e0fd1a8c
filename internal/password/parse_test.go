package password

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"example.com/authserver/internal/secret"
)

const staple = "correct horse battery staple"

// imported are hashes made by other implementations: the reference argon2,
// passlib, Django, OpenSSL's scrypt, and the example that Firebase publishes.
var imported = []struct{ encoded, password, scheme string }{
	{"$argon2id$v=19$m=32,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$vZwN+xS6s2KhA3CsOzYjhQ", staple, "argon2id m=32,t=2,p=1"},
	{"$argon2id$v=19$m=64,t=1,p=1$ylmrVcpZixGCMMZYa61Vqg$NIlkW1hsLm/ZCUxVeeryCZcByoB2pDZZOjMnn0/o43c", staple, "argon2id m=64,t=1,p=1"},
	{"$argon2i$v=19$m=32,t=3,p=2$AIBwrvUew/h/LyXEuPdeyw$aPoZTtVqRdQ1ABLaY2q3NaMVZe1mrTss728HGbfoyKM", staple, "argon2i m=32,t=3,p=2"},
	{"$2a$04$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGmS", staple, "bcrypt cost=4"},
	{"$2b$04$/5y1SkUl8RkbVrnvnMhLrOyq0a44RhPpa/eg/BfvR3LitQjMFbxje", strings.Repeat("x", 72) + "tail", "bcrypt cost=4"},
	{"$2y$04$2t1wpuHiU8VqpH7B28o2XOu1RCSPeGkPCRY2USWCMqBA0Lhcxmswe", staple, "bcrypt cost=4"},
	{"$scrypt$ln=4,r=8,p=1$QEip9V7rHSNEKCWk1JpT6g$QxntG5v47ZO99aYF3GAB2AHNtMfRj1PduuCZdG35nZ0", staple, "scrypt ln=4,r=8,p=1"},
	{"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==", "user1password", "firebase-scrypt ln=14,r=8"},
	{"$firebase-scrypt$v=1,n=4,r=8,p=1,ss=,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC-ixf3L2lw==$SbV8EjnykWWW6NkutqP5jxagzl5Kz3TpyPXz50YY604SogO1-lSSfgbONHtnwtvgBHSL7KEI-NzWdhwzCFaZLA==", "user1password", "firebase-scrypt ln=4,r=8"},
	{"$pbkdf2$100$1fq/d.6dU4rRmnMOYQyBUA$FcIhu61GM1CW.M3lIFiFQNUPINI", staple, "pbkdf2-sha1 i=100,l=20"},
	{"$pbkdf2-sha256$100$e29NSSmFMMbYO0eotZby/g$4SQajLhrfGcrICxpFY.XoPjYI8I6PFWum4g/axO8.48", staple, "pbkdf2-sha256 i=100,l=32"},
	{"$pbkdf2-sha256$i=100$e29NSSmFMMbYO0eotZby/g$4SQajLhrfGcrICxpFY+XoPjYI8I6PFWum4g/axO8+48=", staple, "pbkdf2-sha256 i=100,l=32"},
	{"$pbkdf2-sha512$100$sxaiFOL8f4/xHkMoRcj5Hw$KZYG7BuVcPtZzgjJ0ZyEEcJNwDZolqurycix0eWZVJbKmHtZRc48b8Z2lVdMgnL5WmWFoqmgR7jTgzczIh0XsA", staple, "pbkdf2-sha512 i=100,l=64"},
	{"pbkdf2_sha256$100$QuBfX6udbsEA$DNVf/r+ZSQBn0btemHcbUpZL/qsHFZ5dnbcKazHTXZI=", staple, "pbkdf2-sha256 i=100,l=32"},
	{"pbkdf2_sha1$100$saltsalt$WprCsv4mePZ8kAJ5JEpGsjEP3yY=", staple, "pbkdf2-sha1 i=100,l=20"},
}

func TestVerify_hashesOfOtherSystems(t *testing.T) {
	h, err := New(DefaultPolicy(), nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range imported {
		scheme, err := Parse(c.encoded)
		if err != nil || scheme.String() != c.scheme {
			t.Errorf("Parse(%s) = %q, %v; want %q", c.encoded, scheme, err, c.scheme)
			continue
		}
		seen[scheme.Kind()] = true
		for given, want := range map[string]Verdict{c.password: {Match: true, Stale: true}, c.password[1:]: {}, "": {}} {
			if got, err := h.Verify(t.Context(), c.encoded, secret.NewText(given)); err != nil || got != want {
				t.Errorf("%s with %q: %+v, %v; want %+v", c.scheme, given, got, err, want)
			}
		}
	}
	for _, kind := range Kinds() {
		if !seen[kind] {
			t.Errorf("no hash of kind %s was tried", kind)
		}
	}
}

func TestVerify_importedBcryptIgnoresWhatFollowsByte72(t *testing.T) {
	h := small(t, nil)
	const encoded = "$2b$04$/5y1SkUl8RkbVrnvnMhLrOyq0a44RhPpa/eg/BfvR3LitQjMFbxje" // of 72 times x and "tail"
	x := strings.Repeat("x", 72)
	for given, want := range map[string]bool{x + "tail": true, x + "other": true, x: true, x[1:]: false} {
		got, err := h.Verify(t.Context(), encoded, secret.NewText(given))
		if err != nil || got.Match != want {
			t.Errorf("%d bytes: %+v, %v; want match %t", len(given), got, err, want)
		}
	}
}

func TestParse_refusals(t *testing.T) {
	const salt, sum = "MDEyMzQ1Njc4OWFiY2RlZg", "vZwN+xS6s2KhA3CsOzYjhQ"
	for encoded, want := range map[string]string{
		"":                       "empty",
		"letmein!":               "8 bytes that begin like no hash known",
		"$1$" + salt + "$" + sum: "$\"1\"$ is not supported",
		"$2x$04$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGmS":                "\"2x\"",
		"$2b$16$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGmS":                "bcrypt: cost is 16, want 4 to 15",
		"$2b$03$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGmS":                "bcrypt: cost is 3",
		"$2b$+4$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGmS":                "not a decimal number",
		"$2b$04$q0uJmi57q307D00xMZxG6ewn1H23qbDEsgMJmhh7xe/FSsLsuZGm":                 "59 characters, want 60",
		"$argon2d$v=19$m=64,t=1,p=1$" + salt + "$" + sum:                              "argon2d",
		"$argon2id$m=64,t=1,p=1$" + salt + "$" + sum:                                  "$v=19$",
		"$argon2id$v=16$m=64,t=1,p=1$" + salt + "$" + sum:                             "$v=19$",
		"$argon2id$v=19$m=4194304,t=1,p=1$" + salt + "$" + sum:                        "memory m in KiB is 4194304, want 8 to 262144",
		"$argon2id$v=19$m=262144,t=100,p=1$" + salt + "$" + sum:                       "memory times passes",
		"$argon2id$v=19$m=19456,t=4294967295,p=1$" + salt + "$" + sum:                 "passes t",
		"$argon2id$v=19$m=64,t=0,p=1$" + salt + "$" + sum:                             "passes t is 0",
		"$argon2id$v=19$m=64,t=1,p=0$" + salt + "$" + sum:                             "parallelism p is 0",
		"$argon2id$v=19$m=64,t=1,p=256$" + salt + "$" + sum:                           "parallelism p is 256",
		"$argon2id$v=19$m=7,t=1,p=1$" + salt + "$" + sum:                              "want 8",
		"$argon2id$v=19$m=64,t=1,p=1,data=AAAA$" + salt + "$" + sum:                   "4 parameters, want m, t, p",
		"$argon2id$v=19$t=1,m=64,p=1$" + salt + "$" + sum:                             "want m=",
		"$argon2id$v=19$m=064,t=1,p=1$" + salt + "$" + sum:                            "not a decimal number",
		"$argon2id$v=19$m=-64,t=1,p=1$" + salt + "$" + sum:                            "not a decimal number",
		"$argon2id$v=19$m=64,t=1,p=1$$" + sum:                                         "salt: 0 bytes",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + sum[:20]:                        "hash: 15 bytes, want 16 to 64",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + sum + "!":                       "not base64",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + sum[:4] + "\n" + sum[4:]:        "line break",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt:                                         "2 fields",
		"$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + sum + "$":                       "4 fields",
		"$scrypt$ln=20,r=8,p=1$" + salt + "$" + sum:                                   "memory in KiB is 1048576",
		"$scrypt$ln=63,r=8,p=1$" + salt + "$" + sum:                                   "ln is 63",
		"$scrypt$ln=17,r=8,p=16$" + salt + "$" + sum:                                  "N times r times p",
		"$pbkdf2-sha256$i=100000000$" + salt + "$" + sum:                              "rounds i is 100000000, want 1 to 4000000",
		"$pbkdf2$3000000$" + salt + "$" + strings.Repeat("A", 40):                     "rounds times blocks",
		"$pbkdf2-sha256$i=0$" + salt + "$" + sum:                                      "rounds i is 0",
		"pbkdf2_sha256$" + salt + "$" + sum:                                           "2 fields",
		"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==$" + salt + "$" + sum:                      "want the parameters",
		"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=" + sum + sum + "$" + salt + "$" + sum: "signer key",
		strings.Repeat("$", 2000):                                                     "2000 bytes: want at most 1024",
	} {
		scheme, err := Parse(encoded)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.80q) = %v, %v; want an error with %q", encoded, scheme, err, want)
			continue
		}
		if !scheme.IsZero() {
			t.Errorf("Parse(%.80q) returned scheme %v beside its error", encoded, scheme)
		}
		for _, part := range []string{salt, sum, "letmein", "q0uJmi57"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("the error repeats what is secret: %v", err)
			}
		}
	}
}

func TestParseScheme_readsWhatStringWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(kinds).Draw(t, "kind")
		s := Scheme{kind: k.name}
		for i := range k.params {
			s.args[i] = rapid.OneOf(rapid.Uint32Range(1, 64), rapid.Uint32()).Draw(t, k.params[i])
		}
		got, err := ParseScheme(s.String())
		if inBounds := s.check() == nil; inBounds != (err == nil) || inBounds && got != s {
			t.Fatalf("ParseScheme(%q) = %v, %v; in bounds: %t", s, got, err, inBounds)
		}
	})
	for _, text := range []string{"", "md5", "bcrypt", "bcrypt cost=", "bcrypt cost=012", "bcrypt cost=12,", "argon2id m=64,p=1,t=1", "bcrypt  cost=12"} {
		if s, err := ParseScheme(text); err == nil {
			t.Errorf("ParseScheme(%q) = %v", text, s)
		}
	}
}

func TestScheme_orderOfCost(t *testing.T) {
	today := DefaultPolicy().scheme()
	var present, want []Scheme
	for _, text := range []string{ // costliest first; the last two of nine do not fit beside today's
		"bcrypt cost=15", "argon2id m=262144,t=4,p=1", "pbkdf2-sha512 i=1000000,l=64", "scrypt ln=17,r=8,p=1",
		"pbkdf2-sha256 i=1200000,l=32", "firebase-scrypt ln=14,r=8", "argon2i m=4096,t=3,p=1",
		"bcrypt cost=4", "pbkdf2-sha1 i=1000,l=20",
	} {
		s, err := ParseScheme(text)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, s)
		present = append([]Scheme{s, s, today, {}}, present...) // duplicates, and the other way round
	}
	want = append([]Scheme{today}, want[:MaxPresent-1]...)
	if diff := cmp.Diff(want, equalWork(today, present), cmp.Comparer(func(a, b Scheme) bool { return a == b })); diff != "" {
		t.Fatalf("the work of a failure (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range imported {
		f.Add(c.encoded)
	}
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$$")
	f.Add("$2b$31$")
	f.Add("pbkdf2_sha256$1$$")
	f.Fuzz(func(t *testing.T, encoded string) {
		r, err := parse(encoded)
		if err != nil {
			if !r.scheme.IsZero() {
				t.Fatalf("a scheme beside the error %v", err)
			}
			return
		}
		s := r.scheme
		if again, err := ParseScheme(s.String()); err != nil || again != s {
			t.Fatalf("ParseScheme(%q) = %v, %v", s, again, err)
		}
		if s.memory() > MaxMemory || s.cost() > 4e9 {
			t.Fatalf("%s may take %d KiB and %d ns", s, s.memory(), s.cost())
		}
		if s.cost() < 1e6 && s.memory() < 1<<10 { // every hash that passes can be computed
			if _, err := r.matches("a password"); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	})
}
