package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Sizes in bytes. A hash shorter than minSum proves too little.
const (
	ourSalt    = 16
	ourSum     = 32
	minSum     = 16
	maxSum     = 64
	maxSalt    = 128
	maxEncoded = 1024
)

// record is one parsed hash.
type record struct {
	scheme Scheme
	salt   []byte
	sum    []byte

	bcrypt    []byte // the whole encoded hash, as x/crypto/bcrypt wants it
	separator []byte // Firebase: appended to the salt
	signer    []byte // Firebase: what the derived key encrypts
}

// Parse returns the scheme of an encoded hash, or an error that says what was
// seen and what is expected. It computes nothing and costs microseconds, so
// an import can try a million hashes before it writes one. Neither the error
// nor the scheme contains anything of salt or hash.
func Parse(encoded string) (Scheme, error) {
	r, err := parse(encoded)
	return r.scheme, err
}

func parse(encoded string) (record, error) {
	if len(encoded) > maxEncoded {
		return record{}, fmt.Errorf("password hash of %d bytes: want at most %d", len(encoded), maxEncoded)
	}
	r, err := parseKind(encoded)
	if err == nil {
		err = r.scheme.check()
	}
	if err != nil {
		return record{}, fmt.Errorf("password hash: %w", err)
	}
	return r, nil
}

func parseKind(encoded string) (record, error) {
	parts := strings.Split(encoded, "$")
	if parts[0] != "" {
		switch parts[0] {
		case "pbkdf2_sha256":
			return parseDjango(pbkdf2SHA256, parts[1:])
		case "pbkdf2_sha1":
			return parseDjango(pbkdf2SHA1, parts[1:])
		}
		// It may be somebody's password in clear: nothing of it is repeated.
		return record{}, fmt.Errorf("%d bytes that begin like no hash known; want $argon2id$, $argon2i$, $2b$, $scrypt$, $fbscrypt$, $pbkdf2-sha256$ or pbkdf2_sha256$", len(encoded))
	}
	if len(parts) < 2 {
		return record{}, errors.New("it is empty")
	}
	kind, parts := parts[1], parts[2:]
	switch kind {
	case "argon2id", "argon2i":
		return parseArgon2(kind, parts)
	case "2a", "2b", "2y":
		return parseBcrypt(encoded)
	case "scrypt":
		return parsePHC(scryptKind, parts)
	case "fbscrypt", "firebase-scrypt":
		return parseFirebase(parts)
	case "pbkdf2", "pbkdf2-sha1":
		return parsePBKDF2(pbkdf2SHA1, parts)
	case "pbkdf2-sha256":
		return parsePBKDF2(pbkdf2SHA256, parts)
	case "pbkdf2-sha512":
		return parsePBKDF2(pbkdf2SHA512, parts)
	}
	return record{}, fmt.Errorf("kind $%.20q$ is not supported; want argon2id, argon2i, 2a, 2b, 2y, scrypt, fbscrypt, pbkdf2, pbkdf2-sha256 or pbkdf2-sha512", kind)
}

func parseArgon2(kind string, parts []string) (record, error) {
	if len(parts) == 0 || parts[0] != "v=19" {
		return record{}, fmt.Errorf("%s: want version $v=19$ after the kind", kind)
	}
	return parsePHC(kind, parts[1:])
}

// parsePHC reads $params$salt$hash with exactly the kind's parameters, in
// their order.
func parsePHC(kind string, parts []string) (record, error) {
	if len(parts) != 3 {
		return record{}, fmt.Errorf("%s: %d fields after the kind, want parameters, salt and hash", kind, len(parts))
	}
	r := record{scheme: Scheme{kind: kind}}
	names, values := paramsOf(kind), strings.Split(parts[0], ",")
	if len(values) != len(names) {
		return record{}, fmt.Errorf("%s: %d parameters, want %s", kind, len(values), strings.Join(names, ", "))
	}
	for i, name := range names {
		n, err := param(values[i], name)
		if err != nil {
			return record{}, fmt.Errorf("%s: %w", kind, err)
		}
		r.scheme.args[i] = n
	}
	return r.withSaltAndSum(parts[1], parts[2])
}

func parsePBKDF2(kind string, parts []string) (record, error) {
	if len(parts) != 3 {
		return record{}, fmt.Errorf("%s: %d fields after the kind, want rounds, salt and hash", kind, len(parts))
	}
	rounds, err := number(strings.TrimPrefix(parts[0], "i="))
	if err != nil {
		return record{}, fmt.Errorf("%s: rounds: %w", kind, err)
	}
	r, err := record{scheme: Scheme{kind: kind}}.withSaltAndSum(parts[1], parts[2])
	r.scheme.args = [3]uint32{rounds, uint32(len(r.sum))}
	return r, err
}

