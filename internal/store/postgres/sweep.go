package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/refresh"
)

// SweepPace implements store.Engine. One request in five is under way beside a sweep, so
// that the p99 of all stays where it is only because a sweep of few rows keeps a core for
// half a millisecond: 25 rows cost the p99 of a quiet machine two thirds.
func (db *DB) SweepPace() (families, rest int) { return 5, 4 }

// sweepPages is how many pages of the table one Sweep looks at.
const sweepPages = 64

// sweepDead deletes dead families between two rows that nobody holds, and the sessions
// that this leaves empty. A scan of a range of rows goes through it in order; to ask for
// the order would make PostgreSQL read the whole range before it takes the first few.
// sweepLook says which families it would choose.
//
// All of it sees the table as it was before, so that the families that go have to be
// taken off those that keep a session. The order of the locks is that of every end,
// families before sessions, because the sessions are sorted; nobody's family is waited
// for, so that the order in which they are taken closes no circle.
const (
	sweepChoice = `FROM families f
		WHERE f.ctid > $3 AND f.ctid < $4
			AND COALESCE(f.ended_at, least(f.absolute_end, f.used_at + least(f.idle_ttl, $1::interval))) < $2
		LIMIT $5`
	sweepDead = `-- name: refresh.sweep
		WITH gone AS (
			DELETE FROM families WHERE ctid = ANY (ARRAY (SELECT f.ctid ` + sweepChoice + ` FOR UPDATE SKIP LOCKED))
			RETURNING ctid AS place, id, session_id
		), emptied AS (
			DELETE FROM sessions WHERE id = ANY (ARRAY (
				SELECT s.id FROM sessions s
				WHERE s.id = ANY (ARRAY (SELECT session_id FROM gone))
					AND NOT EXISTS (SELECT FROM families f
						WHERE f.session_id = s.id AND f.id <> ALL (ARRAY (SELECT id FROM gone)))
				ORDER BY s.id FOR UPDATE))
		)
		SELECT place FROM gone`
	sweepLook = `-- name: refresh.sweep_look
		SELECT f.ctid ` + sweepChoice
	sweepSize = `-- name: refresh.sweep_size
		SELECT pg_relation_size('families') / current_setting('block_size')::bigint`
)

// Sweep implements refresh.Store. A place is a block and the number of a row in
// it. Family rows that somebody holds are left for the next round.
//
// It takes one round trip: how long a sweep takes decides how long it rests, and to
// wait for the network is no work.
func (s Families) Sweep(ctx context.Context, from refresh.Place, limit int, p refresh.Policy, before time.Time) (next refresh.Place, deleted int, err error) {
	if from == refresh.Anywhere {
		if from, err = s.anywhere(ctx); err != nil {
			return refresh.Anywhere, 0, err
		}
	}
	begin, end := stretch(from)
	var pages int64
	var gone swept
	err = s.db.atOnce(ctx, "refresh.sweep", lockPatience, func(b *pgx.Batch) {
		// What a crash brings back is swept again. In a large table PostgreSQL would plan each
		// time, an eighth of the work for five rows.
		b.Queue(`-- name: refresh.sweep_no_hurry
			SELECT set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`)
		b.Queue(sweepSize).QueryRow(func(row pgx.Row) error { return row.Scan(&pages) })
		b.Queue(sweepDead, p.IdleTTL, before, begin, end, limit).Query(gone.read)
	})
	if err != nil {
		return s.past(ctx, from, limit, p, before), 0, err
	}
	return gone.next(end, limit, pages), gone.families, nil
}

// swept are the families of one sweep, and the last row of them.
type swept struct {
	last     refresh.Place
	families int
}

func (s *swept) read(rows pgx.Rows) error {
	*s = swept{}
	var row pgtype.TID
	_, err := pgx.ForEachRow(rows, []any{&row}, func() error {
		s.last, s.families = max(s.last, placeOf(row)), s.families+1
		return nil
	})
	return err
}

// next is the place after a sweep up to the row end of a table of so many pages.
func (s *swept) next(end pgtype.TID, limit int, pages int64) refresh.Place {
	switch {
	case s.families == limit:
		return s.last
	case int64(end.BlockNumber) >= pages:
		return refresh.Edge
	}
	return placeOf(end)
}

// past is the place behind the rows that a sweep failed to delete; from itself when the
// database does not say.
func (s Families) past(ctx context.Context, from refresh.Place, limit int, p refresh.Policy, before time.Time) (next refresh.Place) {
	begin, end := stretch(from)
	err := s.db.read(ctx, "refresh.sweep_past", func(ctx context.Context, c *pgxpool.Conn) error {
		var pages int64
		if err := c.QueryRow(ctx, sweepSize).Scan(&pages); err != nil {
			return err
		}
		rows, err := c.Query(ctx, sweepLook, p.IdleTTL, before, begin, end, limit)
		if err != nil {
			return err
		}
		var stuck swept
		if err := stuck.read(rows); err != nil {
			return err
		}
		next = stuck.next(end, limit, pages)
		return nil
	})
	if err != nil {
		return from
	}
	return next
}

func placeOf(t pgtype.TID) refresh.Place {
	return refresh.Place(t.BlockNumber)<<16 | refresh.Place(t.OffsetNumber)
}

func tidOf(p refresh.Place) pgtype.TID {
	return pgtype.TID{BlockNumber: uint32(p >> 16), OffsetNumber: uint16(p), Valid: true}
}

// stretch is what one sweep looks at: the rows between two.
func stretch(from refresh.Place) (begin, end pgtype.TID) {
	begin = tidOf(from)
	return begin, pgtype.TID{BlockNumber: begin.BlockNumber + sweepPages, Valid: true}
}

// anywhere is the beginning of some page of the table.
func (s Families) anywhere(ctx context.Context) (place refresh.Place, err error) {
	err = s.db.read(ctx, "refresh.sweep_size", func(ctx context.Context, c *pgxpool.Conn) error {
		var pages int64
		err := c.QueryRow(ctx, sweepSize).Scan(&pages)
		place = refresh.Place(rand.Int64N(max(pages, 1))) << 16
		return err
	})
	return place, err
}
