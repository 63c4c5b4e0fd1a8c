package sqlite

import (
	"context"
	"errors"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/store"
)

// Founding implements store.Founding.
type Founding struct{ db *DB }

var errNotFounded = errors.New("the store was never founded: its issuer and master key are not set")

func (c *conn) facts() (f store.Facts, ok bool, err error) {
	ok, err = c.one(`-- name: founding.facts
		SELECT issuer, master_id FROM server_state`, nil, func(r *row) {
		f.Issuer = r.text()
		r.fill(f.MasterID[:])
	})
	return f, ok, err
}

// Facts implements store.Founding.
func (s Founding) Facts(ctx context.Context) (f store.Facts, ok bool, err error) {
	err = s.db.read(ctx, "founding.facts", func(c *conn) error {
		f, ok, err = c.facts()
		return err
	})
	return f, ok, err
}

// Found implements store.Founding.
func (s Founding) Found(ctx context.Context, want store.Facts) (f store.Facts, err error) {
	err = s.db.write(ctx, "founding.found", func(t *tx) error {
		if _, err := t.exec(`-- name: founding.found
			INSERT INTO server_state (issuer, master_id) VALUES (?, ?) ON CONFLICT (one) DO NOTHING`,
			want.Issuer, want.MasterID[:]); err != nil {
			return err
		}
		f, _, err = t.facts()
		return err
	})
	return f, err
}

// SetIssuer implements store.Founding.
func (s Founding) SetIssuer(ctx context.Context, issuer, actor string) error {
	return s.db.write(ctx, "founding.set_issuer", func(t *tx) error {
		before, ok, err := t.facts()
		switch {
		case err != nil:
			return err
		case !ok:
			return errNotFounded
		case before.Issuer == issuer:
			return errNothing
		}
		if _, err := t.exec(`-- name: founding.set_issuer
			UPDATE server_state SET issuer = ?`, issuer); err != nil {
			return err
		}
		return t.addEvents(audit.Event{
			Kind: audit.IssuerChanged, Actor: actor, Details: map[string]string{"from": before.Issuer, "to": issuer},
		})
	})
}
