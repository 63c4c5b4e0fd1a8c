package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// Sweep implements refresh.Store. Family rows that somebody holds are left for
// the next round.
func (s Families) Sweep(ctx context.Context, after id.Family, limit int, p refresh.Policy, keep time.Duration) (next id.Family, deleted int, err error) {
	var looked int
	var dead [][16]byte
	err = s.db.read(ctx, "refresh.sweep_look", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: refresh.sweep_look
			SELECT f.id, COALESCE(f.ended_at, least(f.absolute_end, f.used_at + least(f.idle_ttl, $3::interval)))
				< COALESCE($4::timestamptz, now()) - $5::interval
			FROM families f WHERE f.id > $1 ORDER BY f.id LIMIT $2`,
			[16]byte(after), limit, p.IdleTTL, s.db.clock(), keep)
		if err != nil {
			return err
		}
		var fid [16]byte
		var over bool
		looked, dead = 0, nil
		_, err = pgx.ForEachRow(rows, []any{&fid, &over}, func() error {
			looked++
			next = id.Family(fid)
			if over {
				dead = append(dead, fid)
			}
			return nil
		})
		return err
	})
	if err != nil {
		return after, 0, err
	}
	if looked < limit {
		next = id.Family{}
	}
	if len(dead) == 0 {
		return next, 0, nil
	}
	err = s.db.write(ctx, "refresh.sweep", func(ctx context.Context, tx pgx.Tx) error {
		deleted, err = s.bury(ctx, tx, dead, p, keep)
		return err
	})
	if err != nil {
		return after, 0, err
	}
	return next, deleted, nil
}

// bury deletes those of the listed families that are still dead and free, and
// the sessions they leave empty, families before sessions as every end does.
func (s Families) bury(ctx context.Context, tx pgx.Tx, dead [][16]byte, p refresh.Policy, keep time.Duration) (deleted int, err error) {
	rows, err := tx.Query(ctx, `-- name: refresh.sweep_families
		DELETE FROM families WHERE id IN (
			SELECT f.id FROM families f
			WHERE f.id = ANY ($1::uuid[])
				AND COALESCE(f.ended_at, least(f.absolute_end, f.used_at + least(f.idle_ttl, $2::interval)))
					< COALESCE($3::timestamptz, now()) - $4::interval
			ORDER BY f.id FOR UPDATE SKIP LOCKED)
		RETURNING session_id`, dead, p.IdleTTL, s.db.clock(), keep)
	if err != nil {
		return 0, err
	}
	sessions, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `-- name: refresh.sweep_sessions
		DELETE FROM sessions WHERE id IN (
			SELECT s.id FROM sessions s
			WHERE s.id = ANY ($1::uuid[]) AND NOT EXISTS (SELECT FROM families f WHERE f.session_id = s.id)
			ORDER BY s.id FOR UPDATE)`, sessions)
	if err != nil {
		return 0, fmt.Errorf("sweep empty sessions: %w", err)
	}
	return len(sessions), nil
}
