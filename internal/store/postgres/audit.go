package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
)

// Audit implements audit.Store.
type Audit struct{ db *DB }

// mostEvents caps one answer.
const mostEvents = 1000

// Events implements audit.Store.
func (s Audit) Events(ctx context.Context, f audit.Filter) (events []audit.Event, err error) {
	limit := f.Limit
	if limit <= 0 || limit > mostEvents {
		limit = mostEvents
	}
	err = s.db.read(ctx, "audit.events", func(ctx context.Context, c *pgxpool.Conn) error {
		var after time.Time
		if !f.After.IsZero() {
			err := c.QueryRow(ctx, `-- name: audit.place
				SELECT at FROM audit_events WHERE id = $1`, [16]byte(f.After)).Scan(&after)
			if errors.Is(err, pgx.ErrNoRows) {
				return audit.ErrNoEvent
			}
			if err != nil {
				return err
			}
		}
		rows, err := c.Query(ctx, `-- name: audit.events
			SELECT id, at, kind, actor, user_id, session_id, family_id, request_id, details
			FROM audit_events
			WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::uuid IS NULL OR session_id = $2)
				AND ($3::uuid IS NULL OR family_id = $3) AND ($4 = '' OR request_id = $4)
				AND ($5 = '' OR kind = $5) AND ($6::timestamptz IS NULL OR at < $6)
				AND ($8::timestamptz IS NULL OR (at, id) < ($8, $9))
			ORDER BY at DESC, id DESC LIMIT $7`,
			nullID(f.User), nullID(f.Session), nullID(f.Family), clean(f.RequestID), string(f.Kind), orNull(f.Before), limit, orNull(after), nullID(f.After))
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, scanEvent)
		return err
	})
	return events, err
}

func scanEvent(row pgx.CollectableRow) (audit.Event, error) {
	var (
		e                     audit.Event
		kind                  string
		user, session, family *[16]byte
		details               []byte
	)
	if err := row.Scan((*[16]byte)(&e.ID), &e.At, &kind, &e.Actor, &user, &session, &family, &e.RequestID, &details); err != nil {
		return e, err
	}
	e.Kind = audit.Kind(kind)
	if user != nil {
		e.User = id.User(*user)
	}
	if session != nil {
		e.Session = id.Session(*session)
	}
	if family != nil {
		e.Family = id.Family(*family)
	}
	if err := json.Unmarshal(details, &e.Details); err != nil {
		return e, fmt.Errorf("details of audit event %s: %w", e.ID, err)
	}
	if len(e.Details) == 0 {
		e.Details = nil
	}
	return e, nil
}

// addEvents writes events in the transaction of the act they tell of.
func addEvents(ctx context.Context, tx pgx.Tx, now time.Time, events ...audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	var b pgx.Batch
	for _, e := range events {
		if err := queueEvent(&b, now, e); err != nil {
			return err
		}
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("write audit events: %w", err)
	}
	return nil
}

func queueEvent(b *pgx.Batch, now time.Time, e audit.Event) error {
	if e.ID.IsZero() {
		e.ID = id.NewEvent()
	}
	if e.At.IsZero() {
		e.At = now
	}
	kept := make(map[string]string, len(e.Details))
	for name, value := range e.Details {
		kept[clean(name)] = clean(value)
	}
	details, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("details of an audit event %s: %w", e.Kind, err)
	}
	b.Queue(`-- name: audit.add
		INSERT INTO audit_events (id, at, kind, actor, user_id, session_id, family_id, request_id, details)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		[16]byte(e.ID), e.At, string(e.Kind), e.Actor, nullID(e.User), nullID(e.Session), nullID(e.Family),
		clean(e.RequestID), string(details))
	return nil
}

// SweepAudit implements store.Engine.
func (db *DB) SweepAudit(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	err = db.write(ctx, "audit.sweep", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `-- name: audit.sweep
			DELETE FROM audit_events WHERE id IN (
				SELECT id FROM audit_events WHERE at < $1
				ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)`, before, limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}

// count returns a reader of a command's row count for a pgx.Batch.
func count(n *int) func(pgconn.CommandTag) error {
	return func(tag pgconn.CommandTag) error {
		*n = int(tag.RowsAffected())
		return nil
	}
}
