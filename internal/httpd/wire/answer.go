package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

var jsonType = []string{"application/json"}

// WriteJSON answers with v. What cannot be spelled as JSON is a defect of ours
// and comes back as an error; nothing has been answered then.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	WriteRaw(w, status, b.Bytes())
	return nil
}

// WriteRaw answers with JSON that is spelled already. body may be reused by the
// caller afterwards.
func WriteRaw(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is no news
}

// Instant is a point in time as every answer spells it: RFC 3339, UTC, with
// exactly three digits of milliseconds, rounded down.
type Instant time.Time

const instantLayout = "2006-01-02T15:04:05.000Z"

// Append appends the spelling of t, without quotes.
func (t Instant) Append(b []byte) []byte {
	return time.Time(t).UTC().AppendFormat(b, instantLayout)
}

// MarshalJSON implements json.Marshaler.
func (t Instant) MarshalJSON() ([]byte, error) {
	return append(t.Append([]byte{'"'}), '"'), nil
}

// WholeSeconds counts the seconds from now until end, rounded down, never below
// zero.
func WholeSeconds(now, end time.Time) int64 {
	return int64(max(0, end.Sub(now)) / time.Second)
}
