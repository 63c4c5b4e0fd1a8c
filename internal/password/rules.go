package password

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

// Rules say which new passwords are accepted: long enough, and nothing that
// an attacker tries first. There are none about which characters to use
// (NIST SP 800-63B section 3.1.1.2). The zero value of each field means its
// default.
type Rules struct {
	// MinCodePoints is the least length in code points; default and least 8.
	MinCodePoints int
	// MaxCodePoints is the greatest length in code points; default 256, at
	// least 64.
	MaxCodePoints int
	// Words must not be a password here: the issuer's host name, the name of
	// the company. "authserver" is always among them.
	Words []string
}

// The reasons in a refusal's fault.Reason.
const (
	TooShort  = "too_short"
	TooLong   = "too_long"
	Common    = "common"
	IsEmail   = "email"
	IsContext = "context"
)

// ownWord is always among the context words.
const ownWord = "authserver"

// minWord is from how many code points on a word means anything: short local
// parts begin too many honest passwords.
const minWord = 4

// DefaultRules returns the rules of an untouched configuration.
func DefaultRules() Rules { return Rules{MinCodePoints: 8, MaxCodePoints: 256} }

func (r Rules) withDefaults() Rules {
	d := DefaultRules()
	if r.MinCodePoints == 0 {
		r.MinCodePoints = d.MinCodePoints
	}
	if r.MaxCodePoints == 0 {
		r.MaxCodePoints = d.MaxCodePoints
	}
	return r
}

// Validate returns an error that names the first value out of range, what it
// is and what is accepted.
func (r Rules) Validate() error {
	r = r.withDefaults()
	if r.MinCodePoints < 8 || r.MinCodePoints > 64 {
		return fmt.Errorf("password rules: the least length is %d code points, want 8 to 64", r.MinCodePoints)
	}
	if r.MaxCodePoints < 64 || r.MaxCodePoints > 1024 {
		return fmt.Errorf("password rules: the greatest length is %d code points, want 64 to 1024", r.MaxCodePoints)
	}
	return nil
}

// Check returns nil, or a *fault.Fault with code PasswordTooWeak, words for
// the user in Detail and one of the reasons above in Reason. email is the
// user's own address, "" when there is none; words are refused beside Rules.Words.
//
// The password itself is taken as it comes. Comparisons ignore case and the
// form of composed characters; a byte that is not UTF-8 counts as one code
// point.
func (r Rules) Check(password secret.Text, email string, words ...string) error {
	r = r.withDefaults()
	p := password.Reveal()
	switch n := utf8.RuneCountInString(p); {
	case n < r.MinCodePoints:
		return weak(TooShort, "This password has %d characters; it needs at least %d.", n, r.MinCodePoints)
	case n > r.MaxCodePoints:
		return weak(TooLong, "This password has %d characters; at most %d are possible.", n, r.MaxCodePoints)
	}
	p = fold(p)
	if isCommon(p) {
		return weak(Common, "This password is one of the most common ones, which are guessed first.")
	}
	for _, word := range emailWords(email) {
		if r.isJust(p, word) {
			return weak(IsEmail, "This password is your e-mail address or a part of it, which is guessed first.")
		}
	}
	for _, word := range slices.Concat([]string{ownWord}, r.Words, words) {
		if r.isJust(p, fold(word)) {
			return weak(IsContext, "This password is the name of this service, which is guessed first.")
		}
	}
	return nil
}

func weak(reason, detail string, args ...any) error {
	return fault.New(fault.PasswordTooWeak, detail, args...).WithReason(reason)
}

// fold is how passwords and words are compared, never how they are hashed.
func fold(s string) string { return norm.NFC.String(strings.ToLower(s)) }

// emailWords returns the address, its local part, and that without a "+tag".
func emailWords(email string) []string {
	email = fold(email)
	local := email[:max(0, strings.LastIndexByte(email, '@'))]
	base, _, _ := strings.Cut(local, "+")
	return []string{email, local, base}
}

// isJust reports whether p is the word, alone or followed by digits and
// punctuation that would not be a password by themselves.
func (r Rules) isJust(p, word string) bool {
	if utf8.RuneCountInString(word) < minWord {
		return false
	}
	tail, found := strings.CutPrefix(p, word)
	return found && strings.TrimFunc(tail, isDecoration) == "" &&
		(utf8.RuneCountInString(tail) < r.MinCodePoints || isCommon(tail))
}

func isDecoration(c rune) bool {
	return unicode.IsDigit(c) || unicode.IsPunct(c) || unicode.IsSymbol(c) || unicode.IsSpace(c)
}
