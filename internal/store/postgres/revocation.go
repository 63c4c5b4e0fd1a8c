package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/revocation"
)

// Revocations implements revocation.Store.
type Revocations struct{ db *DB }

// Read implements revocation.Store. The idle read is one statement that finds
// nothing by two indexes.
func (s Revocations) Read(ctx context.Context, after int64, limit int) (page revocation.Page, err error) {
	page, waiting, err := s.page(ctx, after, limit)
	if err != nil || !waiting {
		return page, err
	}
	if err := s.number(ctx, limit); err != nil {
		return revocation.Page{}, err
	}
	page, waiting, err = s.page(ctx, after, limit)
	page.More = page.More || waiting
	return page, err
}

// page reads in one statement, so that counter and entries are of one instant.
func (s Revocations) page(ctx context.Context, after int64, limit int) (page revocation.Page, waiting bool, err error) {
	err = s.db.read(ctx, "revocation.read", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: revocation.read
			SELECT c.newest, EXISTS (SELECT FROM revocations w WHERE w.seq IS NULL), (SELECT next - 1 FROM status_counter),
				COALESCE($3::timestamptz, now()), r.seq, r.kind, r.subject,
				extract(epoch FROM r.not_before)::bigint, ceil(extract(epoch FROM r.until))::bigint, COALESCE(r.status_index, 0)
			FROM revocation_counter c LEFT JOIN (
				SELECT seq, kind, subject, not_before, until, status_index FROM revocations
				WHERE seq > $1 AND until > COALESCE($3::timestamptz, now()) ORDER BY seq LIMIT $2) r ON true
			ORDER BY r.seq`, after, limit, s.db.clock())
		if err != nil {
			return err
		}
		defer rows.Close()
		page = revocation.Page{}
		for rows.Next() {
			var seq, notBefore, until *int64
			var kind, subject *string
			var index int64
			if err := rows.Scan(&page.Newest, &waiting, &page.Indexes, &page.Now, &seq, &kind, &subject, &notBefore, &until, &index); err != nil {
				return err
			}
			if seq != nil {
				k := revocation.Kind(*kind)
				page.Entries = append(page.Entries, revocation.Entry{
					Seq: *seq, Kind: k, ID: revocation.IDOf(k, *subject), NotBefore: *notBefore, Until: *until, Index: index,
				})
			}
		}
		return rows.Err()
	})
	if n := len(page.Entries); n == limit && page.Entries[n-1].Seq < page.Newest {
		page.Newest, page.More = page.Entries[n-1].Seq, true
	}
	return page, waiting, err
}

// number gives numbers to what was committed without one. The counter's row is
// taken first and what waits is looked for afterwards, so that a node that had
// to wait sees what the other one numbered; a reader sees all of it or nothing.
// A crash leaves them waiting for the next node.
func (s Revocations) number(ctx context.Context, limit int) error {
	return s.db.atOnce(ctx, "revocation.number", lockPatience, func(b *pgx.Batch) {
		b.Queue(`-- name: revocation.hold_counter
			SELECT newest FROM revocation_counter FOR UPDATE`)
		b.Queue(`-- name: revocation.number
			WITH numbered AS (
				UPDATE revocations r SET seq = c.newest + w.n
				FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM revocations WHERE seq IS NULL ORDER BY id LIMIT $1) w, revocation_counter c
				WHERE r.id = w.id RETURNING r.seq)
			UPDATE revocation_counter SET newest = (SELECT max(seq) FROM numbered) WHERE EXISTS (SELECT FROM numbered)`, limit)
	})
}

// TakeIndexes implements revocation.Store.
func (s Revocations) TakeIndexes(ctx context.Context, n int) (first int64, err error) {
	err = s.db.write(ctx, "revocation.take_indexes", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `-- name: revocation.take_indexes
			UPDATE status_counter SET next = next + $1 RETURNING next - $1`, int64(n)).Scan(&first)
	})
	return first, err
}

// Sweep implements revocation.Store.
func (s Revocations) Sweep(ctx context.Context, at time.Time, limit int) (deleted int, err error) {
	err = s.db.write(ctx, "revocation.sweep", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `-- name: revocation.sweep
			DELETE FROM revocations WHERE id IN (
				SELECT id FROM revocations WHERE until <= $1 AND seq IS NOT NULL
				ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)`, at, limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}

// longestLife is how long an entry stands after its not_before: the longest life
// of anything that was signed, which the keys remember, and revocation.Lag.
const longestLife = `(SELECT COALESCE(max(k.signs_for), interval '0') + interval '120 seconds' FROM keys k WHERE k.purpose = 'sign')`

// queueRevocation adds an entry to the feed, in the transaction of the act.
func queueRevocation(b *pgx.Batch, kind revocation.Kind, subject string, notBefore time.Time) {
	b.Queue(`-- name: revocation.add
		INSERT INTO revocations (kind, subject, not_before, until)
		VALUES ($1, $2, $3::timestamptz, $3 + $4::interval + `+longestLife+`)`, string(kind), subject, notBefore, kind.Lag()-revocation.Lag)
}

// queueRevokeAll refuses every access token issued until now and dates later
// ones so that they pass. The row of the state is locked.
func queueRevokeAll(b *pgx.Batch, now time.Time) {
	b.Queue(`-- name: revocation.all
		WITH raised AS (
			UPDATE server_state SET tokens_from = $1 WHERE tokens_from IS NULL OR tokens_from < $1
			RETURNING issuer)
		INSERT INTO revocations (kind, subject, not_before, until)
		SELECT 'all', issuer, $1, $1 + `+longestLife+` FROM raised`, revocation.NotBefore(now))
}
