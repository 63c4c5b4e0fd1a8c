package wire

import (
	"net/http"
	"net/url"
)

// PathValue is r.PathValue, decoded. chi matches the path as it was sent where that
// differs from Go's own spelling, and hands over what it found: many a client encodes
// a colon.
func PathValue(r *http.Request, name string) string {
	value := r.PathValue(name)
	if r.URL.RawPath == "" {
		return value
	}
	plain, err := url.PathUnescape(value)
	if err != nil { // cannot happen: net/http has read it
		return value
	}
	return plain
}
