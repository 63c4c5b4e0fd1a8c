package postgres

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/refresh"
)

// SweepRest implements store.Engine. One request in thirteen is under way beside a batch, so
// that the p99 of all stays where it is only because a batch of few rows takes a
// millisecond or two.
func (db *DB) SweepRest() int { return 12 }

// sweepPages is how many pages of the table one Sweep looks at.
const sweepPages = 64

// sweepLook chooses dead families between two rows, and sweepBury deletes those that
// are still there, dead and free. A scan of a range of rows goes through it in order;
// to ask for the order would make PostgreSQL read the whole range before it takes the
// first few. sweepSessions deletes the sessions that this leaves empty.
//
// The order of the locks is that of every end, families before sessions; nobody's
// family is waited for, so that the order in which they are taken closes no circle.
const (
	sweepDead = `COALESCE(f.ended_at, least(f.absolute_end, f.used_at + least(f.idle_ttl, $1::interval))) < $2`
	sweepLook = `-- name: refresh.sweep_look
		SELECT f.ctid, f.session_id FROM families f
		WHERE f.ctid > $3 AND f.ctid < $4
			AND ` + sweepDead + `
		LIMIT $5`
	sweepBury = `-- name: refresh.sweep_families
		DELETE FROM families WHERE ctid = ANY (ARRAY (
			SELECT f.ctid FROM families f
			WHERE f.ctid = ANY ($3::tid[])
				AND ` + sweepDead + `
			FOR UPDATE SKIP LOCKED))`
	sweepSessions = `-- name: refresh.sweep_sessions
		DELETE FROM sessions WHERE id IN (
			SELECT s.id FROM sessions s
			WHERE s.id = ANY ($1::uuid[]) AND NOT EXISTS (SELECT FROM families f WHERE f.session_id = s.id)
			ORDER BY s.id FOR UPDATE)`
)

// Sweep implements refresh.Store. A place is a block and the number of a row in
// it. Family rows that somebody holds are left for the next round.
func (s Families) Sweep(ctx context.Context, from refresh.Place, limit int, p refresh.Policy, before time.Time) (next refresh.Place, deleted int, err error) {
	var begin, end pgtype.TID
	var dead []pgtype.TID
	var sessions [][16]byte
	err = s.db.read(ctx, "refresh.sweep_look", func(ctx context.Context, c *pgxpool.Conn) error {
		var pages int64
		err := c.QueryRow(ctx, `-- name: refresh.sweep_size
			SELECT pg_relation_size('families') / current_setting('block_size')::bigint`).Scan(&pages)
		if err != nil {
			return err
		}
		begin = tidOf(from, pages)
		end = pgtype.TID{BlockNumber: begin.BlockNumber + sweepPages, Valid: true}
		if next = placeOf(end); int64(end.BlockNumber) >= pages {
			next = refresh.Edge
		}
		rows, err := c.Query(ctx, sweepLook, p.IdleTTL, before, begin, end, limit)
		if err != nil {
			return err
		}
		dead, sessions = nil, nil
		var row pgtype.TID
		var session [16]byte
		_, err = pgx.ForEachRow(rows, []any{&row, &session}, func() error {
			dead, sessions = append(dead, row), append(sessions, session)
			return nil
		})
		return err
	})
	if err != nil {
		return from, 0, err
	}
	if len(dead) == 0 {
		return next, 0, nil
	}
	if len(dead) == limit {
		next = placeOf(slices.MaxFunc(dead, func(a, b pgtype.TID) int { return cmp.Compare(placeOf(a), placeOf(b)) }))
	}
	err = s.db.transact(ctx, "refresh.sweep", lockPatience, transaction{
		first: func(b *pgx.Batch) {
			// What a crash brings back is swept again.
			b.Queue(`-- name: refresh.sweep_no_hurry
				SELECT set_config('synchronous_commit', 'off', true)`)
			b.Queue(sweepBury, p.IdleTTL, before, dead).Exec(count(&deleted))
		},
		act: func(context.Context, pgx.Tx) (*pgx.Batch, error) {
			last := new(pgx.Batch)
			last.Queue(sweepSessions, sessions)
			return last, nil
		},
	})
	if err != nil {
		return next, 0, err
	}
	return next, deleted, nil
}

func placeOf(t pgtype.TID) refresh.Place {
	return refresh.Place(t.BlockNumber)<<16 | refresh.Place(t.OffsetNumber)
}

// tidOf is the row of that place in a table of so many pages.
func tidOf(p refresh.Place, pages int64) pgtype.TID {
	if p == refresh.Anywhere {
		p = refresh.Place(rand.Int64N(max(pages, 1))) << 16
	}
	return pgtype.TID{BlockNumber: uint32(p >> 16), OffsetNumber: uint16(p), Valid: true}
}
