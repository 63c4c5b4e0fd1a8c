package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
)

// Accounts implements account.Store.
type Accounts struct{ db *DB }

// Create implements account.Store.
func (s Accounts) Create(ctx context.Context, u account.NewUser) (created account.User, err error) {
	err = s.db.write(ctx, "account.create", func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		var createdAt *time.Time
		queueBirth(&b, u, s.db.clock(), &createdAt)
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		if createdAt == nil {
			return account.ErrEmailTaken
		}
		row := tx.QueryRow(ctx, selectUser+` WHERE u.id = $1`, [16]byte(u.ID))
		created, err = scanUser(row)
		return err
	})
	return created, err
}

// Import implements account.Store.
func (s Accounts) Import(ctx context.Context, users []account.NewUser) (taken []int, err error) {
	err = s.db.write(ctx, "account.import", func(ctx context.Context, tx pgx.Tx) error {
		var b pgx.Batch
		createdAt := make([]*time.Time, len(users))
		for i, u := range users {
			u.Imported = true
			queueBirth(&b, u, s.db.clock(), &createdAt[i])
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		taken = nil
		for i, at := range createdAt {
			if at == nil {
				taken = append(taken, i)
			}
		}
		return nil
	})
	return taken, err
}

// queueBirth makes one account with its password, its first network and its
// audit event, or nothing when the address is taken; createdAt stays nil then.
func queueBirth(b *pgx.Batch, u account.NewUser, now *time.Time, createdAt **time.Time) {
	kind := audit.UserCreated
	if u.Imported {
		kind = audit.UserImported
	}
	roles := slices.Compact(slices.Sorted(slices.Values(u.Roles)))
	b.Queue(`-- name: account.create
		WITH c AS (SELECT COALESCE($1::timestamptz, now()) AS now),
			born AS (
				INSERT INTO users (id, email, email_key, created_at, disabled_at, roles)
				SELECT $2, $3, $4, COALESCE($5::timestamptz, c.now), CASE WHEN $6 THEN c.now END, $7::text[] FROM c
				ON CONFLICT (email_key) DO NOTHING
				RETURNING id, created_at),
			password AS (
				INSERT INTO passwords (user_id, hash, scheme, changed_at)
				SELECT born.id, $8::text, $9::text, c.now FROM born, c WHERE $8::text <> ''),
			network AS (
				INSERT INTO known_networks (user_id, network, login_at)
				SELECT born.id, $10::text, c.now FROM born, c WHERE $10::text <> ''),
			event AS (
				INSERT INTO audit_events (id, at, kind, actor, user_id, request_id)
				SELECT $11, c.now, $12, $13, born.id, $14 FROM born, c)
		SELECT created_at FROM born`,
		now, [16]byte(u.ID), u.Email.String(), u.Email.Key(), orNull(u.CreatedAt), u.Disabled, notNil(roles),
		u.Hash, u.Scheme, u.Network, [16]byte(id.NewEvent()), string(kind), u.Actor, clean(u.RequestID),
	).QueryRow(func(row pgx.Row) error {
		var at time.Time
		err := row.Scan(&at)
		if errors.Is(err, pgx.ErrNoRows) {
			*createdAt = nil
			return nil
		}
		*createdAt = &at
		return err
	})
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// selectUser is completed by a WHERE clause.
const selectUser = `-- name: account.user
	SELECT u.id, u.email, u.created_at, u.disabled_at, u.roles, u.credential_version,
		EXISTS (SELECT FROM passwords p WHERE p.user_id = u.id)
	FROM users u`

func scanUser(row pgx.Row) (account.User, error) {
	var u account.User
	var disabled *time.Time
	err := row.Scan((*[16]byte)(&u.ID), &u.Email, &u.CreatedAt, &disabled, &u.Roles, &u.CredentialVersion, &u.HasPassword)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.User{}, account.ErrNotFound
	}
	u.DisabledAt = at(disabled)
	return u, err
}

// ByID implements account.Store.
func (s Accounts) ByID(ctx context.Context, u id.User) (account.User, error) {
	return s.one(ctx, "account.by_id", selectUser+` WHERE u.id = $1`, [16]byte(u))
}

// ByEmail implements account.Store.
func (s Accounts) ByEmail(ctx context.Context, emailKey string) (account.User, error) {
	return s.one(ctx, "account.by_email", selectUser+` WHERE u.email_key = $1`, clean(emailKey))
}

func (s Accounts) one(ctx context.Context, name, query string, arg any) (u account.User, err error) {
	err = s.db.read(ctx, name, func(ctx context.Context, c *pgxpool.Conn) error {
		u, err = scanUser(c.QueryRow(ctx, query, arg))
		return err
	})
	return u, err
}

// List implements account.Store.
func (s Accounts) List(ctx context.Context, afterKey string, limit int) (users []account.User, err error) {
	err = s.db.read(ctx, "account.list", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, selectUser+` WHERE u.email_key > $1 ORDER BY u.email_key LIMIT $2`, clean(afterKey), limit)
		if err != nil {
			return err
		}
		users, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (account.User, error) { return scanUser(row) })
		return err
	})
	return users, err
}

// held is a user's row under its lock.
type held struct {
	disabled bool
	roles    []string
	version  int32
	now      time.Time
}

// hold locks a user's row against births and other changes and reads it, then
// the clock. account.ErrNotFound without such a user.
func (s Accounts) hold(ctx context.Context, tx pgx.Tx, u id.User) (h held, err error) {
	var b pgx.Batch
	b.Queue(`-- name: account.hold
		SELECT disabled_at IS NOT NULL, roles, credential_version FROM users WHERE id = $1 FOR NO KEY UPDATE`,
		[16]byte(u)).QueryRow(func(row pgx.Row) error { return row.Scan(&h.disabled, &h.roles, &h.version) })
	b.Queue(wallNow, s.db.clock()).QueryRow(func(row pgx.Row) error { return row.Scan(&h.now) })
	err = tx.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		err = account.ErrNotFound
	}
	return h, err
}

