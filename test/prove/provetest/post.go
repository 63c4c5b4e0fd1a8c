package provetest

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"example.com/authserver/test/rig"
)

// Answer is one HTTP answer, read whole.
type Answer = rig.Answer

// Send sends body as JSON; nil sends none. An error means that nobody knows
// what became of the request.
func Send(ctx context.Context, c *http.Client, method, url string, body map[string]string, header ...string) (Answer, error) {
	if body == nil { // a nil map is no nil any
		return rig.Ask(ctx, c, method, url, nil, header...)
	}
	return rig.Ask(ctx, c, method, url, body, header...)
}

// Generation reads the generation out of a refresh token, which is not secret:
// bytes 18 to 21 of its 54.
func Generation(token string) (int32, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "asrt_"))
	if err != nil || len(raw) != 54 {
		return 0, fmt.Errorf("%q is no refresh token", token)
	}
	return int32(binary.BigEndian.Uint32(raw[18:])), nil
}
