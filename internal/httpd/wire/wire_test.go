package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/secret"
)

func scope(w http.ResponseWriter) *wire.Scope {
	return &wire.Scope{
		Site:      &wire.Site{Issuer: "https://auth.example.com", Log: slog.New(slog.DiscardHandler), RetrySpread: 4 * time.Second},
		RequestID: "0123456789", Answer: wire.Answer{ResponseWriter: w},
	}
}

func fail(err error) (*wire.Scope, *httptest.ResponseRecorder, map[string]any) {
	rec := httptest.NewRecorder()
	s := scope(rec)
	s.Fail(&s.Answer, err)
	var body map[string]any
	_ = json.Unmarshal(rec.Body.Bytes(), &body)
	return s, rec, body
}

func TestFail_everyCodeHasItsRow(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range fault.Codes() {
		status, title := wire.StatusOf(code), wire.TitleOf(code)
		if status == http.StatusInternalServerError && code != fault.Internal {
			t.Errorf("%s has no row in the table", code)
		}
		if title == "" || strings.HasSuffix(title, ".") {
			t.Errorf("%s: title %q", code, title)
		}
		seen[title] = true
		s, rec, body := fail(fault.New(code, "A detail."))
		if rec.Code != status || body["status"] != float64(status) || body["code"] != string(code) || body["title"] != title ||
			body["detail"] != "A detail." || body["request_id"] != "0123456789" ||
			body["type"] != "https://auth.example.com/openapi.yaml#/components/examples/"+string(code) {
			t.Errorf("%s is answered %d %v", code, rec.Code, body)
		}
		if s.Code != string(code) || s.Answer.Status != status {
			t.Errorf("%s: the event gets code %q and status %d", code, s.Code, s.Answer.Status)
		}
		if challenged := rec.Header().Get("WWW-Authenticate") != ""; challenged != (status == 401) {
			t.Errorf("%s: a challenge: %v", code, challenged)
		}
		waits := status == 429 || status == 503
		if retry := rec.Header().Get("Retry-After"); (retry != "") != waits || (body["retry_after"] != nil) != waits {
			t.Errorf("%s: Retry-After %q, retry_after %v", code, retry, body["retry_after"])
		}
	}
}

func TestFail_anErrorWithoutAFaultIsOursAndIsNotShown(t *testing.T) {
	for _, err := range []error{errors.New("pq: password of ada is hunter2"), fault.New("no_such_code", "hunter2")} {
		s, rec, body := fail(err)
		if rec.Code != 500 || body["code"] != "internal_error" || strings.Contains(rec.Body.String(), "hunter2") || !errors.Is(s.Err, err) {
			t.Errorf("%v is answered %d %s; the log gets %v", err, rec.Code, rec.Body, s.Err)
		}
	}
}

func TestFail_retryAfter(t *testing.T) {
	for told, want := range map[time.Duration]float64{1: 1, time.Second: 1, 1001 * time.Millisecond: 2, time.Minute: 60, 0: 1} {
		if _, _, body := fail(fault.New(fault.TooManyAttempts, "").After(told)); body["retry_after"] != want {
			t.Errorf("429 after %s: retry_after %v, want %v", told, body["retry_after"], want)
		}
	}
	seen := map[any]bool{}
	for range 300 {
		_, _, body := fail(fault.Trouble(io.EOF))
		seen[body["retry_after"]] = true
	}
	for s := 1; s <= 5; s++ {
		if !seen[float64(s)] || len(seen) != 5 {
			t.Fatalf("503s are told to wait %v, want 1 to 5 seconds", seen)
		}
	}
}

func TestFail_saysNothingOnceTheAnswerHasBegun(t *testing.T) {
	rec := httptest.NewRecorder()
	s := scope(rec)
	_, _ = s.Answer.Write([]byte("half"))
	s.Fail(&s.Answer, fault.New(fault.Internal, "x"))
	if rec.Body.String() != "half" || s.Code != "internal_error" {
		t.Errorf("body %q, code %q", rec.Body, s.Code)
	}
}

func TestHandler_answersWithTheErrorItReturns(t *testing.T) {
	rec := httptest.NewRecorder()
	s := scope(rec)
	r := httptest.NewRequest("GET", "/", nil)
	wire.Handler(func(got *wire.Scope, _ http.ResponseWriter, _ *http.Request) error {
		if got != s {
			t.Error("another scope")
		}
		return fault.New(fault.NotFound, "Nothing.")
	}).ServeHTTP(&s.Answer, r.WithContext(wire.With(context.Background(), s)))
	if rec.Code != 404 {
		t.Errorf("got %d", rec.Code)
	}
}

