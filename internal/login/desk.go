package login

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
)

// Policy is what a login opens.
type Policy struct {
	Client        string // the client that first-party sessions belong to
	Scope         string
	Audience      []string
	AdminAudience string        // what "audience": "admin" asks for
	IdleTTL       time.Duration // between two refreshes
	SessionTTL    time.Duration // absolute
	RememberTTL   time.Duration // absolute, with remember
	// StatusIndex returns a place in the status lists for a new session; nil
	// where there are no lists. An error is trouble.
	StatusIndex func(context.Context) (int64, error)
}

// Request is one try to log in.
type Request struct {
	Email      string
	Password   secret.Text
	DeviceName string
	Remember   bool
	Transport  refresh.Transport
	Admin      bool // the admin API's audience is asked for

	// LiveUser and LiveSession are those of a living token or cookie that came
	// along; zero when none did. One of the same account earns a budget of its
	// own.
	LiveUser    id.User
	LiveSession id.Session
	// Replaces is the session of a living cookie that came along; it ends.
	Replaces id.Session

	Network   string // of the client, see limit.Network
	IP        string
	UserAgent string
	InstallID string
	RequestID string
}

// Opened is a fresh session.
type Opened struct {
	// User is whose address it was, also where the login was refused: for the log.
	// Zero when it is nobody's.
	User   id.User
	Family refresh.Family
	Token  secret.Text // the first refresh token
	// IdleEnd is the family's idle end.
	IdleEnd time.Time
}

// Observer is told how logins end, for metrics.
type Observer interface {
	LoggedIn(outcome string)
}

// Desk is where people log in. It is safe for concurrent use.
type Desk struct {
	store    Store
	accounts account.Store
	sessions session.Store
	ledger   limit.Ledger
	hasher   *password.Hasher
	rules    password.Rules
	roots    refresh.Roots
	policy   Policy
	observer Observer
	schemes  schemes
	networks *limit.Turns[string]
	budgets  *limit.Turns[limit.Budget]
}

// NewDesk returns a desk.
func NewDesk(store Store, accounts account.Store, sessions session.Store, ledger limit.Ledger, hasher *password.Hasher, rules password.Rules, roots refresh.Roots, policy Policy, observer Observer) *Desk {
	return &Desk{
		store: store, accounts: accounts, sessions: sessions, ledger: ledger, hasher: hasher, rules: rules,
		roots: roots, policy: policy, observer: observer,
		networks: limit.NewTurns[string](networkTurns, turnQueue),
		budgets:  limit.NewTurns[limit.Budget](1, turnQueue),
	}
}

// The outcomes of a login, as metrics and logs name them.
const (
	outcomeOpened    = "opened"
	outcomeRefused   = "invalid_credentials"
	outcomeThrottled = "too_many_attempts"
	outcomeTrouble   = "temporarily_unavailable"
	outcomeForbidden = "forbidden"
)

// LogIn verifies a password and opens a session. The answer and its time are
// the same for an unknown address, a wrong password and a disabled account
// (OWASP ASVS v5.0.0-6.3.8). Errors are faults: invalid_credentials,
// too_many_attempts, forbidden (the admin audience without the role) and
// temporarily_unavailable.
func (d *Desk) LogIn(ctx context.Context, r Request) (Opened, error) {
	opened, err := d.logIn(ctx, r)
	d.observer.LoggedIn(outcomeOf(err))
	return opened, err
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return outcomeOpened
	case fault.Is(err, fault.InvalidCredentials):
		return outcomeRefused
	case fault.Is(err, fault.TooManyAttempts):
		return outcomeThrottled
	case fault.Is(err, fault.Forbidden):
		return outcomeForbidden
	default:
		return outcomeTrouble
	}
}

