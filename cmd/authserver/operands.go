package main

import (
	"encoding/base64"
	"slices"
)

// kidLength is the length of a signing key's id: a SHA-256 thumbprint
// (RFC 7638) as base64url without padding.
const kidLength = 43

// shieldKIDs moves key ids that begin with a dash behind a "--" at the end. One
// key in 64 has such an id, and whoever revokes it at night copies it from a
// table: it is not to be read as a flag. No flag has this length and this shape.
func shieldKIDs(args []string) []string {
	end := len(args)
	if i := slices.Index(args, "--"); i >= 0 {
		end = i
	}
	var before, kids []string
	for _, arg := range args[:end] {
		if isDashedKID(arg) {
			kids = append(kids, arg)
		} else {
			before = append(before, arg)
		}
	}
	if len(kids) == 0 {
		return args
	}
	after := args[min(end+1, len(args)):]
	return slices.Concat(before, []string{"--"}, kids, after)
}

func isDashedKID(arg string) bool {
	if len(arg) != kidLength || arg[0] != '-' {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(arg)
	return err == nil
}
