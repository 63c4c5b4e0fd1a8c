package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"modernc.org/sqlite"

	"example.com/authserver/internal/id"
)

// conn is one connection of the driver with the statements prepared on it. It
// is used by one goroutine at a time.
//
// Everything runs on context.Background(): the driver answers the end of a
// context with sqlite3_interrupt, which would tear a statement out of the
// middle of a transaction, and costs a goroutine per statement. Statements are
// short; what may take long asks its context between them.
type conn struct {
	raw        rawConn
	statements map[string]statement
	args       []driver.NamedValue
	row        row
}

// rawConn is what this package uses of the driver's connection.
type rawConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	sqlite.DBStatus
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

var background = context.Background()

// dial opens a connection and runs the pragmas on it.
func dial(dsn string, pragmas []string) (*conn, error) {
	raw, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw.(rawConn), statements: make(map[string]statement)}
	for _, p := range pragmas {
		if _, err := c.raw.ExecContext(background, "PRAGMA "+p, nil); err != nil {
			c.close()
			return nil, fmt.Errorf("pragma %s: %w", p, err)
		}
	}
	return c, nil
}

func (c *conn) close() {
	for _, s := range c.statements {
		_ = s.Close()
	}
	_ = c.raw.Close() // what was committed is committed
}

// prepare returns the statement of that text, which is compiled once. All
// texts are constants of this package, but for the few of audit.go, so the map
// does not grow without bound.
func (c *conn) prepare(sql string) (statement, error) {
	if s, ok := c.statements[sql]; ok {
		return s, nil
	}
	prepared, err := c.raw.PrepareContext(background, sql)
	if err != nil {
		return nil, err
	}
	s := prepared.(statement)
	c.statements[sql] = s
	return s, nil
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(sql string, args ...any) (int, error) {
	s, err := c.prepare(sql)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(background, c.bind(args))
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// each runs a statement to its end and calls scan for every row. scan must not
// use c.
func (c *conn) each(sql string, args []any, scan func(r *row)) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(background, c.bind(args))
	if err != nil {
		return err
	}
	r := &c.row
	r.start(len(rows.Columns()))
	for {
		if err = rows.Next(r.values); err != nil {
			break
		}
		r.next = 0
		scan(r)
		if err = r.err; err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if closeErr := rows.Close(); err == nil {
		err = closeErr
	}
	return err
}

// one is each for statements of at most one row; it reports whether there was
// one.
func (c *conn) one(sql string, args []any, scan func(r *row)) (found bool, err error) {
	err = c.each(sql, args, func(r *row) {
		found = true
		scan(r)
	})
	return found, err
}

// bind turns arguments into what the driver takes. Instants and durations
// become microseconds, zero instants NULL; ids BLOBs; lists of strings JSON.
func (c *conn) bind(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: value(a)})
	}
	return c.args
}

func value(a any) driver.Value {
	switch v := a.(type) {
	case nil, int64, string, []byte:
		return v
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case int16:
		return int64(v)
	case uint8:
		return int64(v)
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return v.UnixMicro()
	case time.Duration:
		return v.Microseconds()
	case id.User:
		return v[:]
	case id.Session:
		return v[:]
	case id.Family:
		return v[:]
	case id.Event:
		return v[:]
	case []string:
		return list(v)
	default:
		panic(fmt.Sprintf("sqlite: no column holds a %T", a))
	}
}

func list(v []string) string {
	if len(v) == 0 {
		return "[]"
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(text)
}

// orNull is an id that may be absent.
func orNull[Kind any](i id.Of[Kind]) any {
	if i.IsZero() {
		return nil
	}
	return i[:]
}

// row reads the columns of one row from left to right. The first column of
// another type than expected makes an error, which each returns.
type row struct {
	values []driver.Value
	next   int
	err    error
}

func (r *row) start(columns int) {
	if cap(r.values) < columns {
		r.values = make([]driver.Value, columns)
	}
	r.values, r.next, r.err = r.values[:columns], 0, nil
}

var errColumns = errors.New("a statement has fewer columns than are read of it")

func (r *row) take() driver.Value {
	if r.next >= len(r.values) {
		r.err = errColumns
		return nil
	}
	v := r.values[r.next]
	r.next++
	return v
}

func (r *row) wrong(v driver.Value, want string) {
	if r.err == nil {
		r.err = fmt.Errorf("column %d holds a %T; want %s", r.next, v, want)
	}
}

// integer reads an INTEGER; NULL is 0.
func (r *row) integer() int64 {
	switch v := r.take().(type) {
	case int64:
		return v
	case nil:
		return 0
	default:
		r.wrong(v, "an integer")
		return 0
	}
}

func (r *row) boolean() bool { return r.integer() != 0 }

// text reads a TEXT; NULL is empty.
func (r *row) text() string {
	switch v := r.take().(type) {
	case string:
		return v
	case nil:
		return ""
	default:
		r.wrong(v, "text")
		return ""
	}
}

// blob reads a BLOB; NULL is nil.
func (r *row) blob() []byte {
	switch v := r.take().(type) {
	case []byte:
		return v
	case nil:
		return nil
	default:
		r.wrong(v, "a blob")
		return nil
	}
}

// fill reads a BLOB of the length of to; NULL is all zeros.
func (r *row) fill(to []byte) {
	v := r.blob()
	if v == nil {
		clear(to)
		return
	}
	if len(v) != len(to) {
		r.wrong(v, fmt.Sprintf("%d bytes", len(to)))
		return
	}
	copy(to, v)
}

// instant reads microseconds; NULL is the zero instant.
func (r *row) instant() time.Time {
	switch v := r.take().(type) {
	case int64:
		return time.UnixMicro(v).UTC()
	case nil:
		return time.Time{}
	default:
		r.wrong(v, "an instant")
		return time.Time{}
	}
}

// duration reads microseconds.
func (r *row) duration() time.Duration { return time.Duration(r.integer()) * time.Microsecond }

// list reads a JSON array of strings; an empty one is nil.
func (r *row) list() []string {
	text := r.text()
	if text == "" || text == "[]" {
		return nil
	}
	var v []string
	if err := json.Unmarshal([]byte(text), &v); err != nil && r.err == nil {
		r.err = fmt.Errorf("column %d is no list of strings: %w", r.next, err)
	}
	return v
}