// ChangePassword implements account.Store.
func (s Accounts) ChangePassword(ctx context.Context, c account.PasswordChange) (ended int, err error) {
	err = s.db.write(ctx, "account.change_password", func(ctx context.Context, tx pgx.Tx) error {
		h, err := s.hold(ctx, tx, c.User)
		if err != nil {
			return err
		}
		kind := audit.PasswordSet
		if c.Version != 0 {
			kind = audit.PasswordChanged
			if c.Version != h.version {
				return account.ErrChanged
			}
		}
		var b pgx.Batch
		b.Queue(`-- name: account.raise_version
			UPDATE users SET credential_version = credential_version + 1 WHERE id = $1`, [16]byte(c.User))
		b.Queue(`-- name: account.set_password
			INSERT INTO passwords (user_id, hash, scheme, changed_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, scheme = excluded.scheme, changed_at = excluded.changed_at`,
			[16]byte(c.User), c.Hash, c.Scheme, h.now)
		if err := queueEvent(&b, h.now, audit.Event{Kind: kind, Actor: c.Actor, User: c.User, RequestID: c.RequestID}); err != nil {
			return err
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		ended, err = endFamilies(ctx, tx, h.now, ending{
			user: c.User, except: id.Session(c.Keep), reason: refresh.EndedByPassword, actor: c.Actor, requestID: c.RequestID,
		})
		return err
	})
	return ended, err
}

// Disable implements account.Store.
func (s Accounts) Disable(ctx context.Context, u id.User, actor, requestID string) (ended int, err error) {
	err = s.db.write(ctx, "account.disable", func(ctx context.Context, tx pgx.Tx) error {
		h, err := s.hold(ctx, tx, u)
		if err != nil {
			return err
		}
		if !h.disabled {
			notBefore := revocation.NotBefore(h.now)
			var b pgx.Batch
			b.Queue(`-- name: account.disable
				UPDATE users SET disabled_at = $2, credential_version = credential_version + 1, tokens_from = greatest(tokens_from, $3)
				WHERE id = $1`, [16]byte(u), h.now, notBefore)
			queueRevocation(&b, revocation.User, u.String(), notBefore)
			if err := queueEvent(&b, h.now, audit.Event{Kind: audit.UserDisabled, Actor: actor, User: u, RequestID: requestID}); err != nil {
				return err
			}
			if err := tx.SendBatch(ctx, &b).Close(); err != nil {
				return err
			}
		}
		ended, err = endFamilies(ctx, tx, h.now, ending{user: u, reason: refresh.EndedByBan, actor: actor, requestID: requestID})
		return err
	})
	return ended, err
}

// Enable implements account.Store.
func (s Accounts) Enable(ctx context.Context, u id.User, actor, requestID string) error {
	return s.db.write(ctx, "account.enable", func(ctx context.Context, tx pgx.Tx) error {
		h, err := s.hold(ctx, tx, u)
		if err != nil {
			return err
		}
		if !h.disabled {
			return errNothing
		}
		if _, err := tx.Exec(ctx, `-- name: account.enable
			UPDATE users SET disabled_at = NULL WHERE id = $1`, [16]byte(u)); err != nil {
			return err
		}
		return addEvents(ctx, tx, h.now, audit.Event{Kind: audit.UserEnabled, Actor: actor, User: u, RequestID: requestID})
	})
}

// SetRole implements account.Store.
func (s Accounts) SetRole(ctx context.Context, u id.User, role string, granted bool, actor, requestID string) error {
	return s.db.write(ctx, "account.set_role", func(ctx context.Context, tx pgx.Tx) error {
		h, err := s.hold(ctx, tx, u)
		if err != nil {
			return err
		}
		if slices.Contains(h.roles, role) == granted {
			return errNothing
		}
		kind, roles := audit.UserRoleRevoked, slices.DeleteFunc(slices.Clone(h.roles), func(r string) bool { return r == role })
		if granted {
			kind, roles = audit.UserRoleGranted, append(roles, role)
			slices.Sort(roles)
		}
		if _, err := tx.Exec(ctx, `-- name: account.set_roles
			UPDATE users SET roles = $2 WHERE id = $1`, [16]byte(u), notNil(roles)); err != nil {
			return fmt.Errorf("write roles: %w", err)
		}
		return addEvents(ctx, tx, h.now, audit.Event{
			Kind: kind, Actor: actor, User: u, RequestID: requestID, Details: map[string]string{"role": role},
		})
	})
}

// Schemes implements account.Store. It jumps from one scheme to the next along
// the index, because there are few schemes and many passwords.
func (s Accounts) Schemes(ctx context.Context) (schemes []string, err error) {
	err = s.db.read(ctx, "account.schemes", func(ctx context.Context, c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, `-- name: account.schemes
			WITH RECURSIVE jump AS (
				(SELECT scheme FROM passwords ORDER BY scheme LIMIT 1)
				UNION ALL
				SELECT (SELECT p.scheme FROM passwords p WHERE p.scheme > jump.scheme ORDER BY p.scheme LIMIT 1)
				FROM jump WHERE jump.scheme IS NOT NULL)
			SELECT scheme FROM jump WHERE scheme IS NOT NULL ORDER BY scheme`)
		if err != nil {
			return err
		}
		schemes, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return schemes, err
}
