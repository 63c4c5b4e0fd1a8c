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

// Open implements login.Store. Where no session is replaced it takes two round
// trips: the locks go with BEGIN, the rows with COMMIT.
func (s Logins) Open(ctx context.Context, o login.Opening) (f refresh.Family, err error) {
	var a admission
	t := transaction{act: func(ctx context.Context, tx pgx.Tx) (last *pgx.Batch, err error) {
		if !o.Replaces.IsZero() {
			if a, err = s.admitInPlaceOf(ctx, tx, o); err != nil {
				return nil, err
			}
		}
		if !a.admits(o) {
			return nil, login.ErrRefused
		}
		if a.now.Before(a.floor) {
			return nil, login.ErrBelowFloor
		}
		f = born(o, a)
		return s.bear(ctx, tx, o, f, a)
	}}
	if o.Replaces.IsZero() {
		t.first = func(b *pgx.Batch) {
			a = admission{}
			s.queueHold(b, o.Family.User, &a)
			s.queueClock(b, &a)
		}
	}
	if err := s.db.transact(ctx, "login.open", lockPatience, t); err != nil {
		return refresh.Family{}, err
	}
	return f, nil
}

// admission is what a birth must know. It is read under the lock on the
// newcomer's row.
type admission struct {
	found        bool
	disabled     bool
	version      int32
	roles        []string
	floor        time.Time
	tokensFrom   time.Time
	now          time.Time
	replacedUser id.User // zero when there is nothing to replace
}

// admits reports whether the account stands as it stood when the password was
// verified.
func (a admission) admits(o login.Opening) bool {
	return a.found && !a.disabled && a.version == o.CredentialVersion
}

// queueHold holds the newcomer's row FOR SHARE.
func (Logins) queueHold(b *pgx.Batch, user id.User, a *admission) {
	b.Queue(`-- name: login.hold_user
		SELECT disabled_at IS NOT NULL, credential_version, roles, tokens_from FROM users WHERE id = $1 FOR SHARE`,
		[16]byte(user)).QueryRow(func(row pgx.Row) error {
		var from *time.Time
		err := row.Scan(&a.disabled, &a.version, &a.roles, &from)
		a.tokensFrom = at(from)
		if a.found = err == nil; errors.Is(err, pgx.ErrNoRows) {
			return nil // the account is gone
		}
		return err
	})
}

// queueClock reads the clock after the locks, so that a floor raised meanwhile
// lies before the birth. It stands behind queueHold.
func (s Logins) queueClock(b *pgx.Batch, a *admission) {
	b.Queue(`-- name: login.clock
		SELECT COALESCE($1::timestamptz, clock_timestamp()), s.floor, s.tokens_from
		FROM (SELECT) one LEFT JOIN server_state s ON true`, s.db.clock()).
		QueryRow(func(row pgx.Row) error {
			var floor, from *time.Time
			err := row.Scan(&a.now, &floor, &from)
			a.floor = floorAt(floor)
			if all := at(from); all.After(a.tokensFrom) {
				a.tokensFrom = all
			}
			return err
		})
}

// admitInPlaceOf is the admission of a login that ends another session: user
// rows are locked in id order, that of whoever loses the session as every end
// takes it.
func (s Logins) admitInPlaceOf(ctx context.Context, tx pgx.Tx, o login.Opening) (a admission, err error) {
	err = tx.QueryRow(ctx, `-- name: login.replaced_user
		SELECT user_id FROM sessions WHERE id = $1`, [16]byte(o.Replaces)).Scan((*[16]byte)(&a.replacedUser))
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return a, fmt.Errorf("find the replaced session's user: %w", err)
	}
	user := o.Family.User
	var b pgx.Batch
	replaced := func() { b.Queue(lockUsers, [][16]byte{a.replacedUser}) }
	if !a.replacedUser.IsZero() && a.replacedUser.Compare(user) <= 0 {
		replaced()
	}
	s.queueHold(&b, user, &a)
	if !a.replacedUser.IsZero() && a.replacedUser.Compare(user) > 0 {
		replaced()
	}
	s.queueClock(&b, &a)
	return a, tx.SendBatch(ctx, &b).Close()
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

