package password

import "testing"

// A cost signature that is read is spelled the same again.
func FuzzParseScheme(f *testing.F) {
	for _, seed := range []string{"", "argon2id m=19456,t=2,p=1", "bcrypt cost=10", "bcrypt cost=010", "bcrypt cost=+10", "scrypt ln=15,r=8,p=1", "argon2id", "argon2id p=1,m=19456,t=2", "x y=1"} {
		f.Add(seed)
	}
	f.Add(DefaultPolicy().scheme().String())
	f.Fuzz(func(t *testing.T, text string) {
		scheme, err := ParseScheme(text)
		if err == nil && scheme.String() != text {
			t.Fatalf("%q was read and is spelled %q", text, scheme)
		}
	})
}
