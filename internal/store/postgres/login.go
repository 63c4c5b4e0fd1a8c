package postgres

import (
	"bytes"
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
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

// Logins implements login.Store.
type Logins struct{ db *DB }

// Credential implements login.Store.
func (s Logins) Credential(ctx context.Context, emailKey, network string) (cred login.Credential, err error) {
	err = s.db.read(ctx, "login.credential", func(ctx context.Context, c *pgxpool.Conn) error {
		var u account.User
		var disabled *time.Time
		err := c.QueryRow(ctx, `-- name: login.credential
			SELECT u.id, u.email, u.created_at, u.disabled_at, u.roles, u.credential_version, COALESCE(p.hash, ''),
				EXISTS (SELECT FROM known_networks k WHERE k.user_id = u.id AND k.network = $2
					AND k.login_at > COALESCE($3::timestamptz, now()) - $4::interval)
			FROM users u LEFT JOIN passwords p ON p.user_id = u.id
			WHERE u.email_key = $1`, clean(emailKey), clean(network), s.db.clock(), login.KnownFor,
		).Scan((*[16]byte)(&u.ID), &u.Email, &u.CreatedAt, &disabled, &u.Roles, &u.CredentialVersion, &cred.Hash, &cred.KnownNetwork)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		u.DisabledAt, u.HasPassword = at(disabled), cred.Hash != ""
		cred.User = u
		return err
	})
	return cred, err
}

// Open implements login.Store.
func (s Logins) Open(ctx context.Context, o login.Opening) (f refresh.Family, err error) {
	err = s.db.write(ctx, "login.open", func(ctx context.Context, tx pgx.Tx) error {
		b, err := s.admit(ctx, tx, o)
		if err != nil {
			return err
		}
		f = born(o, b)
		if err := bear(ctx, tx, o, f); err != nil {
			return err
		}
		if b.replacedUser.IsZero() {
			return nil
		}
		_, err = endFamilies(ctx, tx, b.now, ending{
			user: b.replacedUser, session: o.Replaces, reason: refresh.EndedByRelogin, actor: o.Actor, requestID: o.RequestID,
		})
		return err
	})
	if err != nil {
		return refresh.Family{}, err
	}
	return f, nil
}

// admission is what a birth must know.
type admission struct {
	roles        []string
	floor        time.Time
	tokensFrom   time.Time
	now          time.Time
	replacedUser id.User // zero when there is nothing to replace
}

// admit takes the locks of a birth, user rows in id order: the newcomer's FOR
// SHARE, and the row of whoever loses a session as every end takes it. Then it
// reads the clock, so that a floor raised meanwhile lies before the birth.
func (s Logins) admit(ctx context.Context, tx pgx.Tx, o login.Opening) (a admission, err error) {
	if !o.Replaces.IsZero() {
		err := tx.QueryRow(ctx, `-- name: login.replaced_user
			SELECT user_id FROM sessions WHERE id = $1`, [16]byte(o.Replaces)).Scan((*[16]byte)(&a.replacedUser))
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return a, fmt.Errorf("find the replaced session's user: %w", err)
		}
	}
	user := o.Family.User
	var disabled bool
	var version int32
	var floor, ofUser, ofAll *time.Time
	var b pgx.Batch
	replaced := func() { b.Queue(lockUsers, [][16]byte{a.replacedUser}) }
	if !a.replacedUser.IsZero() && a.replacedUser.Compare(user) <= 0 {
		replaced()
	}
	b.Queue(`-- name: login.hold_user
		SELECT disabled_at IS NOT NULL, credential_version, roles, tokens_from FROM users WHERE id = $1 FOR SHARE`,
		[16]byte(user)).QueryRow(func(row pgx.Row) error { return row.Scan(&disabled, &version, &a.roles, &ofUser) })
	if !a.replacedUser.IsZero() && a.replacedUser.Compare(user) > 0 {
		replaced()
	}
	b.Queue(`-- name: login.clock
		SELECT COALESCE($1::timestamptz, clock_timestamp()), s.floor, s.tokens_from
		FROM (SELECT) one LEFT JOIN server_state s ON true`, s.db.clock()).
		QueryRow(func(row pgx.Row) error { return row.Scan(&a.now, &floor, &ofAll) })
	err = tx.SendBatch(ctx, &b).Close()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return a, login.ErrRefused // the account is gone
	case err != nil:
		return a, err
	case disabled || version != o.CredentialVersion:
		return a, login.ErrRefused
	}
	a.floor, a.tokensFrom = floorAt(floor), at(ofUser)
	if all := at(ofAll); all.After(a.tokensFrom) {
		a.tokensFrom = all
	}
	return a, nil
}

