package keys

import (
	"crypto"
	"encoding/base64"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"example.com/authserver/internal/spell"
)

// Compact signs a payload and returns the compact serialization of the JWS (RFC 7515
// section 7.1). It is what golang-jwt writes for the same header, without the maps and
// copies on the way there.
func Compact(typ, kid string, method jwt.SigningMethod, key crypto.Signer, payload []byte) ([]byte, error) {
	head := spell.String(append(make([]byte, 0, roomForHeader), `{"alg":`...), method.Alg())
	head = spell.String(append(head, `,"kid":`...), kid)
	head = append(spell.String(append(head, `,"typ":`...), typ), '}')
	b64 := base64.RawURLEncoding
	text := make([]byte, 0, b64.EncodedLen(len(head))+b64.EncodedLen(len(payload))+roomForSignature)
	text = append(b64.AppendEncode(text, head), '.')
	text = b64.AppendEncode(text, payload)
	signature, err := method.Sign(string(text), key)
	if err != nil {
		return nil, fmt.Errorf("sign a %s with %s: %w", typ, kid, err)
	}
	return b64.AppendEncode(append(text, '.'), signature), nil
}

// roomForSignature holds two dots and the signature of the algorithms in common use;
// those of RSA and ML-DSA are longer.
const roomForSignature = 2 + 128

// roomForHeader holds the header with the thumbprint of a key and any type.
const roomForHeader = 128
