package faultproxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// conn is one connection through the proxy: two goroutines, one each way.
type conn struct {
	proxy          *Proxy
	number         int
	client, server net.Conn
	ended          chan struct{}
	endOnce        sync.Once

	mu       sync.Mutex
	prepared map[string]string // label by name of the prepared statement
	label    string            // of what was sent last
	failing  string            // SQLSTATE that the next error is to carry
	hideDone bool              // the next CommandComplete is of the proxy's own ROLLBACK
	muted    bool
	backend  uint32 // its process id, once it has told
}

func newConn(p *Proxy, client, server net.Conn) *conn {
	return &conn{proxy: p, client: client, server: server, ended: make(chan struct{}), prepared: map[string]string{}, label: "startup"}
}

// end closes the client's side at once and the server's so that it still reads
// what was sent to it.
func (c *conn) end() {
	c.endOnce.Do(func() {
		close(c.ended)
		c.client.Close()
		if tcp, ok := c.server.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // a server that is gone has nothing left to read
		}
	})
}

var errCut = errors.New("cut")

func (c *conn) run(hello []byte) {
	defer c.end()
	down := make(chan struct{})
	go func() {
		defer close(down)
		c.pump(ToClient, c.server, c.client)
		c.end()
		_, _ = io.Copy(io.Discard, c.server) // until the server has read the end
	}()
	if err := c.pass(c.server, frame{raw: hello}, ToServer); err == nil {
		c.pump(ToServer, c.client, c.server)
	}
	c.end()
	<-down
}

// frame is one message: its type byte, length and body.
type frame struct {
	kind byte
	raw  []byte
}

func (f frame) body() []byte { return f.raw[5:] }

func readFrame(r io.Reader) (frame, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > 1<<28 {
		return frame{}, fmt.Errorf("message %q of %d bytes", head[0], size)
	}
	raw := make([]byte, size+1)
	copy(raw, head)
	_, err := io.ReadFull(r, raw[5:])
	return frame{kind: head[0], raw: raw}, err
}

func (c *conn) pump(d Direction, from io.Reader, to net.Conn) {
	r, w := bufio.NewReaderSize(from, 1<<16), bufio.NewWriterSize(to, 1<<16)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if d == ToServer {
			c.note(f)
		}
		if err := c.pass(w, f, d); err != nil {
			_ = w.Flush() // what came before the cut still goes through
			return
		}
		if c.inError(d, f) {
			if err := c.skipToSync(r, w); err != nil {
				return
			}
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return
			}
		}
	}
}

// note keeps track of what the client is doing.
func (c *conn) note(f frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.kind {
	case 'Q':
		var q pgproto3.Query
		if q.Decode(f.body()) == nil {
			c.label = labelOf(q.String)
		}
	case 'P':
		var p pgproto3.Parse
		if p.Decode(f.body()) == nil {
			c.label = labelOf(p.Query)
			c.prepared[p.Name] = c.label
		}
	case 'B':
		var b pgproto3.Bind
		if b.Decode(f.body()) == nil {
			c.label = c.prepared[b.PreparedStatement]
		}
	}
}

// labelOf returns the name that a statement gives itself, or its first words.
func labelOf(sql string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(sql), "\n")
	if name, ok := strings.CutPrefix(first, "-- name: "); ok {
		return strings.TrimSpace(name)
	}
	return strings.ToLower(strings.TrimSpace(first))
}

// pass lets the script decide about a frame and carries the decision out.
func (c *conn) pass(w io.Writer, f frame, d Direction) error {
	c.mu.Lock()
	m := Message{Conn: c.number, Direction: d, Kind: f.kind, Label: c.label}
	muted := c.muted
	c.mu.Unlock()
	if muted {
		return nil
	}
	if d == ToClient && f.kind == 'C' {
		m.Tag = strings.TrimRight(string(f.body()), "\x00")
	}
	switch act := c.proxy.decide(m); act.kind {
	case cut:
		return errCut
	case cutPast:
		c.mu.Lock()
		c.muted = true // the answer may be quicker than the cut
		c.mu.Unlock()
		if err := c.write(w, f, d); err != nil {
			return err
		}
		return errCut
	case mute:
		c.mu.Lock()
		c.muted = true
		c.mu.Unlock()
		return nil
	case hold:
		if err := flush(w); err != nil {
			return err
		}
		if !c.wait(act) {
			return errCut
		}
	case fail:
		if d == ToServer {
			return c.spoil(w, f, act.code)
		}
	case fatal:
		c.tell(&pgproto3.ErrorResponse{
			Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: act.code, Message: "said by the fault proxy",
		})
		return errCut
	case warn:
		if d == ToClient {
			if _, err := w.Write(encoded(syncRepWarning)); err != nil {
				return err
			}
		}
	}
	return c.write(w, f, d)
}

