package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"time"
)

// open sends a refresh over a connection of its own and returns it as soon as
// the first byte of the answer is there: the server has done its work, and
// nobody has read what came of it.
func (t *target) open(ctx context.Context, token string, by sender) (net.Conn, error) {
	if t.sent.Add(1) > int64(t.o.maxRequests) {
		return nil, errTooMany
	}
	req, err := t.request(ctx, token, by)
	if err != nil {
		return nil, err
	}
	req.Close = true
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err = conn.SetDeadline(time.Now().Add(t.o.answerTimeout)); err == nil {
		err = req.Write(conn)
	}
	first := make([]byte, 1)
	if err == nil {
		_, err = io.ReadFull(conn, first)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	t.answered.Add(1)
	return &begun{Conn: conn, rest: io.MultiReader(bytes.NewReader(first), conn)}, nil
}

// begun is a connection of which one byte was read ahead.
type begun struct {
	net.Conn
	rest io.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.rest.Read(p) }

func (t *target) dial(ctx context.Context) (net.Conn, error) {
	host := t.o.url.Host
	if t.o.url.Port() == "" {
		host = net.JoinHostPort(t.o.url.Hostname(), map[string]string{"http": "80", "https": "443"}[t.o.url.Scheme])
	}
	dialer := &net.Dialer{Timeout: t.o.answerTimeout}
	if t.o.url.Scheme == "https" {
		secure := &tls.Dialer{NetDialer: dialer, Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		return secure.DialContext(ctx, "tcp", host)
	}
	return dialer.DialContext(ctx, "tcp", host)
}

// lose presents a token and cuts the connection before the answer is read.
func (t *target) lose(ctx context.Context, token string, by sender) error {
	conn, err := t.open(ctx, token, by)
	if err != nil {
		return err
	}
	conn.Close()
	return nil
}

// readSlowly reads the rest of an answer a byte at a time.
func readSlowly(conn net.Conn) (answer, error) {
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{conn}, 16), nil)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	return read(resp.StatusCode, body), nil
}

// oneByte reads a byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return o.r.Read(p[:1])
}
