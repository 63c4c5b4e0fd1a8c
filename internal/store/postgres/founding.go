package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/store"
)

// Founding implements store.Founding.
type Founding struct{ db *DB }

const selectFacts = `-- name: founding.facts
	SELECT issuer, master_id FROM server_state`

func scanFacts(row pgx.Row) (f store.Facts, ok bool, err error) {
	var master []byte
	err = row.Scan(&f.Issuer, &master)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Facts{}, false, nil
	}
	copy(f.MasterID[:], master)
	return f, err == nil, err
}

// Facts implements store.Founding.
func (s Founding) Facts(ctx context.Context) (f store.Facts, ok bool, err error) {
	err = s.db.read(ctx, "founding.facts", func(ctx context.Context, c *pgxpool.Conn) error {
		f, ok, err = scanFacts(c.QueryRow(ctx, selectFacts))
		return err
	})
	return f, ok, err
}

// Found implements store.Founding.
func (s Founding) Found(ctx context.Context, facts store.Facts) (f store.Facts, err error) {
	err = s.db.write(ctx, "founding.found", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `-- name: founding.found
			INSERT INTO server_state (one, issuer, master_id) VALUES (true, $1, $2) ON CONFLICT (one) DO NOTHING`,
			facts.Issuer, facts.MasterID[:])
		if err != nil {
			return err
		}
		var ok bool
		if f, ok, err = scanFacts(tx.QueryRow(ctx, selectFacts)); err == nil && !ok {
			err = fmt.Errorf("the facts are gone again")
		}
		return err
	})
	return f, err
}

// SetIssuer implements store.Founding.
func (s Founding) SetIssuer(ctx context.Context, issuer, actor string) error {
	return s.db.write(ctx, "founding.set_issuer", func(ctx context.Context, tx pgx.Tx) error {
		var before string
		err := tx.QueryRow(ctx, `-- name: founding.hold
			SELECT issuer FROM server_state FOR UPDATE`).Scan(&before)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotFounded
		}
		if err != nil {
			return err
		}
		if before == issuer {
			return errNothing
		}
		if _, err := tx.Exec(ctx, `-- name: founding.set_issuer
			UPDATE server_state SET issuer = $1`, issuer); err != nil {
			return err
		}
		now, err := s.db.transactionNow(ctx, tx)
		if err != nil {
			return err
		}
		return addEvents(ctx, tx, now, audit.Event{
			Kind: audit.IssuerChanged, Actor: actor, Details: map[string]string{"from": before, "to": issuer},
		})
	})
}
