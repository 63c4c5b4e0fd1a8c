package provetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Answer is one HTTP answer, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Field returns a member of a JSON body as text; "" when there is none.
func (a Answer) Field(name string) string {
	var m map[string]any
	if json.Unmarshal(a.Body, &m) != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

// String shows status and body.
func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// Send sends body as JSON; nil sends none. An error means that nobody knows
// what became of the request.
func Send(ctx context.Context, c *http.Client, method, url string, body map[string]string, header ...string) (Answer, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return Answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, text}, err
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
