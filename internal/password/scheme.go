package password

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The kinds of hashes that can be verified. Only argon2id is ever made.
const (
	argon2id       = "argon2id"
	argon2i        = "argon2i"
	bcryptKind     = "bcrypt"
	scryptKind     = "scrypt"
	firebaseScrypt = "firebase-scrypt"
	pbkdf2SHA1     = "pbkdf2-sha1"
	pbkdf2SHA256   = "pbkdf2-sha256"
	pbkdf2SHA512   = "pbkdf2-sha512"
)

// kinds holds, in the order of Kinds, the names of each kind's parameters.
var kinds = []struct {
	name   string
	params []string
}{
	{argon2id, []string{"m", "t", "p"}},
	{argon2i, []string{"m", "t", "p"}},
	{bcryptKind, []string{"cost"}},
	{scryptKind, []string{"ln", "r", "p"}},
	{firebaseScrypt, []string{"ln", "r"}},
	{pbkdf2SHA1, []string{"i", "l"}},
	{pbkdf2SHA256, []string{"i", "l"}},
	{pbkdf2SHA512, []string{"i", "l"}},
}

// Kinds lists every kind of hash that can be verified: the closed set of what
// Scheme.Kind and Observer.Hashed name.
func Kinds() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return names
}

func paramsOf(kind string) []string {
	for _, k := range kinds {
		if k.name == kind {
			return k.params
		}
	}
	return nil
}

// Scheme is what determines the work of a hash: its kind and cost parameters,
// without salt and hash. It is comparable, may be logged and stored, and is
// within bounds: only Parse, ParseScheme and a Hasher make one.
type Scheme struct {
	kind string
	args [3]uint32
}

// String returns for example "argon2id m=19456,t=2,p=1" or "bcrypt cost=12";
// l is the length of a PBKDF2 hash in bytes, which multiplies its cost.
func (s Scheme) String() string {
	var b strings.Builder
	b.WriteString(s.kind)
	for i, name := range paramsOf(s.kind) {
		b.WriteByte(" ,"[min(i, 1)])
		fmt.Fprintf(&b, "%s=%d", name, s.args[i])
	}
	return b.String()
}

// Kind returns the name of the algorithm alone, one of Kinds.
func (s Scheme) Kind() string { return s.kind }

// IsZero reports whether s is no scheme at all.
func (s Scheme) IsZero() bool { return s == Scheme{} }