// bear writes the rows of a birth and ends what it replaces. What it returns
// is left to go with the commit: all rows, unless something depends on them.
func (Logins) bear(ctx context.Context, tx pgx.Tx, o login.Opening, f refresh.Family, a admission) (last *pgx.Batch, err error) {
	rows, rehashed, err := birthRows(o, f)
	if err != nil || o.NewHash == "" && a.replacedUser.IsZero() {
		return rows, err
	}
	if err := tx.SendBatch(ctx, rows).Close(); err != nil {
		return nil, fmt.Errorf("write session and family: %w", err)
	}
	if *rehashed > 0 {
		err := addEvents(ctx, tx, f.BornAt, audit.Event{
			Kind: audit.PasswordRehashed, Actor: audit.BySystem, User: f.User, RequestID: o.RequestID, Details: map[string]string{"scheme": o.NewScheme},
		})
		if err != nil {
			return nil, err
		}
	}
	if a.replacedUser.IsZero() {
		return nil, nil
	}
	_, err = endFamilies(ctx, tx, a.now, ending{
		user: a.replacedUser, session: o.Replaces, reason: refresh.EndedByRelogin, actor: o.Actor, requestID: o.RequestID,
	})
	return nil, err
}

// birthRows queues the session, its first family, and what else a login
// leaves. rehashed is where the number of renewed hashes will stand.
func birthRows(o login.Opening, f refresh.Family) (b *pgx.Batch, rehashed *int, err error) {
	var retryKey []byte
	if f.RetryKey != (refresh.RetryKey{}) {
		retryKey = f.RetryKey[:]
	}
	b = &pgx.Batch{}
	b.Queue(`-- name: login.open_session
		INSERT INTO sessions (id, user_id, kind, client, device_name, created_at, absolute_end, status_index)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		[16]byte(o.Session), [16]byte(f.User), string(o.Kind), f.Client, clean(o.DeviceName), f.BornAt, f.AbsoluteEnd, nullIndex(f.StatusIndex))
	b.Queue(`-- name: login.open_family
		INSERT INTO families (id, session_id, user_id, client, secret_hash, scope, audience, auth_time, amr,
			binding, transport, rotates, remembered, idle_ttl, born_at, absolute_end,
			user_agent, ip, sender, generation, head_key, head_born, used_at, retry_key, key_fresh, status_index,
			roles, tokens_from)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26,
			$27, $28)`,
		[16]byte(f.ID), [16]byte(f.Session), [16]byte(f.User), f.Client, f.SecretHash[:], f.Scope, f.Audience, f.AuthTime, f.AMR,
		string(f.Binding), string(f.Transport), f.Rotates, f.Remembered, f.IdleTTL, f.BornAt, f.AbsoluteEnd,
		f.UserAgent, f.IP, f.Sender[:], f.Generation, int16(f.HeadKey), f.HeadBorn, f.UsedAt, retryKey, f.KeyFresh, nullIndex(f.StatusIndex),
		notNil(f.Roles), orNull(f.TokensFrom))
	events := append([]audit.Event{{
		Kind:    audit.SessionOpened,
		Details: map[string]string{"client": f.Client, "kind": string(o.Kind), "ip": f.IP, "user_agent": f.UserAgent, "device_name": o.DeviceName},
	}}, o.Also...)
	for _, event := range events {
		event.Actor, event.User, event.Session, event.Family, event.RequestID = o.Actor, f.User, o.Session, f.ID, o.RequestID
		if err := queueEvent(b, f.BornAt, event); err != nil {
			return nil, nil, err
		}
	}
	return b, queueMemory(b, o, f.BornAt), nil
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
