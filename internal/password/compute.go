package password

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"

	"example.com/authserver/internal/secret"
)

// matches computes the hash of password under r's salt and scheme and
// compares in constant time. An error means that nothing could be computed,
// which after parse is a defect.
func (r record) matches(password string) (bool, error) {
	if r.scheme.kind == bcryptKind {
		// The source systems let bcrypt ignore what follows byte 72.
		err := bcrypt.CompareHashAndPassword(r.bcrypt, []byte(password[:min(len(password), 72)]))
		if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, nil
		}
		return err == nil, err
	}
	sum, err := r.derive(password)
	return err == nil && secret.Equal(sum, r.sum), err
}

func (r record) derive(password string) ([]byte, error) {
	a, n := r.scheme.args, len(r.sum)
	switch r.scheme.kind {
	case argon2id:
		return argon2.IDKey([]byte(password), r.salt, a[1], a[0], uint8(a[2]), uint32(n)), nil
	case argon2i:
		return argon2.Key([]byte(password), r.salt, a[1], a[0], uint8(a[2]), uint32(n)), nil
	case scryptKind:
		return scrypt.Key([]byte(password), r.salt, 1<<a[0], int(a[1]), int(a[2]), n)
	case firebaseScrypt:
		return r.deriveFirebase(password)
	case pbkdf2SHA1, pbkdf2SHA256, pbkdf2SHA512:
		return pbkdf2.Key(newDigest(r.scheme.kind), password, r.salt, int(a[0]), n)
	}
	return nil, fmt.Errorf("no way to compute %s", r.scheme)
}

// deriveFirebase is scrypt over salt and separator, whose output encrypts the
// project's signer key with AES-256-CTR from a zero counter; the ciphertext
// is the hash.
func (r record) deriveFirebase(password string) ([]byte, error) {
	salt := append(r.salt[:len(r.salt):len(r.salt)], r.separator...)
	key, err := scrypt.Key([]byte(password), salt, 1<<r.scheme.args[0], int(r.scheme.args[1]), 1, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	sum := make([]byte, len(r.signer))
	cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(sum, r.signer)
	return sum, nil
}

func newDigest(kind string) func() hash.Hash {
	switch kind {
	case pbkdf2SHA1:
		return sha1.New
	case pbkdf2SHA512:
		return sha512.New
	}
	return sha256.New
}

// dummy returns a record that nobody has and that costs what a real one of
// the scheme does. Its salt is fixed: the time does not depend on it.
func dummy(s Scheme) record {
	r := record{scheme: s, salt: make([]byte, ourSalt), sum: make([]byte, ourSum)}
	switch s.kind {
	case bcryptKind:
		r.bcrypt = fmt.Appendf(nil, "$2b$%02d$%053d", s.args[0], 0)
	case firebaseScrypt:
		r.signer, r.sum = make([]byte, maxSum), make([]byte, maxSum)
	case pbkdf2SHA1, pbkdf2SHA256, pbkdf2SHA512:
		r.sum = make([]byte, s.args[1])
	}
	return r
}

// encode writes an argon2id hash in PHC form.
func (r record) encode() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		r.scheme.args[0], r.scheme.args[1], r.scheme.args[2], b64.EncodeToString(r.salt), b64.EncodeToString(r.sum))
}