func (c *conn) wait(act Act) bool {
	var timer <-chan time.Time
	if act.until == nil {
		timer = time.After(act.delay)
	}
	select {
	case <-act.until:
		return true
	case <-timer:
		return true
	case <-c.ended:
		return false
	}
}

// syncRepWarning is what a PostgreSQL says whose wait for the standby was
// cancelled (src/backend/replication/syncrep.c).
var syncRepWarning = &pgproto3.NoticeResponse{
	Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000",
	Message: "canceling wait for synchronous replication due to user request",
	Detail:  "The transaction has already committed locally, but might not have been replicated to the standby.",
}

// spoil sends something in place of f that the server refuses.
func (c *conn) spoil(w io.Writer, f frame, code string) error {
	c.mu.Lock()
	c.failing = code
	committing := f.kind == 'Q' && c.label == "commit"
	c.hideDone = committing
	c.mu.Unlock()
	var bad []byte
	switch {
	case committing: // a COMMIT that fails has rolled back
		bad = encoded(&pgproto3.Query{String: "rollback; select 1/0"})
	case f.kind == 'Q':
		bad = encoded(&pgproto3.Query{String: "select 1/0"})
	default:
		bad = encoded(&pgproto3.Parse{Query: "this fails"})
		if f.kind == 'S' {
			bad = append(bad, f.raw...)
		}
	}
	_, err := w.Write(bad)
	return err
}

// inError reports that the rest of an exchange is to be skipped, as the server
// does after an error in the extended protocol.
func (c *conn) inError(d Direction, f frame) bool {
	if d != ToServer || f.kind == 'Q' || f.kind == 'S' {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failing != ""
}

func (c *conn) skipToSync(r io.Reader, w *bufio.Writer) error {
	if err := w.Flush(); err != nil {
		return err
	}
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.kind == 'S' {
			_, err := w.Write(f.raw)
			return err
		}
	}
}

// write passes a frame on; on the way to the client it puts the wanted SQLSTATE
// on the error that the proxy provoked.
func (c *conn) write(w io.Writer, f frame, d Direction) error {
	if d == ToClient {
		var drop bool
		if f, drop = c.disguise(f); drop {
			return nil
		}
		c.trace(f)
	}
	_, err := w.Write(f.raw)
	return err
}

// trace notes which backend this is and when it is ready for the first time.
func (c *conn) trace(f frame) {
	switch {
	case f.kind == 'K' && len(f.body()) >= 4:
		c.mu.Lock()
		c.backend = binary.BigEndian.Uint32(f.body())
		c.mu.Unlock()
	case f.kind == 'Z':
		c.mu.Lock()
		backend := c.backend
		c.mu.Unlock()
		c.proxy.mu.Lock()
		c.proxy.working[backend] = true
		c.proxy.mu.Unlock()
	}
}

func (c *conn) disguise(f frame) (_ frame, drop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.kind == 'C' && c.hideDone:
		c.hideDone = false
		return f, true
	case f.kind == 'E' && c.failing != "":
		var e pgproto3.ErrorResponse
		if e.Decode(f.body()) == nil {
			e.Code, e.Message = c.failing, "said by the fault proxy"
			f.raw = encoded(&e)
		}
		c.failing = ""
	}
	return f, false
}

// tell says something to the client outside the stream of the server.
func (c *conn) tell(m pgproto3.BackendMessage) {
	_, _ = c.client.Write(encoded(m)) // a client that went away need not be told
}

func flush(w io.Writer) error {
	if b, ok := w.(*bufio.Writer); ok {
		return b.Flush()
	}
	return nil
}

func encoded(m pgproto3.Message) []byte {
	raw, err := m.Encode(nil)
	if err != nil {
		panic(err) // cannot happen: short texts of our own
	}
	return raw
}
