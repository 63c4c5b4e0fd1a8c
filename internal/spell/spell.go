// Package spell appends JSON to bytes, for what is written at every request and whose
// shape is known: no reflection, and no allocation but the caller's.
package spell

import "encoding/json"

// String appends s as a JSON string (RFC 8259 section 7). What has to be escaped goes
// through encoding/json, which replaces what is not UTF-8; tokens, ids and scopes need
// none of that and take the short way.
func String(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			long, err := json.Marshal(s)
			if err != nil { // cannot happen for a string
				long = []byte(`""`)
			}
			return append(b, long...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// Strings appends list as a JSON array of strings.
func Strings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = String(b, s)
	}
	return append(b, ']')
}
