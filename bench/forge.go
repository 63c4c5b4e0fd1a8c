package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
)

// A refresh token is asrt_ and base64url of version(1) | key(1) | family id(16)
// | generation(4) | family secret(16) | MAC(16); the MAC is HMAC-SHA-256 over
// the label asrt/1 and what stands before it, cut to 16 bytes.
const (
	tokenPrefix = "asrt_"
	tokenLabel  = "asrt/1"
	tokenBytes  = 54
	tokenLength = len(tokenPrefix) + tokenBytes/3*4
)

// root is a refresh root key with its number.
type root struct {
	number uint8
	key    []byte
}

// forge makes refresh tokens the way the server should. It is not safe for
// concurrent use.
type forge struct {
	root root
	mac  hash.Hash
	raw  [tokenBytes]byte
	sum  [sha256.Size]byte
}

func newForge(r root) *forge { return &forge{root: r, mac: hmac.New(sha256.New, r.key)} }

// spell writes the token of a family at a generation into to, which has
// tokenLength bytes.
func (f *forge) spell(to []byte, family, secret [16]byte, generation uint32) {
	raw := f.raw[:]
	raw[0], raw[1] = 1, f.root.number
	copy(raw[2:], family[:])
	binary.BigEndian.PutUint32(raw[18:], generation)
	copy(raw[22:], secret[:])
	f.mac.Reset()
	f.mac.Write([]byte(tokenLabel))
	f.mac.Write(raw[:38])
	copy(raw[38:], f.mac.Sum(f.sum[:0]))
	copy(to, tokenPrefix)
	base64.RawURLEncoding.Encode(to[len(tokenPrefix):], raw)
}
