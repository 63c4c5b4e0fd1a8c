package faultproxy

import "time"

// Direction is the way a message goes.
type Direction uint8

// The directions.
const (
	ToServer Direction = iota + 1
	ToClient
)

// String names the direction in a test's messages.
func (d Direction) String() string {
	if d == ToServer {
		return "to the server"
	}
	return "to the client"
}

// Message is one protocol message on its way, as a script sees it.
type Message struct {
	// Conn numbers the connections from 1 in the order in which they came.
	Conn int
	Direction
	// Kind is the type byte of the protocol (PostgreSQL documentation, "Message
	// Formats"); 0 for the startup message.
	Kind byte
	// Label says what the connection is doing: what follows "-- name: " in the
	// statement that was sent last, or the statement itself where it has no
	// name, as "commit".
	Label string
}

// Act is what happens to a message. The zero Act lets it pass.
type Act struct {
	kind  string
	delay time.Duration
	until <-chan struct{}
	code  string
}

// Kind names the act for counts: "cut", "error 40001".
func (a Act) Kind() string {
	if a.code != "" {
		return a.kind + " " + a.code
	}
	return a.kind
}

// The kinds of acts.
const (
	pass    = ""
	cut     = "cut"
	cutPast = "cut after"
	mute    = "mute"
	hold    = "hold"
	fail    = "error"
	fatal   = "fatal"
	warn    = "warning"
)

// Cut ends the connection on both sides in place of this message. What was
// passed on before is still read and carried out by the server.
func Cut() Act { return Act{kind: cut} }

// CutAfter passes the message on and then ends the connection.
func CutAfter() Act { return Act{kind: cutPast} }

// Mute swallows this message and all that follow on the connection, either way,
// and keeps it open: a network that drops packets.
func Mute() Act { return Act{kind: mute} }

// Delay passes the message on after d.
func Delay(d time.Duration) Act { return Act{kind: hold, delay: d} }

// Hold passes the message on when until is closed.
func Hold(until <-chan struct{}) Act { return Act{kind: hold, until: until} }

// Fail has the server refuse what the message asks for, in truth: the statement
// is replaced by one that fails, so that transaction and protocol are in the
// state they would be in, and the error carries the SQLSTATE code. Only for
// messages to the server.
func Fail(code string) Act { return Act{kind: fail, code: code} }

// Fatal answers with a fatal error of this SQLSTATE and ends the connection, as
// a server does that shuts down or has no connection left. What was passed on
// before is carried out.
func Fatal(code string) Act { return Act{kind: fatal, code: code} }

// Warn puts a warning before the message: the one with which PostgreSQL commits
// although the wait for its synchronous standby was cut short. Only for messages
// to the client.
func Warn() Act { return Act{kind: warn} }
