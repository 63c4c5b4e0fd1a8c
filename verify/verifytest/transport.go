package verifytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// transport brings requests to a handler in the same process, answer and
// stream alike.
type transport struct{ handler http.Handler }

var errCut = errors.New("verifytest: the connection was cut")

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	body, out := io.Pipe()
	w := &writer{header: http.Header{}, status: make(chan int, 1), out: out, buffered: bufio.NewWriter(out)}
	go func() {
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				_ = out.CloseWithError(errCut)
				w.begin(0)
				return
			}
			w.WriteHeader(http.StatusOK)
			_ = w.buffered.Flush()
			_ = out.Close()
		}()
		t.handler.ServeHTTP(w, r.Clone(ctx))
	}()
	select {
	case status := <-w.status:
		if status == 0 {
			return nil, errCut
		}
		stop := context.AfterFunc(r.Context(), func() { _ = body.CloseWithError(r.Context().Err()) })
		return &http.Response{
			Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.sent, ContentLength: -1, Request: r,
			Body: closer{body, func() { stop(); cancel() }},
		}, nil
	case <-r.Context().Done():
		_ = body.Close()
		return nil, r.Context().Err()
	}
}

// closer ends the handler when the client has read enough.
type closer struct {
	*io.PipeReader
	also func()
}

func (c closer) Close() error {
	c.also()
	return c.PipeReader.Close()
}

// writer hands an answer over as it is written.
type writer struct {
	header, sent http.Header
	once         sync.Once
	status       chan int // sent once
	out          *io.PipeWriter
	buffered     *bufio.Writer
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) begin(status int) {
	w.once.Do(func() {
		w.sent = w.header.Clone()
		w.status <- status
	})
}

func (w *writer) WriteHeader(status int) { w.begin(status) }

func (w *writer) Write(p []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.buffered.Write(p)
}

// Flush implements http.Flusher.
func (w *writer) Flush() {
	w.begin(http.StatusOK)
	_ = w.buffered.Flush() // the client went away; the next select sees it
}
