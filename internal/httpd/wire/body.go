package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/secret"
)

// MaxBody is the largest body that is read, in bytes.
const MaxBody = 64 << 10

// Field is one member of the flat JSON object that an endpoint takes.
type Field struct {
	name     string
	want     string // in words, for whoever sent something else
	optional bool
	set      func(value any) bool // false: another type
}

// Text is a required member that holds a string.
func Text(name string, to *string) Field {
	return Field{name: name, want: "a string", set: func(v any) bool {
		s, ok := v.(string)
		*to = s
		return ok
	}}
}

// Secret is a required member that holds a secret string.
func Secret(name string, to *secret.Text) Field {
	return Field{name: name, want: "a string", set: func(v any) bool {
		s, ok := v.(string)
		*to = secret.NewText(s)
		return ok
	}}
}

// Bool is a required member that is true or false.
func Bool(name string, to *bool) Field {
	return Field{name: name, want: "true or false", set: func(v any) bool {
		b, ok := v.(bool)
		*to = b
		return ok
	}}
}

// OneOf is a required member that holds one of the given words.
func OneOf(name string, to *string, words ...string) Field {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	return Field{name: name, want: strings.Join(quoted, " or "), set: func(v any) bool {
		s, _ := v.(string)
		*to = s
		for _, w := range words {
			if s == w {
				return true
			}
		}
		return false
	}}
}

// Optional makes a member one that may be absent or null, which are the same.
func Optional(f Field) Field {
	f.optional = true
	return f
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// ReadObject reads the body of a request as one JSON object with these members
// and no others. Names are compared letter by letter. Refusals are faults that
// name the member and what was expected, and never repeat a value.
func ReadObject(r *http.Request, fields ...Field) error {
	empty, err := readObject(r, fields)
	if err == nil && empty {
		return invalid("The body is empty; want %s.", shape(fields))
	}
	return err
}

// ReadMaybe is ReadObject for an endpoint that also takes no body at all; it
// reports whether there was one.
func ReadMaybe(r *http.Request, fields ...Field) (present bool, err error) {
	if r.Body == nil || r.Body == http.NoBody {
		return false, nil
	}
	empty, err := readObject(r, fields)
	return !empty && err == nil, err
}

// Bodiless is ReadMaybe for an endpoint that takes nothing: what stands in a body would
// be overlooked. An empty object will do for none.
func Bodiless(r *http.Request) error {
	_, err := ReadMaybe(r)
	return err
}

func readObject(r *http.Request, fields []Field) (empty bool, err error) {
	if r.ContentLength > MaxBody {
		return false, tooLarge()
	}
	buffer := bodies.Get().(*bytes.Buffer)
	defer func() {
		clear(buffer.Bytes()) // it held a password or a token
		buffer.Reset()
		bodies.Put(buffer)
	}()
	_, err = buffer.ReadFrom(io.LimitReader(r.Body, MaxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) { // nothing is wrong with what came of it
		return false, fault.Trouble(fmt.Errorf("read the body: %w", err)).WithReason("body_late")
	}
	if err != nil {
		return false, invalid("The body ended early.").Because(err)
	}
	switch n := buffer.Len(); {
	case n > MaxBody:
		return false, tooLarge()
	case n == 0:
		return true, nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return false, err
	}
	return false, parseObject(buffer.Bytes(), fields)
}

func tooLarge() error {
	return fault.New(fault.BodyTooLarge, "The body is larger than the %d bytes that are read here.", MaxBody)
}

func invalid(format string, args ...any) *fault.Fault {
	return fault.New(fault.InvalidRequest, format, args...)
}

// checkMediaType wants application/json in UTF-8 (RFC 8259 section 8.1). The
// media type is also what keeps plain HTML forms of other sites out.
func checkMediaType(h http.Header) error {
	given := h.Get("Content-Type")
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fault.New(fault.UnsupportedMediaType, "The body has Content-Encoding %.40q; want none.", encoding)
	}
	if given == "application/json" {
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	if err != nil || media != "application/json" {
		return fault.New(fault.UnsupportedMediaType, "The body has Content-Type %.80q; want application/json.", given)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return fault.New(fault.UnsupportedMediaType, "The body is in charset %.40q; want utf-8.", charset)
	}
	return nil
}

func parseObject(body []byte, fields []Field) error {
	switch {
	case bytes.HasPrefix(body, []byte("\xef\xbb\xbf")):
		return invalid("The body begins with a byte order mark; want plain UTF-8 (RFC 8259 section 8.1).")
	case !utf8.Valid(body):
		return invalid("The body is not valid UTF-8.")
	case brokenSurrogate(body):
		return invalid("The body holds half of a surrogate pair (\\uD800 to \\uDFFF), which is no character.")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return notAnObject(err, fields)
	}
	var seen uint64 // one bit for each of fields
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return notAnObject(err, fields)
		}
		name, _ := key.(string)
		i := indexOf(fields, name)
		if i < 0 {
			return invalid("The body has an unknown member%s; want %s.", quoteName(name), shape(fields))
		}
		if seen&(1<<i) != 0 {
			return invalid("The body has the member %q twice.", name)
		}
		seen |= 1 << i
		value, err := d.Token()
		if err != nil {
			return notAnObject(err, fields)
		}
		if value == nil && fields[i].optional {
			continue
		}
		if !fields[i].set(value) {
			return invalid("The member %q is %s; want %s.", name, kindOf(value), fields[i].want)
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return notAnObject(err, fields)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("The body goes on after the JSON object; want %s and nothing else.", shape(fields))
	}
	for i, f := range fields {
		if seen&(1<<i) == 0 && !f.optional {
			return invalid("The member %q is missing; want %s.", f.name, shape(fields))
		}
	}
	return nil
}

func notAnObject(err error, fields []Field) error {
	f := invalid("The body is not a JSON object; want %s.", shape(fields))
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) { // the message of it would repeat a character of the body
		f.Detail = fmt.Sprintf("The body is not valid JSON at byte %d; want %s.", syntax.Offset, shape(fields))
	}
	return f
}

func indexOf(fields []Field, name string) int {
	for i := range fields {
		if fields[i].name == name {
			return i
		}
	}
	return -1
}

// shape is what an endpoint takes, in words.
func shape(fields []Field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
		if f.optional {
			names[i] += "?"
		}
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// quoteName repeats a member's name only where it looks like one: a caller may
// have put a secret in its place.
func quoteName(name string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"
	if name == "" || len(name) > 24 || strings.Trim(name, letters) != "" {
		return ""
	}
	return " " + strconv.Quote(name)
}

func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case json.Delim:
		if v == '[' {
			return "an array"
		}
		return "an object"
	default:
		return "a string"
	}
}

// brokenSurrogate finds an escape that is half of a pair. The decoder would
// silently put U+FFFD in its place, and two different passwords would be one.
func brokenSurrogate(body []byte) bool {
	for i := 0; i < len(body)-1; i++ {
		if body[i] != '\\' {
			continue
		}
		i++
		if body[i] != 'u' {
			continue
		}
		unit, ok := hexUnit(body[i+1:])
		switch {
		case !ok:
			return false // no JSON at all; the decoder says so
		case unit >= 0xDC00 && unit <= 0xDFFF:
			return true
		case unit >= 0xD800 && unit <= 0xDBFF:
			rest := body[i+5:]
			if len(rest) < 2 || rest[0] != '\\' || rest[1] != 'u' {
				return true
			}
			if low, ok := hexUnit(rest[2:]); !ok || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
		i += 4
	}
	return false
}

func hexUnit(b []byte) (uint64, bool) {
	if len(b) < 4 {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return unit, err == nil
}