// born sets the instants of a family's birth.
func born(o login.Opening, a admission) refresh.Family {
	f := o.Family
	f.Session = o.Session
	f.AuthTime, f.BornAt, f.HeadBorn, f.UsedAt = a.now, a.now, a.now, a.now
	f.AbsoluteEnd = a.now.Add(o.AbsoluteTTL.Truncate(time.Microsecond))
	f.IdleTTL = f.IdleTTL.Truncate(time.Microsecond)
	f.Roles, f.Floor, f.TokensFrom = a.roles, a.floor, a.tokensFrom
	f.Audience, f.AMR = notNil(f.Audience), notNil(f.AMR)
	f.UserAgent, f.IP, f.Scope = clean(f.UserAgent), clean(f.IP), clean(f.Scope)
	return f
}

// bear writes the session, its first family, and what else a login leaves, in
// one round trip.
func bear(ctx context.Context, tx pgx.Tx, o login.Opening, f refresh.Family) error {
	var retryKey []byte
	if f.RetryKey != (refresh.RetryKey{}) {
		retryKey = f.RetryKey[:]
	}
	var b pgx.Batch
	b.Queue(`-- name: login.open_session
		INSERT INTO sessions (id, user_id, kind, client, device_name, created_at, absolute_end)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		[16]byte(o.Session), [16]byte(f.User), string(o.Kind), f.Client, clean(o.DeviceName), f.BornAt, f.AbsoluteEnd)
	b.Queue(`-- name: login.open_family
		INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr,
			binding, transport, rotates, remembered, idle_ttl, born_at, absolute_end,
			user_agent, ip, sender, generation, head_key, head_born, used_at, retry_key, key_fresh)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`,
		[16]byte(f.ID), [16]byte(f.Session), [16]byte(f.User), f.Client, f.SecretHash[:], f.Scope, f.Audience, f.AuthTime, f.AMR,
		string(f.Binding), string(f.Transport), f.Rotates, f.Remembered, f.IdleTTL, f.BornAt, f.AbsoluteEnd,
		f.UserAgent, f.IP, f.Sender[:], f.Generation, int16(f.HeadKey), f.HeadBorn, f.UsedAt, retryKey, f.KeyFresh)
	err := queueEvent(&b, f.BornAt, audit.Event{
		Kind: audit.SessionOpened, Actor: o.Actor, User: f.User, Session: o.Session, Family: f.ID, RequestID: o.RequestID,
		Details: map[string]string{"client": f.Client, "ip": f.IP, "user_agent": f.UserAgent, "device_name": o.DeviceName},
	})
	if err != nil {
		return err
	}
	for _, also := range o.Also {
		also.Actor, also.User, also.Session, also.Family, also.RequestID = o.Actor, f.User, o.Session, f.ID, o.RequestID
		if err := queueEvent(&b, f.BornAt, also); err != nil {
			return err
		}
	}
	rehashed := queueMemory(&b, o, f.BornAt)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("write session and family: %w", err)
	}
	if *rehashed == 0 {
		return nil
	}
	return addEvents(ctx, tx, f.BornAt, audit.Event{Kind: audit.PasswordRehashed, Actor: audit.BySystem, User: o.Family.User, RequestID: o.RequestID})
}

// queueMemory adds what a successful login leaves besides its session. It
// returns where the number of renewed hashes will stand.
func queueMemory(b *pgx.Batch, o login.Opening, now time.Time) (rehashed *int) {
	user := [16]byte(o.Family.User)
	rehashed = new(int)
	if o.NewHash != "" {
		b.Queue(`-- name: login.rehash
			UPDATE passwords SET hash = $3, scheme = $4 WHERE user_id = $1 AND hash = $2`,
			user, o.OldHash, o.NewHash, o.NewScheme).Exec(count(rehashed))
	}
	if o.Network != "" {
		b.Queue(`-- name: login.know_network
			INSERT INTO known_networks (user_id, network, login_at) VALUES ($1, $2, $3)
			ON CONFLICT (user_id, network) DO UPDATE SET login_at = excluded.login_at`, user, clean(o.Network), now)
	}
	if len(o.Forget) > 0 {
		budgets := budgetBytes(o.Forget)
		slices.SortFunc(budgets, bytes.Compare)
		b.Queue(forgetBudgets, budgets)
	}
	return rehashed
}

// SweepNetworks implements login.Store.
func (s Logins) SweepNetworks(ctx context.Context, limit int) (deleted int, err error) {
	err = s.db.write(ctx, "login.sweep_networks", func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `-- name: login.sweep_networks
			DELETE FROM known_networks WHERE (user_id, network) IN (
				SELECT user_id, network FROM known_networks
				WHERE login_at <= COALESCE($1::timestamptz, now()) - $2::interval
				ORDER BY login_at LIMIT $3 FOR UPDATE SKIP LOCKED)`, s.db.clock(), login.KnownFor, limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}