// parseDjango reads rounds$salt$hash, where the salt is taken as it stands.
func parseDjango(kind string, parts []string) (record, error) {
	if len(parts) != 3 {
		return record{}, fmt.Errorf("Django %s: %d fields after the kind, want rounds, salt and hash", kind, len(parts))
	}
	return parsePBKDF2(kind, []string{parts[0], base64.RawStdEncoding.EncodeToString([]byte(parts[1])), parts[2]})
}

// parseFirebase reads $v=1,n=,r=,p=1,ss=,sk=$salt$hash.
func parseFirebase(parts []string) (record, error) {
	const kind = firebaseScrypt
	if len(parts) != 3 {
		return record{}, fmt.Errorf("%s: %d fields after the kind, want parameters, salt and hash", kind, len(parts))
	}
	values := strings.Split(parts[0], ",")
	if len(values) != 6 || values[0] != "v=1" || values[3] != "p=1" {
		return record{}, fmt.Errorf("%s: want the parameters v=1,n=,r=,p=1,ss=,sk= in this order", kind)
	}
	ln, err := param(values[1], "n")
	if err != nil {
		return record{}, fmt.Errorf("%s: %w", kind, err)
	}
	rounds, err := param(values[2], "r")
	if err != nil {
		return record{}, fmt.Errorf("%s: %w", kind, err)
	}
	r, err := record{scheme: Scheme{kind: kind, args: [3]uint32{ln, rounds}}}.withSaltAndSum(parts[1], parts[2])
	if err != nil {
		return record{}, err
	}
	separator, hasSeparator := strings.CutPrefix(values[4], "ss=")
	signer, hasSigner := strings.CutPrefix(values[5], "sk=")
	if !hasSeparator || !hasSigner {
		return record{}, fmt.Errorf("%s: want the parameters v=1,n=,r=,p=1,ss=,sk= in this order", kind)
	}
	if r.separator, err = decode(separator, 0, maxSalt); err != nil {
		return record{}, fmt.Errorf("%s: salt separator: %w", kind, err)
	}
	if r.signer, err = decode(signer, minSum, maxSum); err != nil {
		return record{}, fmt.Errorf("%s: signer key: %w", kind, err)
	}
	if len(r.signer) != len(r.sum) {
		return record{}, fmt.Errorf("%s: a hash of %d bytes under a signer key of %d, want equal lengths", kind, len(r.sum), len(r.signer))
	}
	return r, nil
}

// parseBcrypt reads $2b$12$ and 53 characters of bcrypt's own base64. The
// letter tells which bugs the source system had fixed; for the bytes of real
// passwords a, b and y are the same function. x marks hashes made with one of
// the bugs, and is refused above.
func parseBcrypt(encoded string) (record, error) {
	const digits = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(encoded) != 60 || encoded[6] != '$' || strings.Trim(encoded[7:], digits) != "" {
		return record{}, fmt.Errorf("bcrypt: %d characters, want 60 like $2b$12$ and 53 of ./A-Za-z0-9", len(encoded))
	}
	cost, err := number(strings.TrimPrefix(encoded[4:6], "0"))
	if err != nil {
		return record{}, fmt.Errorf("bcrypt: cost: %w", err)
	}
	return record{scheme: Scheme{kind: bcryptKind, args: [3]uint32{cost}}, bcrypt: []byte(encoded)}, nil
}

func (r record) withSaltAndSum(salt, sum string) (record, error) {
	var err error
	if r.salt, err = decode(salt, 1, maxSalt); err != nil {
		return record{}, fmt.Errorf("%s: salt: %w", r.scheme.kind, err)
	}
	if r.sum, err = decode(sum, minSum, maxSum); err != nil {
		return record{}, fmt.Errorf("%s: hash: %w", r.scheme.kind, err)
	}
	return r, nil
}

func param(text, name string) (uint32, error) {
	digits, found := strings.CutPrefix(text, name+"=")
	if !found {
		return 0, fmt.Errorf("parameter %.20q, want %s=", text, name)
	}
	n, err := number(digits)
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %w", name, err)
	}
	return n, nil
}

var otherAlphabets = strings.NewReplacer("-", "+", "_", "/", ".", "+")

// decode reads base64 of any of the alphabets in use, padded or not.
func decode(text string, low, high int) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which encoding/base64 would skip
		return nil, errors.New("a line break in base64")
	}
	b, err := base64.RawStdEncoding.DecodeString(otherAlphabets.Replace(strings.TrimRight(text, "=")))
	if err != nil {
		return nil, errors.New("not base64") // the cause would quote a position in a secret
	}
	if len(b) < low || len(b) > high {
		return nil, fmt.Errorf("%d bytes, want %d to %d", len(b), low, high)
	}
	return b, nil
}
