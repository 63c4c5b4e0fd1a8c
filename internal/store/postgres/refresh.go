package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// Families implements refresh.Store.
type Families struct{ db *DB }

// selectFamilies reads families and what is read along with them; a WHERE
// clause completes it. The clock is the start of the statement's transaction;
// whoever waits for the row lock reads the clock again afterwards.
const selectFamilies = `-- name: refresh.family
	SELECT f.id, f.session_id, f.user_id, f.client, f.secret_hash, f.scope, f.audience, f.auth_time, f.amr,
		f.binding, f.transport, f.rotates, f.remembered, f.idle_ttl, f.born_at, f.absolute_end,
		f.user_agent, f.ip, f.sender, f.generation, f.head_key, f.foreign_streak, f.foreign_seen, f.key_fresh,
		f.head_born, f.used_at, f.retry_key, f.late_at,
		f.ended_at, f.end_reason, f.end_request, f.refused_at, f.refused_as, f.refused_request,
		u.disabled_at IS NOT NULL, u.roles, s.floor, greatest(u.tokens_from, s.tokens_from), COALESCE(f.status_index, 0),
		f.roles IS NULL, COALESCE(s.ring_revision, 0), COALESCE($1::timestamptz, now())
	FROM families f JOIN users u ON u.id = f.user_id LEFT JOIN server_state s ON true`

const selectFamily = selectFamilies + `
	WHERE f.id = $2`

const holdFamily = `-- name: refresh.hold
	SELECT FROM families WHERE id = $1 FOR UPDATE`

// reading is a row of selectFamilies.
type reading struct {
	family   *refresh.Family // nil without a row
	newcomer bool            // the row does not know its user: see rotateNewcomers
	revision int64           // of the keys in the store
	now      time.Time
}

func scanFamily(row pgx.Row) (r reading, err error) {
	var (
		f                                refresh.Family
		hash, sender, retryKey           []byte
		headKey                          int16
		late, ended, refused, floor      *time.Time
		tokensFrom                       *time.Time
		endReason, endRequest, refusedAs *string
		refusedRequest                   *string
		binding, transport               string
		fid, session, user               = (*[16]byte)(&f.ID), (*[16]byte)(&f.Session), (*[16]byte)(&f.User)
	)
	err = row.Scan(fid, session, user, &f.Client, &hash, &f.Scope, &f.Audience, &f.AuthTime, &f.AMR,
		&binding, &transport, &f.Rotates, &f.Remembered, &f.IdleTTL, &f.BornAt, &f.AbsoluteEnd,
		&f.UserAgent, &f.IP, &sender, &f.Generation, &headKey, &f.ForeignStreak, &f.ForeignSeen, &f.KeyFresh,
		&f.HeadBorn, &f.UsedAt, &retryKey, &late,
		&ended, &endReason, &endRequest, &refused, &refusedAs, &refusedRequest,
		&f.Disabled, &f.Roles, &floor, &tokensFrom, &f.StatusIndex, &r.newcomer, &r.revision, &r.now)
	if errors.Is(err, pgx.ErrNoRows) {
		return reading{}, nil
	}
	if err != nil {
		return reading{}, err
	}
	f.Binding, f.Transport, f.HeadKey = refresh.Binding(binding), refresh.Transport(transport), uint8(headKey)
	copy(f.SecretHash[:], hash)
	copy(f.Sender[:], sender)
	copy(f.RetryKey[:], retryKey)
	f.LateAt, f.EndedAt, f.RefusedAt, f.Floor, f.TokensFrom = at(late), at(ended), at(refused), floorAt(floor), at(tokensFrom)
	f.EndReason, f.EndRequest = reasonOf(endReason), text(endRequest)
	f.RefusedAs, f.RefusedRequest = refresh.Reason(text(refusedAs)), text(refusedRequest)
	r.family = &f
	return r, nil
}

// Family implements refresh.Store.
func (s Families) Family(ctx context.Context, fid id.Family) (f *refresh.Family, now time.Time, err error) {
	r, err := s.read(ctx, fid)
	return r.family, r.now, err
}

