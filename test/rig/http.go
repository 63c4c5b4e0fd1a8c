package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Answer is an HTTP answer, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Field returns a member of a JSON body as text, "" when there is none.
func (a Answer) Field(name string) string {
	var members map[string]any
	_ = json.Unmarshal(a.Body, &members) // what is no JSON has no members
	if v, ok := members[name]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// Is reports whether the answer is a problem with this status and code.
func (a Answer) Is(status int, code string) bool {
	return a.Status == status && a.Field("code") == code
}

// String returns status and body.
func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// Samples reads what a server says at /metrics, by name with labels.
func Samples(text []byte) map[string]float64 {
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			values[name] = v
		}
	}
	return values
}

// Patiently tries again for so long while the server says that it cannot answer just
// now, and returns the last answer.
func Patiently(patience time.Duration, try func() (Answer, error)) (a Answer, err error) {
	for deadline := time.Now().Add(patience); ; {
		a, err = try()
		if err != nil || a.Status != http.StatusServiceUnavailable || time.Now().After(deadline) {
			return a, err
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Ask sends one request. body is nil, text as it is, or a value to be sent as
// JSON; header is a list of names and values, of which Host goes where net/http
// wants it. An error means that no whole answer came.
func Ask(ctx context.Context, h *http.Client, method, url string, body any, header ...string) (Answer, error) {
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return Answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return Answer{}, err
	}
	if reader != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		switch header[i] {
		case "Host":
			request.Host = header[i+1]
		case "Content-Type":
			request.Header.Set(header[i], header[i+1])
		case "Idempotency-Key":
			request.Header[header[i]] = []string{header[i+1]}
			// To net/http the header says that it may send the request a second
			// time by itself; a client that counts its requests does not want that.
			request.GetBody = nil
		default:
			request.Header.Add(header[i], header[i+1])
		}
	}
	response, err := h.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, text}, err
}

// Journal collects what a server writes. It is safe for concurrent use.
type Journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (j *Journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// String returns what was written so far.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// Tail returns the last lines of what was written.
func (j *Journal) Tail(lines int) string { return LastLines(j.String(), lines) }

// LastLines returns so many lines from the end of a text.
func LastLines(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
