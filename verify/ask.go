package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	feedMedia   = "application/revocations+jwt"
	streamMedia = "text/event-stream"

	// ageHeader says for how many seconds the server could not read its store.
	// On a stream the comment of every ten seconds says so in place of alive.
	ageHeader = "Authserver-Feed-Age"
	alive     = "alive"

	// quietAfter is the time without a line after which a stream is dead: the
	// server sends one every 10 s.
	quietAfter = 25 * time.Second
)

// tag is the ETag of an answer, and the number held after it.
type tag struct {
	etag string
	seq  int64
}

// question is one to the feed.
type question struct {
	full  bool   // for everything in force
	after int64  // else for what came after this number; in any case the one held
	etag  string // of the last answer to the same question
}

// answer is what came of a question.
type answer struct {
	question
	raw  string // the statement; "" when nothing has changed
	etag string
	age  time.Duration // since the server has read its store
	err  error
}

// ask asks once and does not judge the statement.
func (f *Feed) ask(ctx context.Context, q question) (a answer) {
	a.question = q
	// Nobody above us recovers from a panic in a foreign transport.
	defer func() {
		if p := recover(); p != nil {
			a.err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, f.c.Timeout)
	defer cancel()
	resp, err := f.get(ctx, q, feedMedia)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	seconds, _ := strconv.ParseUint(resp.Header.Get(ageHeader), 10, 31)
	a.age = time.Duration(seconds) * time.Second
	switch {
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusNotModified && q.etag != "":
		return a
	default:
		a.err = fmt.Errorf("%s answers %s, expected 200 OK", f.c.URL, resp.Status)
		return a
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatement+1))
	if err != nil {
		a.err = fmt.Errorf("read the statement: %w", err)
		return a
	}
	if a.raw, a.etag = string(body), resp.Header.Get("ETag"); a.raw == "" {
		a.err = errors.New("an empty answer, expected a statement")
	}
	return a
}

func (f *Feed) get(ctx context.Context, q question, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.c.URL, nil)
	if err != nil {
		return nil, err
	}
	if !q.full {
		query := req.URL.Query()
		query.Set("after", strconv.FormatInt(q.after, 10))
		req.URL.RawQuery = query.Encode()
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", f.agent)
	req.Header.Set("Cache-Control", "no-cache")
	if q.etag != "" {
		req.Header.Set("If-None-Match", q.etag)
	}
	if accept == streamMedia {
		req.Header.Set("Accept-Encoding", "identity") // to compress is to hold back
	}
	return f.client.Do(req)
}

// listen follows a stream until it ends, and says why it did.
func (o *follower) listen() error {
	ctx, cancel := context.WithCancel(o.ctx)
	defer cancel()
	events := make(chan heard)
	from := o.question(false)
	o.running.Go(func() { o.read(ctx, from, events) })
	answers := make(chan answer, 1)
	quiet := time.NewTimer(o.c.Timeout)
	defer quiet.Stop()
	due := o.snapshotAt
	snapshot := time.NewTimer(time.Until(due))
	defer snapshot.Stop()
	for {
		select {
		case h := <-events:
			if err := o.hear(h); err != nil {
				return err
			}
			if o.streaming.Load() {
				quiet.Reset(quietAfter)
			}
			if o.snapshotAt.Before(due) { // ends of sessions were left out
				due = o.snapshotAt
				snapshot.Reset(time.Until(due))
			}
		case <-quiet.C:
			if !o.streaming.Load() {
				return fmt.Errorf("%w: none within %v", errNoStream, o.c.Timeout)
			}
			return fmt.Errorf("no event and no comment within %v", quietAfter)
		case <-snapshot.C:
			// Beside the stream: an answer that is late must not hold it up.
			q := o.question(true)
			o.running.Go(func() { answers <- o.ask(ctx, q) })
		case a := <-answers:
			if err := o.answered(a); errors.Is(err, errRefused) {
				return err
			}
			due = o.snapshotAt
			snapshot.Reset(max(time.Until(due), maxBackoff))
		case <-o.ctx.Done():
			return o.ctx.Err()
		}
	}
}

// heard is what comes out of a stream.
type heard struct {
	event event
	err   error // the stream has ended
}

// hear takes an event. A server that says that it is alive confirms what is
// held, once a statement has shown that this is the feed. Other comments, be
// they of a server that cannot read its store or of a proxy, confirm nothing,
// and with one of them a stream ends whose feed is lost.
func (o *follower) hear(h heard) error {
	switch {
	case h.err != nil:
		return h.err
	case h.event.comment == alive && o.streaming.Load():
		o.well(false, 0)
		return nil
	case h.event.comment != "" && o.streaming.Load():
		err := fmt.Errorf("the server says %s", brief(h.event.comment))
		o.trouble.Store(&err)
		if o.lost() {
			return err // another node may know what this one cannot read
		}
		return nil
	case h.event.data == "" || h.event.name != "revocations":
		return nil
	}
	changed, err := o.take(h.event.data, o.seq())
	if err != nil {
		return err
	}
	if o.streaming.Swap(true) {
		o.well(changed, 0)
		return nil
	}
	// The first one comes at once, also from a server that knows nothing new.
	if !o.lost() {
		o.trouble.Store(nil)
	}
	o.tell()
	return nil
}

// read reads a stream into events until it ends or ctx does.
func (f *Feed) read(ctx context.Context, from question, events chan<- heard) {
	send := func(h heard) bool {
		select {
		case events <- h:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer func() {
		if p := recover(); p != nil {
			send(heard{err: fmt.Errorf("panic: %v", p)})
		}
	}()
	from.etag = ""
	resp, err := f.get(ctx, from, streamMedia)
	if err != nil {
		send(heard{err: err})
		return
	}
	defer resp.Body.Close()
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || !strings.EqualFold(media, streamMedia) {
		send(heard{err: fmt.Errorf("%w: %s answers %s of type %q", errNoStream, f.c.URL, resp.Status, media)})
		return
	}
	in := newEventReader(resp.Body, maxStatement)
	for {
		e, err := in.next()
		if err != nil {
			send(heard{err: fmt.Errorf("the stream has ended: %w", err)})
			return
		}
		if !send(heard{event: e}) {
			return
		}
	}
}
