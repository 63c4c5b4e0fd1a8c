package verify

import (
	"encoding/base64"
	"fmt"
)

// token is a JWT in compact serialization, cut at its dots, nothing decoded.
type token struct {
	header, payload, signature string
	signed                     string // header and payload with the dot between them
}

// header has the three members of a JOSE header that count here. jwk, jku,
// x5c and x5u are ignored on purpose: a token does not bring its own key.
type header struct {
	alg, typ, kid string
}

// Made once: refusing rubbish must cost nothing (CVE-2025-30204).
var (
	errTooLong  = fmt.Errorf("%w: too long", ErrMalformed)
	errShape    = fmt.Errorf("%w: expected three parts and two dots", ErrMalformed)
	errAlphabet = fmt.Errorf("%w: expected only base64url characters and dots", ErrMalformed)
)

// inAlphabet has the base64url characters (RFC 4648 section 5), no padding.
var inAlphabet = func() (in [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		in[c] = true
	}
	return in
}()

// split cuts raw, of at most size bytes, into its three parts, none of them
// empty. It allocates nothing, whatever raw is.
func split(raw string, size int) (token, error) {
	if len(raw) > size {
		return token{}, errTooLong
	}
	var dots [2]int
	n := 0
	for i := range len(raw) {
		switch c := raw[i]; {
		case inAlphabet[c]:
		case c != '.':
			return token{}, errAlphabet
		case n == len(dots):
			return token{}, errShape
		default:
			dots[n] = i
			n++
		}
	}
	if n != len(dots) || dots[0] == 0 || dots[1] == dots[0]+1 || dots[1] == len(raw)-1 {
		return token{}, errShape
	}
	return token{
		header:    raw[:dots[0]],
		payload:   raw[dots[0]+1 : dots[1]],
		signature: raw[dots[1]+1:],
		signed:    raw[:dots[1]],
	}, nil
}

var base64url = base64.RawURLEncoding.Strict()

// decode is strict: unused bits must be zero, so that no two texts mean the
// same bytes. Its caller has checked the alphabet; Go's decoder alone would
// skip line breaks.
func decode(s string) ([]byte, error) {
	return base64url.DecodeString(s)
}

func parseHeader(segment string) (header, error) {
	data, err := decode(segment)
	if err != nil {
		return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	var h header
	err = members(data, func(name, value []byte) error {
		var err error
		switch string(name) {
		case "alg":
			h.alg, err = text(value)
		case "typ":
			h.typ, err = text(value)
		case "kid":
			h.kid, err = text(value)
		case "crit":
			// RFC 7515 section 4.1.11: we understand no extension.
			err = fmt.Errorf("crit asks for %s, no extension is understood", brief(string(value)))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return header{}, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	return h, nil
}
