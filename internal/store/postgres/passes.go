package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// passes remember how far the passes over all families came, so that many
// bounded calls together read the table about once. They are of this process
// alone: another node begins anew and finds little left.
type passes struct {
	mu sync.Mutex
	by map[string]*pass
}

// forget has the next pass of that name begin anew.
func (p *passes) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.by, name)
}

type pass struct {
	after [16]byte
	found bool // something, since the first row
}

// passStep is how many rows a pass looks at in one statement.
const passStep = 5000

// look reads up to passStep rows (family, user, whether it is to end) after the
// given id, in primary-key order.
type look func(ctx context.Context, c *pgxpool.Conn, after [16]byte) (pgx.Rows, error)

// endPass ends at most limit of the families that look picks, going on where
// the last call of that name stopped. 0 means that a whole pass, from the first
// row to the last, found none.
func (s Sessions) endPass(ctx context.Context, name string, look look, limit int, e ending) (ended int, err error) {
	s.db.passes.mu.Lock()
	defer s.db.passes.mu.Unlock()
	if s.db.passes.by == nil {
		s.db.passes.by = make(map[string]*pass)
	}
	p := s.db.passes.by[name]
	if p == nil {
		p = new(pass)
		s.db.passes.by[name] = p
	}
	for ended < limit {
		chunk, err := s.lookAt(ctx, name, look, p.after, limit-ended)
		if err != nil {
			return ended, err
		}
		n, err := s.endChunk(ctx, name, chunk, e)
		if err != nil {
			return ended, err
		}
		ended += n
		p.after, p.found = chunk.last, p.found || len(chunk.families) > 0
		if !chunk.over {
			continue
		}
		found := p.found
		*p = pass{}
		if !found || ended > 0 {
			return ended, nil
		}
	}
	return ended, nil
}

type chunk struct {
	families, users [][16]byte
	last            [16]byte
	over            bool // the end of the table was reached
}

func (s Sessions) lookAt(ctx context.Context, name string, look look, after [16]byte, limit int) (ch chunk, err error) {
	err = s.db.read(ctx, name, func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := look(ctx, c, after)
		if err != nil {
			return err
		}
		defer rows.Close()
		seen := 0
		ch = chunk{last: after}
		for len(ch.families) < limit && rows.Next() {
			var user [16]byte
			var picked bool
			if err := rows.Scan(&ch.last, &user, &picked); err != nil {
				return err
			}
			if seen++; picked {
				ch.families, ch.users = append(ch.families, ch.last), append(ch.users, user)
			}
		}
		rows.Close()
		ch.over = len(ch.families) < limit && seen < passStep
		return rows.Err()
	})
	return ch, err
}

// endChunk ends families of many users in one transaction.
func (s Sessions) endChunk(ctx context.Context, name string, ch chunk, e ending) (ended int, err error) {
	if len(ch.families) == 0 {
		return 0, nil
	}
	slices.SortFunc(ch.users, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	users := slices.Compact(ch.users)
	err = s.db.write(ctx, name, func(ctx context.Context, tx pgx.Tx) error {
		var now time.Time
		if err := tx.QueryRow(ctx, wallNow, s.db.clock()).Scan(&now); err != nil {
			return err
		}
		ended, _, err = endListed(ctx, tx, now, users, ch.families, e)
		return err
	})
	return ended, err
}

// EndBelowFloor implements session.Store.
func (s Sessions) EndBelowFloor(ctx context.Context, limit int) (ended int, err error) {
	var floor, swept, now time.Time
	err = s.db.read(ctx, "session.floors", func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, `-- name: session.floors
			SELECT floor, floor_swept, COALESCE($1::timestamptz, now()) FROM server_state`, s.db.clock()).Scan(&floor, &swept, &now)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil || !floor.After(swept) {
		return 0, err
	}
	below := func(ctx context.Context, c *pgxpool.Conn, after [16]byte) (pgx.Rows, error) {
		return c.Query(ctx, `-- name: session.below_floor
			SELECT f.id, f.user_id, f.ended_at IS NULL AND f.born_at < s.floor
			FROM families f, server_state s WHERE f.id > $1 ORDER BY f.id LIMIT $2`, after, passStep)
	}
	// What was seen under a lower floor may be below this one.
	name := fmt.Sprintf("session.end_below_floor_%d", floor.UnixMicro())
	ended, err = s.endPass(ctx, name, below, limit,
		ending{reason: refresh.EndedByFloor, actor: audit.BySystem, covered: true})
	if err != nil {
		s.db.passes.forget(name) // the next one may be much later
		return ended, err
	}
	if ended > 0 || now.Sub(floor) < session.FloorSettles {
		return ended, nil
	}
	s.db.passes.forget(name)
	return 0, s.db.write(ctx, "session.floor_swept", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `-- name: session.floor_swept
			UPDATE server_state SET floor_swept = $1 WHERE floor_swept < $1`, floor)
		return err
	})
}

// EndUnderRoot implements session.Store.
func (s Sessions) EndUnderRoot(ctx context.Context, number uint8, limit int, actor string) (int, error) {
	under := func(ctx context.Context, c *pgxpool.Conn, after [16]byte) (pgx.Rows, error) {
		return c.Query(ctx, `-- name: session.under_root
			SELECT f.id, f.user_id, f.ended_at IS NULL AND f.head_key = $3
			FROM families f WHERE f.id > $1 ORDER BY f.id LIMIT $2`, after, passStep, int16(number))
	}
	return s.endPass(ctx, fmt.Sprintf("session.end_under_root_%d", number), under, limit,
		ending{reason: refresh.EndedByRootKey, actor: actor, headKey: int16(number), covered: true})
}

// CountUnderRoot implements session.Store.
func (s Sessions) CountUnderRoot(ctx context.Context, number uint8) (n int, err error) {
	err = s.db.readWithin(ctx, "session.count_under_root", scanPatience, func(ctx context.Context, c *pgxpool.Conn) error {
		return c.QueryRow(ctx, `-- name: session.count_under_root
			SELECT count(*) FROM families WHERE ended_at IS NULL AND head_key = $1`, int16(number)).Scan(&n)
	})
	return n, err
}
