package postgres_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between the engine and the server as a pooler does: it hands out
// backend ids of its own, and it sees who asks for a cancellation.
type proxy struct {
	url     string
	cancels atomic.Int32
	changed atomic.Int32 // backend ids that were made up
}

// newProxy starts a proxy before the server of the URL. With pooler the backend
// ids are not the server's.
func newProxy(t testing.TB, server string, pooler bool) *proxy {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	behind := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	p := &proxy{url: u.String()}
	var all sync.WaitGroup
	t.Cleanup(func() { listener.Close(); all.Wait() })
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(client, behind, pooler) })
		}
	})
	return p
}

func (p *proxy) serve(client net.Conn, behind string, pooler bool) {
	defer client.Close()
	server, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	defer server.Close()
	hello := make([]byte, 8)
	if _, err := io.ReadFull(client, hello); err != nil {
		return
	}
	if binary.BigEndian.Uint32(hello[4:]) == 80877102 {
		p.cancels.Add(1)
	}
	if _, err := server.Write(hello); err != nil {
		return
	}
	go func() {
		io.Copy(server, client)
		server.(*net.TCPConn).CloseWrite()
	}()
	if pooler && !p.changeBackendID(client, server) {
		return
	}
	io.Copy(client, server)
}

// changeBackendID passes messages on up to BackendKeyData, whose id it changes.
func (p *proxy) changeBackendID(client, server net.Conn) bool {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return false
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return false
		}
		done := head[0] == 'K'
		if done {
			body[0] ^= 0x40
			p.changed.Add(1)
		}
		if _, err := client.Write(append(head, body...)); err != nil || done {
			return err == nil
		}
	}
}
