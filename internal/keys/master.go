package keys

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"example.com/authserver/internal/secret"
)

// masterSize is the size of a master key in bytes: AES-256.
const masterSize = 32

// ErrMasterKey says that this node lacks a master key that the store names.
// The node must not start: it could neither sign nor refresh.
var ErrMasterKey = errors.New("a master key is missing")

// MasterKeys are the master keys of one node. Former ones only open what was
// sealed before; see Custodian.Rewrap.
type MasterKeys struct {
	Current secret.Bytes
	Former  []secret.Bytes
}

// IDOf names a master key without telling anything about it.
func IDOf(master secret.Bytes) MasterID {
	h := sha256.New()
	h.Write([]byte("authserver/master-key-id/1\x00"))
	h.Write(master.Reveal())
	return MasterID(h.Sum(nil)[:8])
}

// byID returns the key of that name.
func (m MasterKeys) byID(id MasterID) (secret.Bytes, bool) {
	for _, key := range append([]secret.Bytes{m.Current}, m.Former...) {
		if key.Len() == masterSize && IDOf(key) == id {
			return key, true
		}
	}
	return secret.Bytes{}, false
}

func (m MasterKeys) names() string {
	names := []string{}
	for _, key := range append([]secret.Bytes{m.Current}, m.Former...) {
		names = append(names, IDOf(key).String())
	}
	return strings.Join(names, ", ")
}

// Check returns an error that wraps ErrMasterKey when the store names a master
// key that is not among m: the store itself, or a sealed row.
func (m MasterKeys) Check(ring StoredRing) error {
	if m.Current.Len() != masterSize {
		return fmt.Errorf("%w: AUTHSERVER_MASTER_KEY has %d bytes, want %d", ErrMasterKey, m.Current.Len(), masterSize)
	}
	for _, former := range m.Former {
		if former.Len() != masterSize {
			return fmt.Errorf("%w: a key in AUTHSERVER_MASTER_KEY_FORMER has %d bytes, want %d", ErrMasterKey, former.Len(), masterSize)
		}
	}
	if !ring.MasterID.IsZero() {
		if _, ok := m.byID(ring.MasterID); !ok {
			return m.missing("the store's keys are sealed", ring.MasterID)
		}
	}
	for _, k := range ring.Keys {
		if len(k.Sealed) == 0 {
			continue
		}
		if _, ok := m.byID(k.MasterID); !ok {
			return m.missing("key "+k.Name().String()+" is sealed", k.MasterID)
		}
	}
	return nil
}

func (m MasterKeys) missing(what string, id MasterID) error {
	return fmt.Errorf("%w: %s under master key %s, this node has %s; give it that key in AUTHSERVER_MASTER_KEY, or in AUTHSERVER_MASTER_KEY_FORMER beside a new one",
		ErrMasterKey, what, id, m.names())
}

// sealsWith returns the master key for new material: the one that the store
// names, so that every node can open it while a new master key is rolled out,
// and the current one in a fresh store.
func (m MasterKeys) sealsWith(ring StoredRing) (secret.Bytes, error) {
	if ring.MasterID.IsZero() {
		return m.Current, nil
	}
	key, ok := m.byID(ring.MasterID)
	if !ok {
		return secret.Bytes{}, m.missing("the store's keys are sealed", ring.MasterID)
	}
	return key, nil
}

// ParseMasterKey reads 32 bytes as 64 hexadecimal digits or as base64 (either
// alphabet, padded or not); white space around it is ignored. Its errors tell
// what was seen, never the value.
func ParseMasterKey(text string) (secret.Bytes, error) {
	const hint = "want 32 random bytes as 64 hexadecimal digits or as base64; make one with: openssl rand -base64 32"
	trimmed := strings.TrimSpace(text)
	key, err := hex.DecodeString(trimmed)
	if err != nil {
		std := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(trimmed, "="))
		key, err = base64.RawStdEncoding.Strict().DecodeString(std)
	}
	switch {
	case trimmed == "":
		return secret.Bytes{}, fmt.Errorf("master key: it is empty; %s", hint)
	case err != nil || strings.ContainsAny(trimmed, "\r\n"):
		return secret.Bytes{}, fmt.Errorf("master key: %d characters that are neither hexadecimal nor base64; %s", len(trimmed), hint)
	case len(key) != masterSize:
		return secret.Bytes{}, fmt.Errorf("master key: %d characters that make %d bytes; %s", len(trimmed), len(key), hint)
	case strings.Count(string(key), string(key[:1])) == masterSize:
		return secret.Bytes{}, fmt.Errorf("master key: the same byte 32 times is no secret; %s", hint)
	}
	return secret.NewBytes(key), nil
}
