package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"example.com/authserver/internal/secret"
)

// seal returns nonce || AES-256-GCM(material) under master, bound to purpose
// and kid: a sealed key moved to another row does not open. The nonce is
// random; a ring seals a few keys a day, far from the 2^32 that NIST SP
// 800-38D section 8.3 allows.
func seal(master secret.Bytes, purpose Purpose, kid string, material secret.Bytes) ([]byte, error) {
	aead, err := newAEAD(master)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+material.Len()+aead.Overhead())
	rand.Read(nonce) // never fails: it ends the program instead
	return aead.Seal(nonce, nonce, material.Reveal(), sealLabel(purpose, kid)), nil
}

// open is the way back. Its error never tells more than that it did not open.
func open(master secret.Bytes, purpose Purpose, kid string, sealed []byte) (secret.Bytes, error) {
	aead, err := newAEAD(master)
	if err != nil {
		return secret.Bytes{}, err
	}
	if len(sealed) < aead.NonceSize()+aead.Overhead() {
		return secret.Bytes{}, fmt.Errorf("%d sealed bytes are too few", len(sealed))
	}
	nonce, body := sealed[:aead.NonceSize()], sealed[aead.NonceSize():]
	material, err := aead.Open(nil, nonce, body, sealLabel(purpose, kid))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("the sealed key was altered, or belongs to another row: %w", err)
	}
	return secret.NewBytes(material), nil
}

func newAEAD(master secret.Bytes) (cipher.AEAD, error) {
	if master.Len() != masterSize {
		return nil, fmt.Errorf("%w: it has %d bytes, want %d", ErrMasterKey, master.Len(), masterSize)
	}
	block, err := aes.NewCipher(master.Reveal())
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealLabel(purpose Purpose, kid string) []byte {
	return []byte("authserver/sealed-key/1\x00" + string(purpose) + "\x00" + kid)
}

// open returns the material of a row under whichever master key it names.
func (m MasterKeys) open(k StoredKey) (secret.Bytes, error) {
	master, ok := m.byID(k.MasterID)
	if !ok {
		return secret.Bytes{}, m.missing("key "+k.Name().String()+" is sealed", k.MasterID)
	}
	material, err := open(master, k.Purpose, k.KID, k.Sealed)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("open key %s under master key %s: %w", k.Name(), k.MasterID, err)
	}
	return material, nil
}

// rewrap seals a row's material under another master key.
func (m MasterKeys) rewrap(k StoredKey, to secret.Bytes) (StoredKey, error) {
	material, err := m.open(k)
	if err != nil {
		return k, err
	}
	k.Sealed, err = seal(to, k.Purpose, k.KID, material)
	k.MasterID = IDOf(to)
	return k, err
}