// MarshalText implements encoding.TextMarshaler; see String.
func (s Scheme) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see ParseScheme.
func (s *Scheme) UnmarshalText(text []byte) error {
	parsed, err := ParseScheme(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// ParseScheme reads what String writes, and nothing else. It refuses a scheme
// out of bounds, as Parse does.
func ParseScheme(text string) (Scheme, error) {
	kind, params, _ := strings.Cut(text, " ")
	names, values := paramsOf(kind), strings.Split(params, ",")
	if len(names) == 0 || len(names) != len(values) {
		return Scheme{}, fmt.Errorf("password scheme %.60q: want one like %q", text, defaultScheme)
	}
	s := Scheme{kind: kind}
	for i, name := range names {
		digits, found := strings.CutPrefix(values[i], name+"=")
		n, err := number(digits)
		if !found || err != nil {
			return Scheme{}, fmt.Errorf("password scheme %.60q: want one like %q", text, defaultScheme)
		}
		s.args[i] = n
	}
	return s, s.check()
}

// number reads a decimal number of one spelling: no sign, no leading zero.
func number(digits string) (uint32, error) {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, fmt.Errorf("%.20q is not a decimal number", digits)
	}
	return uint32(n), nil
}

// What one hash may cost at most. An imported hash is input from outside, and
// every login of its owner pays for it: the bounds admit what other systems
// use (libsodium's "moderate" is 256 MiB, Django 1.2 million rounds) and keep
// the dearest at two or three seconds of one core.
const (
	maxScryptWork  = 1 << 22 // N times r times p
	maxBcryptCost  = 15
	maxPBKDF2Work  = 4_000_000 // rounds times blocks of output
	maxParallelism = 16
)

// check returns an error that names the parameter, its value and what is
// accepted.
func (s Scheme) check() error {
	between := func(name string, got, low, high uint64) error {
		if got < low || got > high {
			return fmt.Errorf("%s: %s is %d, want %d to %d", s.kind, name, got, low, high)
		}
		return nil
	}
	a, b, c := uint64(s.args[0]), uint64(s.args[1]), uint64(s.args[2])
	switch s.kind {
	case argon2id, argon2i:
		return cmp.Or(
			between("parallelism p", c, 1, maxParallelism),
			between("memory m in KiB", a, 8*c, MaxMemory),
			between("passes t", b, 1, MaxWork),
			between("memory times passes", a*b, 1, MaxWork),
		)
	case bcryptKind:
		return between("cost", a, 4, maxBcryptCost)
	case scryptKind, firebaseScrypt:
		if s.kind == firebaseScrypt {
			c = 1
		}
		if err := cmp.Or(between("ln", a, 1, 20), between("r", b, 1, 32), between("p", c, 1, maxParallelism)); err != nil {
			return err
		}
		return cmp.Or(
			between("memory in KiB", s.memory(), 0, MaxMemory),
			between("N times r times p", b*c<<a, 1, maxScryptWork),
		)
	case pbkdf2SHA1, pbkdf2SHA256, pbkdf2SHA512:
		return cmp.Or(
			between("length of the hash", b, minSum, maxSum),
			between("rounds i", a, 1, maxPBKDF2Work),
			between("rounds times blocks of output", a*s.blocks(), 1, maxPBKDF2Work),
		)
	}
	return fmt.Errorf("password scheme of unknown kind %.20q", s.kind)
}

// blocks returns how often PBKDF2 goes through all its rounds.
func (s Scheme) blocks() uint64 {
	size := uint64(newDigest(s.kind)().Size())
	return (uint64(s.args[1]) + size - 1) / size
}

// memory returns about how many KiB one computation allocates.
func (s Scheme) memory() uint64 {
	switch s.kind {
	case argon2id, argon2i:
		return uint64(s.args[0])
	case scryptKind, firebaseScrypt:
		return (uint64(s.args[1]) << s.args[0]) / 8 // 128 * r * N bytes, RFC 7914 section 2
	}
	return 0
}

// cost returns about how many nanoseconds one computation takes on a core of
// 2026. It only ranks schemes.
func (s Scheme) cost() uint64 {
	a, b, c := uint64(s.args[0]), uint64(s.args[1]), uint64(s.args[2])
	switch s.kind {
	case argon2id, argon2i:
		return 700 * a * b
	case bcryptKind:
		return 52_000 << a
	case scryptKind:
		return 290 * b * c << a
	case firebaseScrypt:
		return 290 * b << a
	case pbkdf2SHA512:
		return 390 * a * s.blocks()
	case pbkdf2SHA1, pbkdf2SHA256:
		return 155 * a * s.blocks()
	}
	return 0
}

// MaxPresent is how many distinct schemes a failing VerifyEqual computes.
const MaxPresent = 8

// equalWork returns the schemes that are computed for every failure: today's
// and the costliest of those present, at most MaxPresent in all. Those left
// out are the cheapest, so they are also what tells the least by its time.
func equalWork(today Scheme, present []Scheme) []Scheme {
	others := make([]Scheme, 0, len(present))
	for _, s := range present {
		if s != today && !s.IsZero() && !slices.Contains(others, s) {
			others = append(others, s)
		}
	}
	slices.SortFunc(others, func(a, b Scheme) int {
		return cmp.Or(cmp.Compare(b.cost(), a.cost()), strings.Compare(a.String(), b.String()))
	})
	return append([]Scheme{today}, others[:min(len(others), MaxPresent-1)]...)
}
