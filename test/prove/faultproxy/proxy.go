// Package faultproxy stands between a server and its PostgreSQL and breaks what
// passes: it cuts, holds or swallows any message of the protocol in either
// direction, and has the database fail with a chosen SQLSTATE. It needs no
// privileges and knows nothing of who talks to whom.
//
// It does not decide what to break: a script does, message by message.
package faultproxy

import (
	"encoding/binary"
	"io"
	"maps"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Script decides about each message. It is called by one goroutine at a time
// and must not block.
type Script func(Message) Act

// Proxy is one proxy before one server.
type Proxy struct {
	// URL is the database URL with the proxy in the place of the server.
	URL string

	behind   string
	listener net.Listener

	mu       sync.Mutex
	script   Script
	conns    map[*conn]struct{}
	count    int
	cancels  int
	working  map[uint32]bool // backends that were once ready for a query
	injected map[string]int
	closed   bool
	all      sync.WaitGroup
}

// New starts a proxy before the server of a postgres:// URL. It ends with the
// test.
func New(t testing.TB, server string) *Proxy {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{behind: u.Host, listener: listener, conns: map[*conn]struct{}{}, working: map[uint32]bool{}, injected: map[string]int{}}
	u.Host = listener.Addr().String()
	p.URL = u.String()
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Arm sets the script; nil lets everything pass.
func (p *Proxy) Arm(s Script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = s
}

// CutAll ends every connection there is.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.end()
	}
}

// Injected says how often each kind of act happened.
func (p *Proxy) Injected() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.injected)
}

// Cancels is how many cancel requests came for connections that were made. One
// that breaks while it is being made has nothing to cancel, and pgx sends a
// request all the same.
func (p *Proxy) Cancels() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cancels
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.end()
	}
	p.mu.Unlock()
	p.all.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(client) })
	}
}

// decide asks the script about a message.
func (p *Proxy) decide(m Message) Act {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.script == nil {
		return Act{}
	}
	act := p.script(m)
	if act.kind != pass {
		p.injected[act.Kind()]++
	}
	return act
}

// The codes of the requests that may stand in the place of a startup message.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	hello, err := readHello(client)
	if err != nil {
		return
	}
	server, err := net.Dial("tcp", p.behind)
	if err != nil {
		return
	}
	defer server.Close()
	if binary.BigEndian.Uint32(hello[4:]) == cancelRequest {
		p.mu.Lock()
		if len(hello) >= 12 && p.working[binary.BigEndian.Uint32(hello[8:])] {
			p.cancels++
		}
		p.mu.Unlock()
		if _, err := server.Write(hello); err == nil {
			_, _ = io.Copy(client, server) // ends when the server has read it
		}
		return
	}
	c := newConn(p, client, server)
	if !p.enter(c) {
		return
	}
	defer p.leave(c)
	c.run(hello)
}

// readHello reads the startup message or cancel request. Encryption is declined:
// the proxy has to read what passes.
func readHello(client net.Conn) ([]byte, error) {
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(client, head); err != nil {
			return nil, err
		}
		switch binary.BigEndian.Uint32(head[4:]) {
		case sslRequest, gssRequest:
			if _, err := client.Write([]byte{'N'}); err != nil {
				return nil, err
			}
			continue
		}
		size := binary.BigEndian.Uint32(head)
		if size < 8 || size > 1<<16 {
			return nil, io.ErrUnexpectedEOF
		}
		hello := make([]byte, size)
		copy(hello, head)
		_, err := io.ReadFull(client, hello[8:])
		return hello, err
	}
}

func (p *Proxy) enter(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.count++
	c.number = p.count
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}
