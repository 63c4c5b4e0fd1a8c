package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/store"
)

// Audit implements audit.Store.
type Audit struct{ db *DB }

// mostEvents caps one answer.
const mostEvents = 1000

// Events implements audit.Store. The conditions are put together from constant
// pieces, because an optional condition within one statement keeps SQLite from
// using the index of that column.
func (s Audit) Events(ctx context.Context, f audit.Filter) (events []audit.Event, err error) {
	var where []string
	var args []any
	must := func(condition string, argument any) {
		where, args = append(where, condition), append(args, argument)
	}
	if !f.User.IsZero() {
		must("user_id = ?", f.User)
	}
	if !f.Session.IsZero() {
		must("session_id = ?", f.Session)
	}
	if !f.Family.IsZero() {
		must("family_id = ?", f.Family)
	}
	if f.RequestID != "" {
		must("request_id = ? AND request_id <> ''", f.RequestID)
	}
	if f.Kind != "" {
		must("kind = ?", string(f.Kind))
	}
	if !f.Before.IsZero() {
		must("at < ?", f.Before)
	}
	limit := f.Limit
	if limit <= 0 || limit > mostEvents {
		limit = mostEvents
	}
	err = s.db.read(ctx, "audit.events", func(c *conn) error {
		if !f.After.IsZero() {
			var at, place int64
			found, err := c.one(`-- name: audit.place
				SELECT at, rowid FROM audit_events WHERE id = ?`, []any{f.After}, func(r *row) { at, place = r.integer(), r.integer() })
			if err != nil {
				return err
			}
			if !found {
				return audit.ErrNoEvent
			}
			where, args = append(where, "(at, rowid) < (?, ?)"), append(args, at, place)
		}
		condition := ""
		if len(where) > 0 {
			condition = "WHERE " + strings.Join(where, " AND ")
		}
		return c.each(`-- name: audit.events
			SELECT id, at, kind, actor, user_id, session_id, family_id, request_id, details
			FROM audit_events `+condition+`
			ORDER BY at DESC, rowid DESC LIMIT ?`, append(args, limit),
			func(r *row) { events = append(events, scanEvent(r)) })
	})
	return events, err
}

func scanEvent(r *row) (e audit.Event) {
	r.fill(e.ID[:])
	e.At = r.instant()
	e.Kind = audit.Kind(r.text())
	e.Actor = r.text()
	r.fill(e.User[:])
	r.fill(e.Session[:])
	r.fill(e.Family[:])
	e.RequestID = r.text()
	if details := r.text(); details != "" && details != "{}" {
		if err := json.Unmarshal([]byte(details), &e.Details); err != nil && r.err == nil {
			r.err = fmt.Errorf("details of audit event %s: %w", e.ID, err)
		}
	}
	return e
}

// addEvents writes events in the transaction of the act they tell of.
func (t *tx) addEvents(events ...audit.Event) error {
	for _, e := range events {
		if e.ID.IsZero() {
			e.ID = id.NewEvent()
		}
		if e.At.IsZero() {
			e.At = t.now
		}
		details := []byte("{}")
		if len(e.Details) > 0 {
			var err error
			if details, err = json.Marshal(e.Details); err != nil {
				return fmt.Errorf("details of an audit event %s: %w", e.Kind, err)
			}
		}
		if _, err := t.exec(`-- name: audit.add
			INSERT INTO audit_events (id, at, kind, actor, user_id, session_id, family_id, request_id, details)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.ID, e.At, string(e.Kind), e.Actor, orNull(e.User), orNull(e.Session), orNull(e.Family),
			e.RequestID, string(details)); err != nil {
			return fmt.Errorf("write an audit event %s: %w", e.Kind, err)
		}
	}
	return nil
}

// SweepAudit implements store.Engine.
func (db *DB) SweepAudit(ctx context.Context, before time.Time, limit int) (int, error) {
	return db.sweep(ctx, "audit.sweep", `-- name: audit.sweep
		DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE at < ? ORDER BY at LIMIT ?)`,
		before, limit)
}

// SweepPace implements store.Engine. A turn of a few rows takes hardly longer than
// anybody's commit; only the pages that it leaves to fold count.
func (db *DB) SweepPace() (families, rest int) { return 25, 5 }

// sweep runs a DELETE with an instant and a limit, for one short turn of the writer.
func (db *DB) sweep(ctx context.Context, name, statement string, before time.Time, limit int) (deleted int, err error) {
	err = db.write(ctx, name, func(t *tx) error {
		deleted, err = t.exec(statement, before, min(limit, store.SweepPiece))
		if err == nil && deleted == 0 {
			return errNothing
		}
		return err
	})
	return deleted, err
}
