package sqlite

import (
	"context"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

// Logins implements login.Store.
type Logins struct{ db *DB }

// Credential implements login.Store. It is one statement for a known and for an
// unknown address.
func (s Logins) Credential(ctx context.Context, emailKey, network string) (cr login.Credential, err error) {
	since := s.db.now().Add(-login.KnownFor)
	err = s.db.read(ctx, "login.credential", func(c *conn) error {
		_, err := c.one(`-- name: login.credential
			SELECT u.id, u.email, u.created_at, u.disabled_at, u.roles, u.credential_version, p.hash IS NOT NULL, p.hash,
				EXISTS (SELECT 1 FROM known_networks n WHERE n.user_id = u.id AND n.network = ?2 AND n.login_at > ?3)
			FROM users u LEFT JOIN passwords p ON p.user_id = u.id
			WHERE u.email_key = ?1`, []any{emailKey, network, since}, func(r *row) {
			cr.User = scanUser(r)
			cr.Hash = r.text()
			cr.KnownNetwork = r.boolean()
		})
		return err
	})
	return cr, err
}

// Open implements login.Store. The write lock, which a ban needs too, stands
// for the lock on the user's row: a session is born before the ban, and ended
// by it, or not at all.
func (s Logins) Open(ctx context.Context, o login.Opening) (f refresh.Family, err error) {
	err = s.db.write(ctx, "login.open", func(t *tx) error {
		f = o.Family
		f.Session = o.Session
		f.AuthTime, f.BornAt, f.HeadBorn, f.UsedAt = t.now, t.now, t.now, t.now
		f.AbsoluteEnd = micro(t.now.Add(o.AbsoluteTTL))
		f.IdleTTL = f.IdleTTL.Truncate(time.Microsecond)
		may := false
		if _, err := t.one(`-- name: login.may_open
			SELECT u.roles, coalesce(s.floor, 0), nullif(max(coalesce(u.tokens_from, 0), coalesce(s.tokens_from, 0)), 0)
			FROM users u LEFT JOIN server_state s WHERE u.id = ? AND u.disabled_at IS NULL AND u.credential_version = ?`,
			[]any{f.User, o.CredentialVersion}, func(r *row) {
				may = true
				f.Roles, f.Floor, f.TokensFrom = r.list(), r.instant(), r.instant()
			}); err != nil {
			return err
		}
		if !may {
			return login.ErrRefused
		}
		if t.now.Before(f.Floor) {
			return login.ErrBelowFloor
		}
		if err := t.endReplaced(o); err != nil {
			return err
		}
		if _, err := t.exec(`-- name: login.session
			INSERT INTO sessions (id, user_id, kind, client, device_name, created_at, absolute_end, status_index)
			VALUES (?, ?, ?, ?, ?, ?, ?, nullif(?, 0))`,
			o.Session, f.User, string(o.Kind), f.Client, o.DeviceName, t.now, f.AbsoluteEnd, f.StatusIndex); err != nil {
			return err
		}
		if err := t.bear(&f); err != nil {
			return err
		}
		if err := t.rehash(o); err != nil {
			return err
		}
		if err := t.knowNetwork(f.User, o.Network); err != nil {
			return err
		}
		if err := t.forgetBudgets(o.Forget); err != nil {
			return err
		}
		opened := audit.Event{
			Kind:    audit.SessionOpened,
			Details: map[string]string{"client": f.Client, "kind": string(o.Kind), "ip": f.IP, "user_agent": f.UserAgent, "device_name": o.DeviceName},
		}
		for _, e := range append([]audit.Event{opened}, o.Also...) {
			e.Actor, e.User, e.Session, e.Family, e.RequestID = o.Actor, f.User, o.Session, f.ID, o.RequestID
			if err := t.addEvents(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return refresh.Family{}, err
	}
	return f, nil
}

// endReplaced ends the session of the cookie that came with the login, which
// may be another user's.
func (t *tx) endReplaced(o login.Opening) error {
	if o.Replaces.IsZero() {
		return nil
	}
	var owner id.User
	found, err := t.one(`-- name: login.replaced
		SELECT user_id FROM sessions WHERE id = ?`, []any{o.Replaces}, func(r *row) { r.fill(owner[:]) })
	if err != nil || !found {
		return err
	}
	_, _, err = endFamilies(t, ending{
		user: owner, session: o.Replaces, reason: refresh.EndedByRelogin, actor: o.Actor, requestID: o.RequestID,
	})
	return err
}

// bear writes a new family.
func (t *tx) bear(f *refresh.Family) error {
	_, err := t.exec(`-- name: login.family
		INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr,
			binding, transport, rotates, remembered, idle_ttl, born_at, absolute_end,
			user_agent, ip, sender, generation, head_key, head_born, used_at, status_index)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, 0))`,
		f.ID, f.Session, f.User, f.Client, f.SecretHash[:], f.Scope, f.Audience, f.AuthTime, f.AMR,
		string(f.Binding), string(f.Transport), f.Rotates, f.Remembered, f.IdleTTL, f.BornAt, f.AbsoluteEnd,
		f.UserAgent, f.IP, f.Sender[:], f.Generation, f.HeadKey, f.HeadBorn, f.UsedAt, f.StatusIndex)
	return err
}

// rehash replaces the hash that was verified by one of today's parameters,
// unless somebody has replaced it meanwhile.
func (t *tx) rehash(o login.Opening) error {
	if o.NewHash == "" {
		return nil
	}
	n, err := t.exec(`-- name: login.rehash
		UPDATE passwords SET hash = ?, scheme = ? WHERE user_id = ? AND hash = ?`,
		o.NewHash, o.NewScheme, o.Family.User, o.OldHash)
	if err != nil || n == 0 {
		return err
	}
	return t.addEvents(audit.Event{
		Kind: audit.PasswordRehashed, Actor: audit.BySystem, User: o.Family.User, RequestID: o.RequestID,
		Details: map[string]string{"scheme": o.NewScheme},
	})
}

// knowNetwork notes a login from a network; an empty one is none.
func (t *tx) knowNetwork(u id.User, network string) error {
	if network == "" {
		return nil
	}
	_, err := t.exec(`-- name: login.know_network
		INSERT INTO known_networks (user_id, network, login_at) VALUES (?, ?, ?)
		ON CONFLICT (user_id, network) DO UPDATE SET login_at = excluded.login_at`, u, network, t.now)
	return err
}

// SweepNetworks implements login.Store.
func (s Logins) SweepNetworks(ctx context.Context, limit int) (int, error) {
	return s.db.sweep(ctx, "login.sweep_networks", `-- name: login.sweep_networks
		DELETE FROM known_networks WHERE (user_id, network) IN (
			SELECT user_id, network FROM known_networks WHERE login_at <= ? ORDER BY login_at LIMIT ?)`,
		s.db.now().Add(-login.KnownFor), limit)
}
