package sqlite

import (
	"context"
	"slices"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
)

// Accounts implements account.Store.
type Accounts struct{ db *DB }

const selectUser = `
	SELECT u.id, u.email, u.created_at, u.disabled_at, u.roles, u.credential_version,
		EXISTS (SELECT 1 FROM passwords p WHERE p.user_id = u.id)
	FROM users u `

func scanUser(r *row) (u account.User) {
	r.fill(u.ID[:])
	u.Email = r.text()
	u.CreatedAt = r.instant()
	u.DisabledAt = r.instant()
	u.Roles = r.list()
	u.CredentialVersion = int32(r.integer())
	u.HasPassword = r.boolean()
	return u
}

// user returns an account or account.ErrNotFound.
func (c *conn) user(uid id.User) (u account.User, err error) {
	found, err := c.one(`-- name: account.by_id`+selectUser+`
		WHERE u.id = ?`, []any{uid}, func(r *row) { u = scanUser(r) })
	if err == nil && !found {
		err = account.ErrNotFound
	}
	return u, err
}

// Create implements account.Store.
func (s Accounts) Create(ctx context.Context, n account.NewUser) (u account.User, err error) {
	err = s.db.write(ctx, "account.create", func(t *tx) error {
		taken, err := t.createUser(n)
		if err != nil {
			return err
		}
		if taken {
			return account.ErrEmailTaken
		}
		u, err = t.user(n.ID)
		return err
	})
	if err != nil {
		return account.User{}, err
	}
	return u, nil
}