func (d *Desk) logIn(ctx context.Context, r Request) (opened Opened, err error) {
	key := account.EmailKey(r.Email)
	cred, err := d.store.Credential(ctx, key, r.Network)
	if err != nil {
		return Opened{}, fault.Trouble(err)
	}
	opened.User = cred.User.ID
	charges := chargesFor(key, r, cred)
	leave, err := d.turn(ctx, r.Network, charges[0].Budget)
	if err != nil {
		return opened, err
	}
	defer leave()
	if err := d.charge(ctx, charges); err != nil {
		return opened, err
	}
	hash := cred.Hash
	if !cred.User.DisabledAt.IsZero() {
		hash = "" // a right password takes less time than a wrong one, and would tell that it is right
	}
	verdict, err := d.verify(ctx, hash, r.Password)
	if err != nil {
		d.refund(ctx, charges)
		return opened, err
	}
	switch {
	case cred.User.ID.IsZero():
		return opened, invalidCredentials("unknown_user")
	case !cred.User.DisabledAt.IsZero():
		return opened, invalidCredentials("user_disabled")
	case !verdict.Match:
		return opened, invalidCredentials("wrong_password")
	case r.Admin && !slices.Contains(cred.User.Roles, account.RoleAdmin):
		d.refund(ctx, charges) // the password was right
		return opened, fault.New(fault.Forbidden, "This account does not have the role %q that the admin audience asks for.", account.RoleAdmin).WithReason("role_missing")
	}

	opening, token, err := d.opening(ctx, r, cred, verdict)
	if err != nil {
		d.refund(ctx, charges)
		return opened, err
	}
	opening.Forget = budgets(charges)
	family, err := d.store.Open(ctx, opening)
	if errors.Is(err, ErrRefused) {
		return opened, invalidCredentials("changed_meanwhile").Because(err)
	}
	if err != nil {
		d.refund(ctx, charges)
		return opened, fault.Trouble(err)
	}
	// What logins leave behind is bounded, too; to look at one login in sixteen
	// is enough for that. A failure is no reason to refuse this one.
	if opening.Session[15]%16 == 0 {
		_, _ = d.sessions.EndOldest(ctx, cred.User.ID, session.MaxLiving, r.RequestID)
	}
	return Opened{User: cred.User.ID, Family: family, Token: token, IdleEnd: family.IdleEnd(refresh.Policy{IdleTTL: d.policy.IdleTTL})}, nil
}

func invalidCredentials(reason string) *fault.Fault {
	return fault.New(fault.InvalidCredentials, "The e-mail address or the password is wrong.").WithReason(reason)
}

// opening prepares the session and its first family.
func (d *Desk) opening(ctx context.Context, r Request, cred Credential, verdict password.Verdict) (Opening, secret.Text, error) {
	o := Opening{
		Session: id.NewSession(), Kind: session.Browser, DeviceName: r.DeviceName,
		AbsoluteTTL: d.policy.SessionTTL, CredentialVersion: cred.User.CredentialVersion,
		Replaces: r.Replaces, Network: r.Network, Actor: audit.ByUser, RequestID: r.RequestID,
	}
	if r.Remember {
		o.AbsoluteTTL = d.policy.RememberTTL
	}
	if verdict.Stale {
		// A full queue is no reason to refuse a right password: the hash is
		// renewed at a later login instead.
		if h, err := d.hasher.Hash(ctx, r.Password); err == nil {
			o.OldHash, o.NewHash, o.NewScheme = cred.Hash, h.Encoded, h.Scheme.String()
		}
	}
	audience := d.policy.Audience
	if r.Admin {
		audience = []string{d.policy.AdminAudience}
	}
	family, token, err := refresh.Bear(d.roots, refresh.Birth{
		Session: o.Session, User: cred.User.ID, Client: d.policy.Client, Scope: d.policy.Scope,
		Audience: audience, AMR: []string{"pwd"}, Transport: r.Transport, Rotates: true, Remembered: r.Remember,
		IdleTTL: d.policy.IdleTTL, Sender: refresh.SenderOf(r.InstallID, r.UserAgent),
		UserAgent: r.UserAgent, IP: r.IP,
	})
	if err != nil {
		return Opening{}, secret.Text{}, fault.Trouble(err)
	}
	if d.policy.StatusIndex != nil {
		if family.StatusIndex, err = d.policy.StatusIndex(ctx); err != nil {
			return Opening{}, secret.Text{}, fault.Trouble(err)
		}
	}
	o.Family = family
	return o, token, nil
}

