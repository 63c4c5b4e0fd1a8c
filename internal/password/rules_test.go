package password

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

func TestRules(t *testing.T) {
	rules := Rules{Words: []string{"auth.example.com"}}
	const email = "Anna.Smith+login@Example.com"
	for _, c := range []struct{ password, email, want string }{
		{"xkqzvbw", email, TooShort},
		{"ééééééé", email, TooShort}, // 14 bytes, 7 code points
		{"\xff\xfe\xff\xfe\xff\xfe\xff", email, TooShort},
		{strings.Repeat("xy", 128) + "z", email, TooLong},
		{"password", email, Common},
		{"PassWord", email, Common},
		{"12345678", email, Common},
		{"anna.smith+login@example.com", email, IsEmail},
		{"ANNA.SMITH+LOGIN@EXAMPLE.COM", email, IsEmail},
		{"anna.smith+login", email, IsEmail},
		{"Anna.Smith", email, IsEmail},
		{"anna.smith2026!", email, IsEmail},
		{"anna.smith12345678", email, IsEmail}, // what follows is common itself
		{"rene\u0301-lefe\u0300vre", "Ren\u00e9-Lef\u00e8vre@example.com", IsEmail},
		{"authserver", email, IsContext},
		{"AuthServer123", email, IsContext},
		{"auth.example.com", email, IsContext},
		{"auth.example.com!!", email, IsContext},
		{"otherword1", email, IsContext}, // a word of this call

		{"xkqzvbwj", email, ""},
		{"éééééééé", email, ""},
		{"\xff\xfe\xff\xfe\xff\xfe\xff\xfe", email, ""},
		{"pass\x00\x00\x00\x00", email, ""},
		{"        ", email, ""},
		{strings.Repeat("ä", 256), email, ""},
		{"73914628", email, ""}, // digits alone, but rare ones
		{"correct horse battery staple", email, ""},
		{"anna.smith and her dog", email, ""},
		{"anna.smith9274016358", email, ""}, // ten rare digits are a password by themselves
		{"my authserver", email, ""},
		{"bob82746", "bob@example.com", ""}, // three letters mean nothing
		{"xkqzvbwj", "", ""},
		{"xkqzvbwj", "@", ""},
		{"xkqzvbwj", "no at sign", ""},
	} {
		err := rules.Check(secret.NewText(c.password), c.email, "otherword", "")
		reason := ""
		if err != nil {
			f := fault.Of(err)
			reason = f.Reason
			if f.Code != fault.PasswordTooWeak || f.Detail == "" {
				t.Errorf("%q: %v, want password_too_weak with a detail", c.password, err)
			}
		}
		if reason != c.want {
			t.Errorf("%q for %q: %q, want %q", c.password, c.email, reason, c.want)
		}
	}
}

func TestRules_refuseEveryCommonPassword(t *testing.T) {
	rules := DefaultRules()
	count, before := 0, []byte(nil)
	err := eachCommon(func(entry []byte) {
		count++
		if bytes.Compare(before, entry) >= 0 {
			t.Errorf("%q is not after %q", entry, before)
		}
		before = append(before[:0], entry...)
		if utf8.RuneCount(entry) < rules.MinCodePoints || fold(string(entry)) != string(entry) {
			t.Errorf("%q is too short or not folded", entry)
		}
		for _, p := range []string{string(entry), strings.ToUpper(string(entry))} {
			if fold(p) != string(entry) {
				continue // no lower case of its upper case
			}
			if err := rules.Check(secret.NewText(p), ""); fault.Of(err).Reason != Common {
				t.Errorf("%q: %v, want it refused as common", p, err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if count != 21651 {
		t.Errorf("%d entries, common.md says 21,651", count)
	}
}

func TestRules_validate(t *testing.T) {
	for _, c := range []struct {
		rules Rules
		want  string
	}{
		{Rules{}, ""},
		{DefaultRules(), ""},
		{Rules{MinCodePoints: 15, MaxCodePoints: 64}, ""},
		{Rules{MinCodePoints: 7}, "7 code points, want 8 to 64"},
		{Rules{MaxCodePoints: 63}, "63 code points, want 64 to 1024"},
		{Rules{MaxCodePoints: 5000}, "5000"},
	} {
		err := c.rules.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rules, err, c.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("pass\xffword", "a@b", "w\xfeord")
	f.Fuzz(func(t *testing.T, p, email, word string) {
		err := DefaultRules().Check(secret.NewText(p), email, word)
		if n := utf8.RuneCountInString(p); err == nil && (n < 8 || n > 256) {
			t.Fatalf("%q was accepted", p)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	rules, p := DefaultRules(), secret.NewText("correct horse battery staple")
	for b.Loop() {
		if err := rules.Check(p, "anna.smith@example.com", "auth.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
