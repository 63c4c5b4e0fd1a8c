package verify

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readAll returns the events of a stream, comments left out, and its error.
func readAll(in io.Reader, size int) (events [][2]string, err error) {
	r := newEventReader(in, size)
	for {
		e, err := r.next()
		if err != nil {
			return events, err
		}
		if e.data != "" {
			events = append(events, [2]string{e.name, e.data})
		}
	}
}

func TestEventReader(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want [][2]string
	}{
		"one":                  {"id: 7\nevent: revocations\ndata: x\n\n", [][2]string{{"revocations", "x"}}},
		"CRLF":                 {"event: a\r\ndata: x\r\n\r\n", [][2]string{{"a", "x"}}},
		"CR":                   {"event: a\rdata: x\r\r", [][2]string{{"a", "x"}}},
		"mixed":                {"event: a\rdata: x\n\r\ndata: y\n\n", [][2]string{{"a", "x"}, {"", "y"}}},
		"CRLF, LF":             {"data: x\r\n\ndata: y\r\n\n", [][2]string{{"", "x"}, {"", "y"}}},
		"no space":             {"event:a\ndata:x\n\n", [][2]string{{"a", "x"}}},
		"two spaces":           {"data:  x\n\n", [][2]string{{"", " x"}}},
		"two lines":            {"data: x\ndata: y\n\n", [][2]string{{"", "x\ny"}}},
		"comments":             {": alive\n\n:\nevent: a\n: in between\ndata: x\n:\n\n", [][2]string{{"a", "x"}}},
		"byte order mark":      {"\xef\xbb\xbfdata: x\n\n", [][2]string{{"", "x"}}},
		"no data, no event":    {"event: a\n\ndata: x\n\n", [][2]string{{"", "x"}}},
		"unknown fields":       {"retry: 10\nfoo: bar\nfoo\ndata: x\n\n", [][2]string{{"", "x"}}},
		"cut off":              {"data: x\n\ndata: y\n", [][2]string{{"", "x"}}},
		"cut off in the line":  {"data: x\n\ndata: y", [][2]string{{"", "x"}}},
		"colons in the data":   {"data: a:b: c\n\n", [][2]string{{"", "a:b: c"}}},
		"the last name counts": {"event: a\nevent: b\ndata: x\n\n", [][2]string{{"b", "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				got, err := readAll(in, 100)
				if !errors.Is(err, io.EOF) {
					t.Errorf("error is %v", err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// A comment is a sign of life at once, not with the next event.
func TestEventReader_aCommentIsHeardAtOnce(t *testing.T) {
	in, out := io.Pipe()
	defer in.Close()
	go func() { _, _ = io.WriteString(out, ": alive\n") }()
	if e, err := newEventReader(in, 100).next(); err != nil || e != (event{comment: "alive"}) {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEventReader_boundsWhatItHolds(t *testing.T) {
	for name, text := range map[string]string{
		"line":    "data: " + strings.Repeat("x", 101),
		"event":   strings.Repeat("data: 1234567890\n", 11) + "\n",
		"comment": ":" + strings.Repeat("x", 101) + "\n",
	} {
		if _, err := readAll(strings.NewReader(text), 100); !errors.Is(err, errEventTooLong) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if got, _ := readAll(strings.NewReader(strings.Repeat("data: 123456789\n", 10)+"\n"), 100); len(got) != 1 {
		t.Error("an event of exactly that size is refused")
	}
}
