package postgres

import (
	"bytes"
	"cmp"
	be "encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/authserver/internal/refresh"
)

// rotation holds one batch in the protocol's binary form, in buffers that are
// used again. The hot path alone speaks it by itself; everything else leaves it
// to the driver, which looks each value's type up.
type rotation struct {
	order  []int // members in the order of their family ids
	values [15][]byte
	buffer [15][]byte
	// Lists that came last: rows of one batch mostly repeat them. They are
	// shared between outcomes, which nobody changes.
	audience, amr, roles repeated
	scope                repeatedText
}

var rotations = sync.Pool{New: func() any { return new(rotation) }}

// array builds one array parameter.
type array struct {
	b     []byte
	nulls bool
}

func newArray(b []byte, oid uint32, n int) array {
	b = be.BigEndian.AppendUint32(b[:0], 1) // dimensions
	b = be.BigEndian.AppendUint32(b, 0)     // has nulls, set at the end
	b = be.BigEndian.AppendUint32(b, oid)
	b = be.BigEndian.AppendUint32(b, uint32(n))
	return array{b: be.BigEndian.AppendUint32(b, 1)} // lower bound
}

func (a *array) bytes(v []byte) {
	a.b = append(be.BigEndian.AppendUint32(a.b, uint32(len(v))), v...)
}

func (a *array) text(v string) {
	a.b = append(be.BigEndian.AppendUint32(a.b, uint32(len(v))), v...)
}

func (a *array) int4(v int32) {
	a.b = be.BigEndian.AppendUint32(be.BigEndian.AppendUint32(a.b, 4), uint32(v))
}

func (a *array) int2(v int16) {
	a.b = be.BigEndian.AppendUint16(be.BigEndian.AppendUint32(a.b, 2), uint16(v))
}

func (a *array) null() {
	a.nulls = true
	a.b = be.BigEndian.AppendUint32(a.b, 0xffffffff)
}

func (a *array) interval(d time.Duration) {
	a.b = be.BigEndian.AppendUint32(a.b, 16)
	a.b = be.BigEndian.AppendUint64(a.b, uint64(d.Microseconds()))
	a.b = be.BigEndian.AppendUint64(a.b, 0) // days and months
}

func (a *array) done() []byte {
	if a.nulls {
		a.b[7] = 1
	}
	return a.b
}

// epoch is where the binary form of timestamptz counts microseconds from.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// board writes the parameters of rotateBatch. now is nil but in tests.
func (r *rotation) board(batch []refresh.Call, now *time.Time) {
	r.order = r.order[:0]
	for i := range batch {
		r.order = append(r.order, i)
	}
	slices.SortFunc(r.order, func(i, j int) int {
		return cmp.Or(batch[i].Attempt.Family.Compare(batch[j].Attempt.Family), cmp.Compare(i, j))
	})
	if r.values[0] = nil; now != nil {
		r.values[0] = be.BigEndian.AppendUint64(r.buffer[0][:0], uint64(now.Sub(epoch).Microseconds()))
		r.buffer[0] = r.values[0]
	}
	r.column(1, pgtype.UUIDOID, batch, func(a *array, c *refresh.Call) { a.bytes(c.Attempt.Family[:]) })
	r.column(2, pgtype.Int4OID, batch, func(a *array, c *refresh.Call) { a.int4(c.Attempt.Generation) })
	r.column(3, pgtype.Int2OID, batch, func(a *array, c *refresh.Call) { a.int2(int16(c.Attempt.Key)) })
	r.column(4, pgtype.ByteaOID, batch, func(a *array, c *refresh.Call) { a.bytes(c.Attempt.SecretHash[:]) })
	r.column(5, pgtype.TextOID, batch, func(a *array, c *refresh.Call) { a.text(clean(c.Attempt.Client)) })
	r.column(6, pgtype.TextOID, batch, func(a *array, c *refresh.Call) { a.text(string(c.Attempt.Transport)) })
	r.column(7, pgtype.ByteaOID, batch, func(a *array, c *refresh.Call) {
		if c.Attempt.RetryKey == (refresh.RetryKey{}) {
			a.null()
		} else {
			a.bytes(c.Attempt.RetryKey[:])
		}
	})
	r.column(8, pgtype.ByteaOID, batch, func(a *array, c *refresh.Call) { a.bytes(c.Attempt.Sender[:]) })
	r.column(9, pgtype.TextOID, batch, func(a *array, c *refresh.Call) { a.text(clean(c.Attempt.UserAgent)) })
	r.column(10, pgtype.TextOID, batch, func(a *array, c *refresh.Call) { a.text(clean(c.Attempt.IP)) })
	r.column(11, pgtype.Int2OID, batch, func(a *array, c *refresh.Call) { a.int2(int16(c.Attempt.NewKey)) })
	r.column(12, pgtype.IntervalOID, batch, func(a *array, c *refresh.Call) { a.interval(c.Policy.IdleTTL) })
	r.column(13, pgtype.TextOID, batch, func(a *array, c *refresh.Call) { a.text(string(strongest(c.Attempt.Proof))) })
	known := int64(math.MaxInt64) // the oldest keys of a member count for all
	for i := range batch {
		if keys := batch[i].Keys; keys > 0 {
			known = min(known, keys)
		}
	}
	r.buffer[14] = be.BigEndian.AppendUint64(r.buffer[14][:0], uint64(known))
	r.values[14] = r.buffer[14]
}

