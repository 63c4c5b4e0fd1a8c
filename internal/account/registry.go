package account

import (
	"context"
	"errors"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/secret"
)

// Policy says who may make an account.
type Policy struct {
	// RegistrationOpen lets anybody register through the public API. Accounts
	// made on the host are always possible.
	RegistrationOpen bool
}

// Registration is a stranger's wish for an account.
type Registration struct {
	Email     string
	Password  secret.Text
	Network   string // of the client, see limit.Network
	RequestID string
}

// Registry is where accounts are made. It is safe for concurrent use.
type Registry struct {
	store  Store
	ledger limit.Ledger
	hasher *password.Hasher
	rules  password.Rules
	policy Policy
	turns  *limit.Turns[string]
}

// registerTurns is how many registrations of one network are under way at once,
// and registerQueue how many wait: what parallel tries could learn beyond the
// allowance is bounded by the first, and one host cannot keep others out.
const (
	registerTurns = 4
	registerQueue = 256
)

// NewRegistry returns a registry.
func NewRegistry(store Store, ledger limit.Ledger, hasher *password.Hasher, rules password.Rules, policy Policy) *Registry {
	return &Registry{store: store, ledger: ledger, hasher: hasher, rules: rules, policy: policy, turns: limit.NewTurns[string](registerTurns, registerQueue)}
}

// taken bounds how often one network may learn that an address has an
// account: 20 an hour. That answer is the only one here that tells.
var taken = limit.Allowance{Free: 20, First: time.Hour, Longest: time.Hour, Forget: time.Hour}

// Register makes an account for a stranger. Errors are faults:
// registration_closed, invalid_request, password_too_weak, email_taken,
// too_many_requests, temporarily_unavailable.
func (r *Registry) Register(ctx context.Context, reg Registration) (User, error) {
	if !r.policy.RegistrationOpen {
		return User{}, fault.New(fault.RegistrationClosed, "Registration is closed on this server.")
	}
	email, err := ParseEmail(reg.Email)
	if err != nil {
		return User{}, fault.New(fault.InvalidRequest, "%s", err)
	}
	if weak := r.rules.Check(reg.Password, email.String()); weak != nil {
		return User{}, weak
	}
	leave, err := r.turns.Enter(ctx, reg.Network)
	if err != nil {
		return User{}, fault.Trouble(err).After(2 * time.Second).WithReason("registration_queue")
	}
	defer leave()
	budget := limit.BudgetOf("register/taken", reg.Network)
	wait, err := r.ledger.Closed(ctx, []limit.Budget{budget})
	if err != nil {
		return User{}, fault.Trouble(err)
	}
	if wait > 0 {
		return User{}, tooManyTaken(wait)
	}
	user, err := r.create(ctx, NewUser{
		ID: id.NewUser(), Email: email, Network: reg.Network, Actor: audit.ByUser, RequestID: reg.RequestID,
	}, reg.Password)
	if !errors.Is(err, ErrEmailTaken) {
		return user, err
	}
	// Parallel tries cannot be told together: whoever is one too many when it is
	// counted is told to wait instead.
	wait, err = r.ledger.Charge(ctx, []limit.Charge{{Budget: budget, Allowance: taken}})
	if err != nil {
		return User{}, fault.Trouble(err)
	}
	if wait > 0 {
		return User{}, tooManyTaken(wait)
	}
	return User{}, fault.New(fault.EmailTaken, "An account with this e-mail address exists.")
}

func tooManyTaken(wait time.Duration) error {
	return fault.New(fault.TooManyRequests, "This network asked for too many addresses that have an account already.").
		After(wait).WithReason("registration_throttled")
}

// Create makes an account on the host, whatever the registration policy says.
// The rules for passwords hold here, too. ErrEmailTaken when there is one.
func (r *Registry) Create(ctx context.Context, email Email, given secret.Text, roles []string, actor, requestID string) (User, error) {
	if weak := r.rules.Check(given, email.String()); weak != nil {
		return User{}, weak
	}
	return r.create(ctx, NewUser{ID: id.NewUser(), Email: email, Roles: roles, Actor: actor, RequestID: requestID}, given)
}

func (r *Registry) create(ctx context.Context, n NewUser, given secret.Text) (User, error) {
	hash, err := r.hasher.Hash(ctx, given)
	if err != nil {
		return User{}, err
	}
	n.Hash, n.Scheme = hash.Encoded, hash.Scheme.String()
	user, err := r.store.Create(ctx, n)
	if err != nil && !errors.Is(err, ErrEmailTaken) {
		return User{}, fault.Trouble(err)
	}
	return user, err
}

// SetPassword replaces a password on the host and ends every session. It
// returns how many ended.
func (r *Registry) SetPassword(ctx context.Context, user User, given secret.Text, actor, requestID string) (ended int, err error) {
	if weak := r.rules.Check(given, user.Email); weak != nil {
		return 0, weak
	}
	hash, err := r.hasher.Hash(ctx, given)
	if err != nil {
		return 0, err
	}
	return r.store.ChangePassword(ctx, PasswordChange{
		User: user.ID, Hash: hash.Encoded, Scheme: hash.Scheme.String(), Actor: actor, RequestID: requestID,
	})
}