func (s Families) read(ctx context.Context, fid id.Family) (r reading, err error) {
	err = s.db.read(ctx, "refresh.family", func(ctx context.Context, c *pgxpool.Conn) error {
		r, err = scanFamily(c.QueryRow(ctx, selectFamily, s.db.clock(), [16]byte(fid)))
		if r.family == nil && err == nil {
			r.now, err = s.db.transactionNow(ctx, c)
		}
		return err
	})
	return r, err
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (db *DB) transactionNow(ctx context.Context, q querier) (now time.Time, err error) {
	err = q.QueryRow(ctx, `-- name: clock.now
		SELECT COALESCE($1::timestamptz, now())`, db.clock()).Scan(&now)
	return now, err
}

// wallNow reads the clock of this very moment: after a wait for locks the
// transaction's own now() lies before what others committed meanwhile.
const wallNow = `-- name: clock.wall
	SELECT COALESCE($1::timestamptz, clock_timestamp())`

// Redeem implements refresh.Store.
func (s Families) Redeem(ctx context.Context, c refresh.Call, wait time.Duration) (refresh.Outcome, error) {
	c.Attempt = cleaned(c.Attempt)
	r, err := s.read(ctx, c.Attempt.Family)
	if err != nil {
		return refresh.Outcome{}, err
	}
	if c.Stale(r.revision) {
		return refresh.Outcome{}, refresh.ErrStaleKeys
	}
	f := r.family
	if r.newcomer && f.EndedAt.IsZero() {
		s.db.newcomers.Store(time.Now().Add(newcomersFor).Unix())
	}
	out := refresh.Judge(f, c.Attempt, r.now, c.Policy)
	// A second round is needed only where the family changed in between so
	// that it now ends: the user's row must be locked before the family's.
	for ends := out.Ends; f != nil && out.LeavesTrace(c); {
		var settled bool
		out, settled, err = s.settle(ctx, c, f.User, ends, wait)
		switch {
		case isLocked(err):
			return refresh.Outcome{}, fmt.Errorf("%w: %w", refresh.ErrLocked, err)
		case err != nil:
			return refresh.Outcome{}, err
		case settled:
			return out, nil
		}
		ends = true
	}
	return out, nil
}

// settle judges once more under the locks and carries the outcome out. It
// reports false, with nothing written, when the family must be ended and the
// user's row was not locked.
func (s Families) settle(ctx context.Context, c refresh.Call, user id.User, ends bool, wait time.Duration) (out refresh.Outcome, settled bool, err error) {
	err = s.db.writeWithin(ctx, "refresh.settle", wait, func(ctx context.Context, tx pgx.Tx) error {
		r, err := s.lock(ctx, tx, c.Attempt.Family, user, ends)
		if err != nil {
			return err
		}
		if c.Stale(r.revision) { // a root key may have been revoked while this waited
			return refresh.ErrStaleKeys
		}
		f, now := r.family, r.now
		out, settled = refresh.Judge(f, c.Attempt, now, c.Policy), true
		switch {
		case !out.LeavesTrace(c):
			return errNothing
		case out.Ends && !ends:
			settled = false
			return errNothing
		case out.Ends:
			_, err = endFamilies(ctx, tx, now, ending{
				user: f.User, family: f.ID, reason: refresh.EndedByReuse, actor: audit.BySystem, requestID: c.Attempt.RequestID,
			})
		case out.Writes:
			err = writeMoving(ctx, tx, &out.Next)
		}
		if err != nil {
			return err
		}
		return addEvents(ctx, tx, now, out.AuditEvents(f, c.Attempt)...)
	})
	return out, settled, err
}

// lock takes the user's row, if asked to, and then the family's, and reads it, what is
// read along with it and the clock: one round trip. The statement that waits for the row
// would go on with the user and the floor from before its wait; so another one reads.
func (s Families) lock(ctx context.Context, tx pgx.Tx, fid id.Family, user id.User, alsoUser bool) (r reading, err error) {
	var b pgx.Batch
	if alsoUser {
		b.Queue(lockUsers, [][16]byte{user})
	}
	b.Queue(holdFamily, [16]byte(fid))
	b.Queue(selectFamily, s.db.clock(), [16]byte(fid)).QueryRow(func(row pgx.Row) (err error) {
		r, err = scanFamily(row)
		return err
	})
	b.Queue(wallNow, s.db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&r.now) })
	err = tx.SendBatch(ctx, &b).Close()
	return r, err
}

// writeMoving writes what a verdict may move; the row is locked.
func writeMoving(ctx context.Context, tx pgx.Tx, n *refresh.Family) error {
	var retryKey []byte
	if n.RetryKey != (refresh.RetryKey{}) {
		retryKey = n.RetryKey[:]
	}
	_, err := tx.Exec(ctx, `-- name: refresh.write_moving
		UPDATE families SET user_agent = $2, ip = $3, sender = $4, generation = $5, head_key = $6,
			foreign_streak = $7, foreign_seen = $8, key_fresh = $9, head_born = $10, used_at = $11,
			retry_key = $12, late_at = $13, refused_at = $14, refused_as = $15, refused_request = $16
		WHERE id = $1`,
		[16]byte(n.ID), n.UserAgent, n.IP, n.Sender[:], n.Generation, int16(n.HeadKey),
		n.ForeignStreak, n.ForeignSeen, n.KeyFresh, n.HeadBorn, n.UsedAt,
		retryKey, orNull(n.LateAt), orNull(n.RefusedAt), nullText(string(n.RefusedAs)), nullText(n.RefusedRequest))
	return err
}

func cleaned(a refresh.Attempt) refresh.Attempt {
	a.UserAgent, a.IP, a.RequestID = clean(a.UserAgent), clean(a.IP), clean(a.RequestID)
	return a
}