func TestCleanUserAgent(t *testing.T) {
	for given, want := range map[string]string{
		"":                         "",
		"curl/8":                   "curl/8",
		"a\x00b\x1b[31mc\r\nd":     "ab[31mcd",
		"caf\u00e9":                "caf\u00e9",
		"bad \xff byte":            "bad \uFFFD byte",
		strings.Repeat("x", 300):   strings.Repeat("x", 256),
		strings.Repeat("€", 100):   strings.Repeat("€", 85),
		strings.Repeat("\x01", 99): "",
	} {
		if got := wire.CleanUserAgent(given); got != want {
			t.Errorf("%q became %q, want %q", given, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		got := wire.CleanUserAgent(string(rapid.SliceOf(rapid.Byte()).Draw(t, "agent")))
		if len(got) > 256 || !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\n\r\x7f") {
			t.Fatalf("%q", got)
		}
	})
}

func TestInstant_hasExactlyMilliseconds(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for at, want := range map[time.Time]string{
		time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC):         "2026-11-23T03:04:05.000Z",
		time.Date(2026, 11, 23, 3, 4, 5, 999999999, time.UTC): "2026-11-23T03:04:05.999Z",
		time.Date(2026, 11, 23, 3, 4, 5, 120000000, zone):     "2026-11-23T02:04:05.120Z",
	} {
		if got := string(wire.Instant(at).Append(nil)); got != want {
			t.Errorf("%s became %s, want %s", at, got, want)
		}
	}
}

func TestWholeSeconds_roundsDownAndStopsAtZero(t *testing.T) {
	now := time.Now()
	for d, want := range map[time.Duration]int64{1999 * time.Millisecond: 1, time.Second: 1, 999 * time.Millisecond: 0, -time.Hour: 0} {
		if got := wire.WholeSeconds(now, now.Add(d)); got != want {
			t.Errorf("%s: %d, want %d", d, got, want)
		}
	}
}

// What the reader takes is what encoding/json takes for the same object, and
// values come out unchanged.
func TestReadObject_valuesComeOutAsTheyWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]any{"name": rapid.String().Draw(t, "name"), "word": rapid.String().Draw(t, "word"), "on": rapid.Bool().Draw(t, "on")}
		body, _ := json.Marshal(in)
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		var name string
		var word secret.Text
		var on bool
		if err := wire.ReadObject(r, wire.Text("name", &name), wire.Secret("word", &word), wire.Optional(wire.Bool("on", &on))); err != nil {
			t.Fatal(err)
		}
		if name != in["name"] || word.Reveal() != in["word"] || on != in["on"] {
			t.Fatalf("%s became %q %q %v", body, name, word.Reveal(), on)
		}
	})
}

func FuzzReadObject(f *testing.F) {
	for _, seed := range []string{`{"a":"b"}`, `{"a":null}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{`, `{"a":"b"}x`, `[]`, "\xff", `{"a":"b","a":"c"}`, `{"a":{"b":[1]}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		var a string
		err := wire.ReadObject(r, wire.Text("a", &a))
		if err == nil {
			var want map[string]string
			if json.Unmarshal(body, &want) != nil || len(want) != 1 || want["a"] != a {
				t.Fatalf("%q was taken for %q", body, a)
			}
			return
		}
		if !fault.Is(err, fault.InvalidRequest) && !fault.Is(err, fault.BodyTooLarge) {
			t.Fatalf("%q: %v", body, err)
		}
	})
}

// A client whose network is slow sends a good token late, and must not hear that it is
// at fault.
func TestReadObject_aBodyThatDoesNotComeInTimeIsTrouble(t *testing.T) {
	// Over a real connection: what its deadline says is net/http's.
	said := make(chan error, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var token secret.Text
		said <- wire.ReadObject(r, wire.Secret("refresh_token", &token))
	}))
	server.Config.ReadTimeout, server.Config.ReadHeaderTimeout = 100*time.Millisecond, time.Minute
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"refresh"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-said:
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("half a body in time: %v; want %s", err, fault.Unavailable)
		}
	case <-time.After(time.Minute):
		t.Fatal("the body was waited for")
	}
	short := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(`{"refresh`), failing{}))
	if err := wire.ReadObject(short); !fault.Is(err, fault.InvalidRequest) {
		t.Errorf("a body that ends early: %v; want %s", err, fault.InvalidRequest)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