// strongest returns the one binding that is said to the statement to be proven.
func strongest(p refresh.Proof) refresh.Binding {
	switch {
	case p.DPoP != "":
		return refresh.ToDPoP(p.DPoP)
	case p.Certificate != "":
		return refresh.ToCertificate(p.Certificate)
	case p.Secret || p.ClientKey:
		return refresh.ToClient
	default:
		return refresh.Unbound
	}
}

func (r *rotation) column(i int, oid uint32, batch []refresh.Call, add func(*array, *refresh.Call)) {
	a := newArray(r.buffer[i], oid, len(batch))
	for _, m := range r.order {
		add(&a, &batch[m])
	}
	r.values[i] = a.done()
	r.buffer[i] = r.values[i]
}

// rotatedColumns is how many columns rotateBatch returns.
const rotatedColumns = 23

// land reads the rows that rotateBatch returned into outcomes. It reads all
// that the row does not say from the call. An error says that the answer was
// not understood; the statement may have committed.
func (r *rotation) land(result *pgconn.ResultReader, batch []refresh.Call, outcomes []*refresh.Outcome) error {
	slab := make([]refresh.Outcome, 0, len(batch))
	for result.NextRow() {
		row := columns{values: result.Values()}
		if len(row.values) != rotatedColumns {
			return fmt.Errorf("a rotated row has %d columns; want %d", len(row.values), rotatedColumns)
		}
		n := int(row.int8())
		if n < 1 || n > len(r.order) || len(slab) == cap(slab) {
			return fmt.Errorf("a rotated row belongs to member %d of %d", n, len(r.order))
		}
		member := r.order[n-1]
		a := &batch[member].Attempt
		slab = append(slab, refresh.Outcome{Verdict: refresh.Rotated, Reason: refresh.ReasonHead, Row: 6, Writes: true})
		out := &slab[len(slab)-1]
		f := &out.Next
		f.ID, f.Client, f.Transport, f.SecretHash = a.Family, a.Client, a.Transport, a.SecretHash
		f.Rotates = true
		f.UserAgent, f.IP, f.Sender, f.RetryKey = clean(a.UserAgent), clean(a.IP), a.Sender, a.RetryKey
		f.Generation, f.HeadKey = a.Generation+1, a.NewKey

		row.uuid((*[16]byte)(&f.Session))
		row.uuid((*[16]byte)(&f.User))
		f.Scope = r.scope.of(row.next())
		f.Audience = r.audience.of(row.next(), &row)
		f.AuthTime = row.instant()
		f.AMR = r.amr.of(row.next(), &row)
		f.Binding = refresh.Binding(row.next())
		f.Remembered = row.bool()
		f.IdleTTL = row.interval()
		f.BornAt = row.instant()
		f.AbsoluteEnd = row.instant()
		f.KeyFresh = row.bool()
		f.ForeignStreak = row.int2()
		f.LateAt = row.instant()
		f.RefusedAt = row.instant()
		f.RefusedAs = refresh.Reason(row.next())
		f.RefusedRequest = string(row.next())
		f.Roles = r.roles.of(row.next(), &row)
		floor := row.instant()
		f.Floor = floorAt(&floor)
		out.Now = row.instant()
		f.HeadBorn, f.UsedAt = out.Now, out.Now
		f.TokensFrom = row.instant()
		f.StatusIndex = row.int8()
		if row.err != nil {
			return row.err
		}
		outcomes[member] = out
	}
	return nil
}

