package verify

import "context"

// VerifyJWS is Verify for a token of any type with any payload, which it
// returns: for test vectors that know nothing of access tokens.
func (v *Verifier) VerifyJWS(ctx context.Context, raw string) ([]byte, error) {
	its := kind{size: MaxTokenSize}
	if jws, err := split(raw, its.size); err == nil {
		if h, err := parseHeader(jws.header); err == nil {
			its.typ = h.typ
		}
	}
	o, err := v.trust.open(ctx, raw, its)
	return o.payload, err
}
