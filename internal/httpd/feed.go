package httpd

import (
	"cmp"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/revocation"
)

var (
	feedType   = []string{"application/revocations+jwt"}
	eventType  = []string{"text/event-stream"}
	noCache    = []string{"no-cache"}
	varyAccept = []string{"Accept"}
	feedTells  = []string{"ETag, Authserver-Feed-Age"}
)

// How a stream lives.
const (
	alivePeriod = 10 * time.Second
	// eventPatience is how long one event may take to leave. A reader that does
	// not take it is dropped, and waits for nobody but itself until then.
	eventPatience = 10 * time.Second
)

// feed is GET /v1/revocations: the signed revocation feed, for everybody. It
// stands on the public listener whatever else is switched off.
func (s *Server) feed(scope *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	s.open(h)
	h["Cache-Control"], h["Vary"], h["Access-Control-Expose-Headers"] = noCache, varyAccept, feedTells
	if wants(r, "text/event-stream") {
		return s.feedEvents(scope, w, r)
	}
	after, err := number(afterOf(r))
	if err != nil {
		return err
	}
	st, err := s.rooms.Feed.Statement(after)
	if err != nil {
		return err
	}
	h["Etag"] = []string{st.ETag}
	h["Authserver-Feed-Age"] = []string{s.feedAge()}
	if matches(r.Header["If-None-Match"], strings.TrimPrefix(st.ETag, "W/")) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"] = feedType
	h["Content-Length"] = []string{strconv.Itoa(len(st.JWS))}
	_, _ = w.Write(st.JWS) // a client that went away is no news
	return nil
}

// feedAge is since when this node could not read the feed, in whole seconds.
func (s *Server) feedAge() string {
	return strconv.FormatInt(int64(s.rooms.Feed.Status().Age/time.Second), 10)
}

// open marks an answer as one that pages of any origin may read, without
// credentials.
func (*Server) open(h http.Header) {
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	h["Access-Control-Allow-Origin"] = anyOrigin
}

// wants reports whether a request names a media type it would take; one with the
// weight 0 it would not (RFC 9110, section 12.4.2).
func wants(r *http.Request, mediaType string) bool {
	for _, header := range r.Header["Accept"] {
		for part := range strings.SplitSeq(header, ",") {
			name, parameters, err := mime.ParseMediaType(part)
			if err != nil || name != mediaType {
				continue
			}
			weight, err := strconv.ParseFloat(cmp.Or(parameters["q"], "1"), 64)
			return err == nil && weight > 0
		}
	}
	return false
}

// afterOf is the query of a request for what came after a number. One that cannot be
// read is a number that cannot: whoever is at some place must not be sent to the
// beginning without a word.
func afterOf(r *http.Request) []string {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return []string{r.URL.RawQuery}
	}
	return query["after"]
}

// number reads the number that a reader is at; 0 when it names none.
func number(values []string) (int64, error) {
	if len(values) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 53)
	if err != nil || len(values) > 1 {
		return 0, fault.New(fault.InvalidRequest, "The number to start after is %.40q; want one whole number from 0 to 2^53 - 1, as in a statement's \"seq\".", strings.Join(values, ", "))
	}
	return int64(n), nil
}

// feedEvents answers with server-sent events: one at once, which leads on from
// where the reader is, and one for every change.
func (s *Server) feedEvents(scope *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	from := r.Header["Last-Event-Id"]
	if len(from) == 0 || from[0] == "" {
		from = afterOf(r)
	}
	after, err := number(from)
	if err != nil {
		return err
	}
	at, more := s.rooms.Feed.At()
	st, err := s.rooms.Feed.Statement(after)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.Header()["Content-Type"] = eventType
		return nil
	}
	leave, err := s.rooms.Feed.Join(r.Context(), limit.Network(scope.Client))
	if err != nil {
		return fault.Trouble(err).WithReason("feed_streams_full")
	}
	defer leave()
	w.Header()["Content-Type"] = eventType
	w.Header()["X-Accel-Buffering"] = []string{"no"} // nginx would hold events back
	return s.stream(newEventWriter(w), r, st, at, more)
}

// stream writes events until the reader goes, cannot follow, or the server
// drains. at and more are from before st was made: what came in between is told
// twice rather than never.
func (s *Server) stream(out *eventWriter, r *http.Request, st revocation.Statement, at revocation.Position, more <-chan struct{}) error {
	beat := time.NewTicker(alivePeriod)
	defer beat.Stop()
	if !out.event(st) {
		return nil
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-s.ending:
			return nil // readers come back with jitter, to another node
		case <-beat.C:
			if !out.comment(s.pulse()) {
				return nil
			}
		case <-more:
			// In this order: what comes in between is told twice.
			from := at
			at, more = s.rooms.Feed.At()
			st, err := s.rooms.Feed.Since(from)
			if err != nil {
				return err // noted; the answer ends here
			}
			if !out.event(st) {
				return nil
			}
		}
	}
}

// pulse says that the feed lives, or for how long this node has not read it.
func (s *Server) pulse() string {
	if age := s.rooms.Feed.Status().Age; age > revocation.Fresh {
		return "stale " + strconv.FormatInt(int64(age/time.Second), 10)
	}
	return "alive"
}

// eventWriter writes to one reader. Each write has a deadline of its own in
// place of that of a whole answer.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	return &eventWriter{w, http.NewResponseController(w)}
}

func (e *eventWriter) event(st revocation.Statement) (ok bool) {
	return e.write([]byte("id: "+strconv.FormatInt(st.Seq, 10)+"\nevent: revocations\ndata: "), st.JWS, []byte("\n\n"))
}

func (e *eventWriter) comment(text string) (ok bool) { return e.write([]byte(": " + text + "\n\n")) }

func (e *eventWriter) write(texts ...[]byte) (ok bool) {
	// The read deadline would end the request's context although nothing more is
	// to be read.
	err := errors.Join(e.control.SetReadDeadline(time.Time{}), e.control.SetWriteDeadline(time.Now().Add(eventPatience)))
	for _, text := range texts {
		if err == nil {
			_, err = e.w.Write(text)
		}
	}
	if err == nil {
		err = e.control.Flush()
	}
	return err == nil
}
