package verify

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// event is one of server-sent events, or a comment between two of them.
type event struct {
	name    string // "" stands for "message"
	data    string // "" for a comment
	comment string
}

// eventReader reads server-sent events (WHATWG HTML, section 9.2.6) and holds
// no more than size bytes of an event, however long its lines are.
type eventReader struct {
	in     *bufio.Reader
	size   int
	line   []byte
	skipLF bool // the last line ended in CR; an LF at once belongs to it
	begun  bool
}

var errEventTooLong = errors.New("event is too long")

func newEventReader(in io.Reader, size int) *eventReader {
	return &eventReader{in: bufio.NewReader(in), size: size}
}

// next returns the next event or comment. At the end it returns io.EOF; an
// event that the end cuts off does not count.
func (r *eventReader) next() (event, error) {
	var e event
	var data []byte
	hasData := false
	for {
		line, err := r.readLine()
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			if !hasData {
				e = event{} // an event without data is none
				continue
			}
			e.data = string(data)
			return e, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "":
			if !hasData && e.name == "" {
				return event{comment: string(value)}, nil
			}
		case "event":
			e.name = string(value)
		case "data":
			if hasData {
				data = append(data, '\n')
			}
			data, hasData = append(data, value...), true
		}
		if len(data) > r.size {
			return event{}, fmt.Errorf("%w: more than %d bytes", errEventTooLong, r.size)
		}
	}
}

// readLine returns a line without its end: LF, CR or both. The line is valid
// until the next call.
func (r *eventReader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		if _, err := r.in.Peek(1); err != nil {
			return nil, err
		}
		chunk, _ := r.in.Peek(r.in.Buffered()) // what is there already
		if r.skipLF && chunk[0] == '\n' {
			r.skipLF = false
			_, _ = r.in.Discard(1)
			continue
		}
		r.skipLF = false
		end := bytes.IndexAny(chunk, "\r\n")
		if end < 0 {
			end = len(chunk)
		}
		if r.line = append(r.line, chunk[:end]...); len(r.line) > r.size {
			return nil, fmt.Errorf("%w: more than %d bytes in a line", errEventTooLong, r.size)
		}
		if end == len(chunk) {
			_, _ = r.in.Discard(end)
			continue
		}
		r.skipLF = chunk[end] == '\r'
		_, _ = r.in.Discard(end + 1)
		if !r.begun {
			r.begun = true
			return bytes.TrimPrefix(r.line, []byte("\xef\xbb\xbf")), nil
		}
		return r.line, nil
	}
}
