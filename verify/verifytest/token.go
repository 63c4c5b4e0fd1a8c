package verifytest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"time"
)

// Token describes an access token. The zero value, but for Audience, is a good
// one; every field makes it a particular one, or a bad one.
type Token struct {
	Audience  string // aud; a verifier refuses a token without its own
	Subject   string // sub; default "ada"
	SessionID string // sid; default "session of " and the subject
	ClientID  string // client_id; default "first-party"
	Scope     string // scope, separated by spaces
	Roles     []string

	IssuedAt time.Time     // iat; default now, in whole seconds
	Life     time.Duration // exp is IssuedAt and this; default 10 min

	// Expired: it was issued two hours ago and died one hour ago.
	Expired bool
	// Forged: it names the key of the issuer, and another one signed it.
	Forged bool
	// Algorithm is what the header says in place of ES256. The signature stays
	// the same, but for HS256: that is by the public key as the secret.
	Algorithm string
	// Type is `typ` in place of at+jwt.
	Type string
	// KeyID is `kid` in place of the name of the key that signs.
	KeyID string
	// Header and Claims replace members or add some; a nil value takes one away.
	Header, Claims map[string]any
}

// Mint returns the token t in compact serialization, signed with the active
// key.
//
// Without IssuedAt, a token about what was revoked is one that was issued after
// that, as the server does it: its iat is that of the revocation at least, up
// to a second from now.
func (i *Issuer) Mint(t Token) string {
	i.mu.Lock()
	signer := i.keys[0]
	setDefault(&t.Subject, "ada")
	setDefault(&t.SessionID, "session of "+t.Subject)
	setDefault(&t.ClientID, "first-party")
	setDefault(&t.Life, tokenLife)
	if t.IssuedAt.IsZero() {
		floor := i.feed.floor(t, i.url)
		t.IssuedAt = time.Unix(max(time.Now().Unix(), floor), 0)
	}
	i.mu.Unlock()
	if t.Expired {
		t.IssuedAt = time.Now().Add(-2 * time.Hour)
		t.Life = time.Hour
	}
	kid := signer.id
	setDefault(&t.KeyID, kid)
	setDefault(&t.Type, "at+jwt")
	setDefault(&t.Algorithm, "ES256")
	header := changed(map[string]any{"alg": t.Algorithm, "typ": t.Type, "kid": t.KeyID}, t.Header)
	claims := map[string]any{
		"iss": i.url, "sub": t.Subject, "aud": t.Audience, "client_id": t.ClientID, "sid": t.SessionID,
		"iat": t.IssuedAt.Unix(), "exp": t.IssuedAt.Add(t.Life).Unix(), "jti": hash(signer.sign(time.Now().String())),
		"auth_time": t.IssuedAt.Unix(), "amr": []string{"pwd"},
	}
	if t.Scope != "" {
		claims["scope"] = t.Scope
	}
	if len(t.Roles) > 0 {
		claims["roles"] = t.Roles
	}
	claims = changed(claims, t.Claims)
	switch {
	case t.Forged:
		return newKey(i.t).jws(header, claims)
	case t.Algorithm == "HS256":
		return signer.confused(header, claims)
	default:
		return signer.jws(header, claims)
	}
}

// confused signs with HMAC under the public key, which everybody has: the
// attack on verifiers that believe `alg` (RFC 8725 section 2.1).
func (k *key) confused(header, claims map[string]any) string {
	public, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		panic(err) // the key is ours
	}
	signed := b64(marshal(header)) + "." + b64(marshal(claims))
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(signed))
	return signed + "." + b64(mac.Sum(nil))
}

func changed(m, changes map[string]any) map[string]any {
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