// Import implements account.Store.
func (s Accounts) Import(ctx context.Context, users []account.NewUser) (taken []int, err error) {
	err = s.db.write(ctx, "account.import", func(t *tx) error {
		for i, n := range users {
			isTaken, err := t.createUser(n)
			if err != nil {
				return err
			}
			if isTaken {
				taken = append(taken, i)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return taken, nil
}

// createUser makes an account, unless its address is taken.
func (t *tx) createUser(n account.NewUser) (taken bool, err error) {
	created, disabled := n.CreatedAt, any(nil)
	if created.IsZero() {
		created = t.now
	}
	if n.Disabled {
		disabled = t.now
	}
	made, err := t.exec(`-- name: account.create
		INSERT INTO users (id, email, email_key, created_at, disabled_at, roles)
		VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (email_key) DO NOTHING`,
		n.ID, n.Email.String(), n.Email.Key(), created, disabled, sortedRoles(n.Roles))
	if err != nil || made == 0 {
		return made == 0, err
	}
	if n.Hash != "" {
		if _, err := t.exec(`-- name: account.create_password
			INSERT INTO passwords (user_id, hash, scheme, changed_at) VALUES (?, ?, ?, ?)`,
			n.ID, n.Hash, n.Scheme, t.now); err != nil {
			return false, err
		}
	}
	if err := t.knowNetwork(n.ID, n.Network); err != nil {
		return false, err
	}
	kind := audit.UserCreated
	if n.Imported {
		kind = audit.UserImported
	}
	return false, t.addEvents(audit.Event{Kind: kind, Actor: n.Actor, User: n.ID, RequestID: n.RequestID})
}

func sortedRoles(roles []string) []string {
	sorted := slices.Clone(roles)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// ByID implements account.Store.
func (s Accounts) ByID(ctx context.Context, uid id.User) (u account.User, err error) {
	err = s.db.read(ctx, "account.by_id", func(c *conn) error {
		u, err = c.user(uid)
		return err
	})
	return u, err
}

// ByEmail implements account.Store.
func (s Accounts) ByEmail(ctx context.Context, emailKey string) (u account.User, err error) {
	err = s.db.read(ctx, "account.by_email", func(c *conn) error {
		found, err := c.one(`-- name: account.by_email`+selectUser+`
			WHERE u.email_key = ?`, []any{emailKey}, func(r *row) { u = scanUser(r) })
		if err == nil && !found {
			err = account.ErrNotFound
		}
		return err
	})
	return u, err
}

// List implements account.Store.
func (s Accounts) List(ctx context.Context, afterKey string, limit int) (users []account.User, err error) {
	err = s.db.read(ctx, "account.list", func(c *conn) error {
		return c.each(`-- name: account.list`+selectUser+`
			WHERE u.email_key > ? ORDER BY u.email_key LIMIT ?`, []any{afterKey, limit},
			func(r *row) { users = append(users, scanUser(r)) })
	})
	return users, err
}

// ChangePassword implements account.Store.
func (s Accounts) ChangePassword(ctx context.Context, c account.PasswordChange) (ended int, err error) {
	err = s.db.write(ctx, "account.change_password", func(t *tx) error {
		u, err := t.user(c.User)
		if err != nil {
			return err
		}
		kind := audit.PasswordChanged
		switch c.Version {
		case 0:
			kind = audit.PasswordSet
		case u.CredentialVersion:
		default:
			return account.ErrChanged
		}
		if _, err := t.exec(`-- name: account.set_password
			INSERT INTO passwords (user_id, hash, scheme, changed_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, scheme = excluded.scheme, changed_at = excluded.changed_at`,
			c.User, c.Hash, c.Scheme, t.now); err != nil {
			return err
		}
		if err := t.raiseVersion(c.User); err != nil {
			return err
		}
		if err := t.addEvents(audit.Event{Kind: kind, Actor: c.Actor, User: c.User, RequestID: c.RequestID}); err != nil {
			return err
		}
		ended, _, err = endFamilies(t, ending{
			user: c.User, except: id.Session(c.Keep),
			reason: refresh.EndedByPassword, actor: c.Actor, requestID: c.RequestID,
		})
		return err
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// raiseVersion makes every login that was verified before, and not yet opened,
// fail.
func (t *tx) raiseVersion(u id.User) error {
	_, err := t.exec(`-- name: account.raise_version
		UPDATE users SET credential_version = credential_version + 1 WHERE id = ?`, u)
	return err
}

// Disable implements account.Store.
func (s Accounts) Disable(ctx context.Context, uid id.User, actor, requestID string) (ended int, err error) {
	err = s.db.write(ctx, "account.disable", func(t *tx) error {
		u, err := t.user(uid)
		if err != nil {
			return err
		}
		if u.DisabledAt.IsZero() {
			if _, err := t.exec(`-- name: account.disable
				UPDATE users SET disabled_at = ?1, tokens_from = max(coalesce(tokens_from, 0), ?2) WHERE id = ?3`,
				t.now, revocation.NotBefore(t.now), uid); err != nil {
				return err
			}
			if err := t.revoke(revocation.User, uid.String(), revocation.NotBefore(t.now)); err != nil {
				return err
			}
			if err := t.raiseVersion(uid); err != nil {
				return err
			}
			if err := t.addEvents(audit.Event{Kind: audit.UserDisabled, Actor: actor, User: uid, RequestID: requestID}); err != nil {
				return err
			}
		}
		ended, _, err = endFamilies(t, ending{user: uid, reason: refresh.EndedByBan, actor: actor, requestID: requestID})
		return err
	})
	if err != nil {
		return 0, err
	}
	return ended, nil
}

// Enable implements account.Store.
func (s Accounts) Enable(ctx context.Context, uid id.User, actor, requestID string) error {
	return s.db.write(ctx, "account.enable", func(t *tx) error {
		u, err := t.user(uid)
		if err != nil {
			return err
		}
		if u.DisabledAt.IsZero() {
			return errNothing
		}
		if _, err := t.exec(`-- name: account.enable
			UPDATE users SET disabled_at = NULL WHERE id = ?`, uid); err != nil {
			return err
		}
		return t.addEvents(audit.Event{Kind: audit.UserEnabled, Actor: actor, User: uid, RequestID: requestID})
	})
}

// SetRole implements account.Store.
func (s Accounts) SetRole(ctx context.Context, uid id.User, role string, granted bool, actor, requestID string) error {
	return s.db.write(ctx, "account.set_role", func(t *tx) error {
		u, err := t.user(uid)
		if err != nil {
			return err
		}
		if slices.Contains(u.Roles, role) == granted {
			return errNothing
		}
		kind, roles := audit.UserRoleGranted, append(u.Roles, role)
		if !granted {
			kind, roles = audit.UserRoleRevoked, slices.DeleteFunc(u.Roles, func(r string) bool { return r == role })
		}
		if _, err := t.exec(`-- name: account.set_roles
			UPDATE users SET roles = ? WHERE id = ?`, sortedRoles(roles), uid); err != nil {
			return err
		}
		return t.addEvents(audit.Event{
			Kind: kind, Actor: actor, User: uid, RequestID: requestID, Details: map[string]string{"role": role},
		})
	})
}

// Schemes implements account.Store.
func (s Accounts) Schemes(ctx context.Context) (schemes []string, err error) {
	err = s.db.read(ctx, "account.schemes", func(c *conn) error {
		return c.each(`-- name: account.schemes
			SELECT DISTINCT scheme FROM passwords ORDER BY scheme`, nil,
			func(r *row) { schemes = append(schemes, r.text()) })
	})
	return schemes, err
}