// columns reads binary values from left to right; the first misfit stays in err.
type columns struct {
	values [][]byte
	at     int
	err    error
}

func (c *columns) next() []byte {
	v := c.values[c.at]
	c.at++
	return v
}

func (c *columns) sized(n int) []byte {
	v := c.next()
	if len(v) != n {
		if c.err == nil {
			c.err = fmt.Errorf("column %d of a rotated row has %d bytes; want %d", c.at, len(v), n)
		}
		return make([]byte, n)
	}
	return v
}

func (c *columns) int8() int64 { return int64(be.BigEndian.Uint64(c.sized(8))) }
func (c *columns) int2() int16 { return int16(be.BigEndian.Uint16(c.sized(2))) }
func (c *columns) bool() bool  { return c.sized(1)[0] != 0 }

func (c *columns) uuid(to *[16]byte) { copy(to[:], c.sized(16)) }

func (c *columns) instant() time.Time {
	if c.values[c.at] == nil {
		c.at++
		return time.Time{}
	}
	return time.UnixMicro(c.int8() + epoch.UnixMicro()).UTC()
}

// interval reads an interval as the driver does: this package writes
// microseconds only, but an operator's hand may have written days.
func (c *columns) interval() time.Duration {
	v := c.sized(16)
	days := time.Duration(int32(be.BigEndian.Uint32(v[8:]))) + 30*time.Duration(int32(be.BigEndian.Uint32(v[12:])))
	return time.Duration(be.BigEndian.Uint64(v))*time.Microsecond + days*24*time.Hour
}

// texts reads a text[] without nulls.
func (c *columns) texts(v []byte) []string {
	misfit := func() []string {
		if c.err == nil {
			c.err = fmt.Errorf("column %d of a rotated row is no list of texts", c.at)
		}
		return nil
	}
	if len(v) < 12 {
		return misfit()
	}
	if be.BigEndian.Uint32(v) == 0 {
		return []string{}
	}
	if len(v) < 20 || be.BigEndian.Uint32(v) != 1 {
		return misfit()
	}
	n := int(be.BigEndian.Uint32(v[12:]))
	v = v[20:]
	list := make([]string, 0, min(n, 64))
	for range n {
		if len(v) < 4 {
			return misfit()
		}
		size := int(int32(be.BigEndian.Uint32(v)))
		if size < 0 || len(v) < 4+size {
			return misfit()
		}
		list = append(list, string(v[4:4+size]))
		v = v[4+size:]
	}
	return list
}

// repeated remembers the last list and its bytes.
type repeated struct {
	bytes []byte
	list  []string
}

func (r *repeated) of(v []byte, c *columns) []string {
	if r.list == nil || !bytes.Equal(v, r.bytes) {
		r.list, r.bytes = c.texts(v), append(r.bytes[:0], v...)
	}
	return r.list
}

// repeatedText remembers the last text.
type repeatedText struct{ last string }

func (r *repeatedText) of(v []byte) string {
	if r.last != string(v) {
		r.last = string(v)
	}
	return r.last
}