// verify compares a password in a time that depends neither on whether the
// account exists nor on the kind of its hash.
func (d *Desk) verify(ctx context.Context, hash string, given secret.Text) (password.Verdict, error) {
	present, err := d.schemes.present(ctx, d.accounts)
	if err != nil {
		return password.Verdict{}, fault.Trouble(err)
	}
	return d.hasher.VerifyEqual(ctx, hash, given, present)
}

// PasswordChange is a person's wish for another password.
type PasswordChange struct {
	User      id.User
	Email     string
	Session   id.Session // the one that asks, which stays
	Current   secret.Text
	New       secret.Text
	Network   string
	RequestID string
}

// ChangePassword verifies the current password, replaces it and ends every
// other session. A wrong one counts as a failed login. It returns how many
// sessions ended. Errors are faults: wrong_password, password_too_weak,
// too_many_attempts, temporarily_unavailable.
func (d *Desk) ChangePassword(ctx context.Context, c PasswordChange) (ended int, err error) {
	if weak := d.rules.Check(c.New, c.Email); weak != nil {
		return 0, weak
	}
	key := account.EmailKey(c.Email)
	cred, err := d.store.Credential(ctx, key, c.Network)
	if err != nil {
		return 0, fault.Trouble(err)
	}
	charges := []limit.Charge{{Budget: limit.BudgetOf("login/session", key, c.Session.String()), Allowance: network}}
	leave, err := d.turn(ctx, c.Network, charges[0].Budget)
	if err != nil {
		return 0, err
	}
	defer leave()
	if err := d.charge(ctx, charges); err != nil {
		return 0, err
	}
	verdict, err := d.verify(ctx, cred.Hash, c.Current)
	if err != nil {
		d.refund(ctx, charges)
		return 0, err
	}
	if !verdict.Match || cred.User.ID != c.User {
		return 0, fault.New(fault.WrongPassword, "The current password is wrong.").WithReason("wrong_password")
	}
	hash, err := d.hasher.Hash(ctx, c.New)
	if err != nil {
		d.refund(ctx, charges)
		return 0, err
	}
	ended, err = d.accounts.ChangePassword(ctx, account.PasswordChange{
		User: c.User, Version: cred.User.CredentialVersion, Hash: hash.Encoded, Scheme: hash.Scheme.String(),
		Keep: c.Session, Actor: audit.ByUser, RequestID: c.RequestID,
	})
	switch {
	case errors.Is(err, account.ErrChanged), errors.Is(err, account.ErrNotFound):
		return 0, fault.New(fault.WrongPassword, "The password was changed meanwhile.").WithReason("changed_meanwhile").Because(err)
	case err != nil:
		d.refund(ctx, charges)
		return 0, fault.Trouble(err)
	}
	// The change has happened; what cannot be forgotten now is in a day.
	_ = d.ledger.Forget(context.WithoutCancel(ctx), budgets(charges))
	return ended, nil
}

// schemes caches which kinds of hashes the store holds.
type schemes struct {
	mu    sync.Mutex
	known []password.Scheme
	read  time.Time
}

// schemesFor is how long the list is believed: an import on the command line
// is noticed after at most that.
const schemesFor = 5 * time.Second

func (s *schemes) present(ctx context.Context, accounts account.Store) ([]password.Scheme, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.read.IsZero() && time.Since(s.read) < schemesFor {
		return s.known, nil
	}
	names, err := accounts.Schemes(ctx)
	if err != nil {
		return nil, err
	}
	known := make([]password.Scheme, 0, len(names))
	for _, name := range names {
		if scheme, err := password.ParseScheme(name); err == nil {
			known = append(known, scheme)
		}
	}
	s.known, s.read = known, time.Now()
	return known, nil
}
