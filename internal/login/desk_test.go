package login_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/sqlite"
)

// oneRoot is a root key ring of one key.
type oneRoot struct{ key secret.Bytes }

func (oneRoot) Revision() int64 { return 0 }

func (r oneRoot) ActiveRoot() (uint8, secret.Bytes, error) { return 1, r.key, nil }
func (r oneRoot) Root(n uint8) (secret.Bytes, bool)        { return r.key, n == 1 }
func (oneRoot) Reread(context.Context) error               { return nil }

// outcomes counts how logins end.
type outcomes struct {
	mu    sync.Mutex
	count map[string]int
}

func (o *outcomes) LoggedIn(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count[outcome]++
}

// reception is a desk over a real store, with the clock in hand.
type reception struct {
	*login.Desk
	engine   store.Engine
	registry *account.Registry
	outcomes *outcomes
	hashes   atomic.Int64 // computed so far
	mu       sync.Mutex
	now      time.Time
}

func (r *reception) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Hashed and Shed implement password.Observer.
func (r *reception) Hashed(string, time.Duration) { r.hashes.Add(1) }
func (*reception) Shed()                          {}

func (r *reception) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

var policy = login.Policy{
	Client: "first-party", Scope: "account", Audience: []string{"https://a.example"}, AdminAudience: "https://a.example/admin",
	IdleTTL: time.Hour, SessionTTL: 10 * time.Hour, RememberTTL: 100 * time.Hour,
}

const good = "correct horse battery staple"

func open(t *testing.T) *reception {
	t.Helper()
	r := &reception{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), outcomes: &outcomes{count: map[string]int{}}}
	engine, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "db"), Now: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	if _, err := engine.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Founding().Found(t.Context(), store.Facts{Issuer: "https://a.example", MasterID: [8]byte{1}}); err != nil {
		t.Fatal(err)
	}
	hasher, err := password.New(password.Policy{Slots: 2, Queue: 256}, r)
	if err != nil {
		t.Fatal(err)
	}
	rules := password.DefaultRules()
	r.engine = engine
	r.registry = account.NewRegistry(engine.Accounts(), engine.Ledger(), hasher, rules, account.Policy{RegistrationOpen: true})
	r.Desk = login.NewDesk(engine.Logins(), engine.Accounts(), engine.Sessions(), engine.Ledger(), hasher, rules, oneRoot{secret.Random(32)}, policy, r.outcomes)
	return r
}

func (r *reception) register(t *testing.T, email string) account.User {
	t.Helper()
	u, err := r.registry.Register(t.Context(), account.Registration{Email: email, Password: secret.NewText(good), Network: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func request(email, password string) login.Request {
	return login.Request{Email: email, Password: secret.NewText(password), Transport: refresh.InBody, Network: "192.0.2.1", IP: "192.0.2.1", UserAgent: "test"}
}

func wantCode(t *testing.T, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want %s", err, code)
	}
	return fault.Of(err)
}

func TestLogIn_opensASession(t *testing.T) {
	r := open(t)
	u := r.register(t, "Ada@Example.com")
	opened, err := r.LogIn(t.Context(), request("ada@example.COM", good))
	if err != nil {
		t.Fatal(err)
	}
	f := opened.Family
	if f.User != u.ID || f.Client != "first-party" || f.Generation != 1 || !slices.Equal(f.Audience, policy.Audience) || !slices.Equal(f.AMR, []string{"pwd"}) {
		t.Errorf("family %+v", f)
	}
	if !f.AbsoluteEnd.Equal(r.clock().Add(policy.SessionTTL)) || !opened.IdleEnd.Equal(r.clock().Add(policy.IdleTTL)) {
		t.Errorf("ends %s and %s", f.AbsoluteEnd, opened.IdleEnd)
	}
	req := request("ada@example.com", good)
	req.Remember = true
	opened, err = r.LogIn(t.Context(), req)
	if err != nil || !opened.Family.AbsoluteEnd.Equal(r.clock().Add(policy.RememberTTL)) {
		t.Errorf("remembered until %s, %v", opened.Family.AbsoluteEnd, err)
	}
	if r.outcomes.count["opened"] != 2 {
		t.Errorf("outcomes %v", r.outcomes.count)
	}
}

// A failure computes every scheme there is, a success one. So the right password of a
// disabled account must not stop at the first.
func TestLogIn_theRightPasswordOfADisabledAccountTakesAsLong(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	banned := r.importBcrypt(t, "banned@example.com")
	if _, err := r.engine.Accounts().Disable(t.Context(), banned, "operator:test", ""); err != nil {
		t.Fatal(err)
	}
	computed := func(req login.Request) int64 {
		t.Helper()
		before := r.hashes.Load()
		_, err := r.LogIn(t.Context(), req)
		wantCode(t, err, fault.InvalidCredentials)
		return r.hashes.Load() - before
	}
	wrong, right := computed(request("ada@example.com", "wrong wrong")), computed(request("banned@example.com", good))
	if wrong != 2 || right != wrong {
		t.Errorf("a wrong password costs %d hashes, the right one of a disabled account %d; want 2 and 2", wrong, right)
	}
}

func TestLogIn_saysTheSameOfUnknownWrongAndDisabled(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	u := r.register(t, "bob@example.com")
	if _, err := r.engine.Accounts().Disable(t.Context(), u.ID, "operator:test", ""); err != nil {
		t.Fatal(err)
	}
	said := map[string]bool{}
	reasons := map[string]bool{}
	for _, req := range []login.Request{request("ada@example.com", "wrong wrong"), request("nobody@example.com", good), request("bob@example.com", good), request("not an address", good)} {
		_, err := r.LogIn(t.Context(), req)
		f := wantCode(t, err, fault.InvalidCredentials)
		said[f.Detail] = true
		reasons[f.Reason] = true
	}
	if len(said) != 1 || len(reasons) != 3 {
		t.Errorf("said %v for reasons %v; want one sentence and three reasons in the log", said, reasons)
	}
}

func TestLogIn_adminAudienceAsksForTheRole(t *testing.T) {
	r := open(t)
	u := r.register(t, "ada@example.com")
	req := request("ada@example.com", good)
	req.Admin = true
	_, err := r.LogIn(t.Context(), req)
	wantCode(t, err, fault.Forbidden)
	if err := r.engine.Accounts().SetRole(t.Context(), u.ID, account.RoleAdmin, true, "operator:test", ""); err != nil {
		t.Fatal(err)
	}
	opened, err := r.LogIn(t.Context(), req)
	if err != nil || !slices.Equal(opened.Family.Audience, []string{policy.AdminAudience}) || !slices.Equal(opened.Family.Roles, []string{account.RoleAdmin}) {
		t.Errorf("family %+v, %v", opened.Family, err)
	}
}

func TestLogIn_parallelGuessesCannotPassTogether(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	var mu sync.Mutex
	verified, throttled := 0, 0
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			req := request("ada@example.com", "wrong wrong")
			req.Network = "203.0.113.9" // a stranger's
			_, err := r.LogIn(t.Context(), req)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fault.Is(err, fault.InvalidCredentials):
				verified++
			case fault.Is(err, fault.TooManyAttempts):
				throttled++
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if verified != 10 || throttled != 30 {
		t.Errorf("%d guesses were verified and %d throttled; want 10 and 30", verified, throttled)
	}
}

func TestLogIn_backsOffAndForgetsAtSuccess(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	guess := func(password string) error {
		req := request("ada@example.com", password)
		req.Network = "203.0.113.9"
		_, err := r.LogIn(t.Context(), req)
		return err
	}
	for range 10 {
		wantCode(t, guess("wrong wrong"), fault.InvalidCredentials)
	}
	f := wantCode(t, guess(good), fault.TooManyAttempts) // the right one waits, too
	if f.RetryAfter <= 0 || f.RetryAfter > 2*time.Second {
		t.Errorf("told to wait %s", f.RetryAfter)
	}
	r.pass(f.RetryAfter)
	wantCode(t, guess("wrong wrong"), fault.InvalidCredentials)
	first := f.RetryAfter
	f = wantCode(t, guess(good), fault.TooManyAttempts)
	if f.RetryAfter <= first {
		t.Errorf("the wait does not grow: %s after %s", f.RetryAfter, first)
	}
	r.pass(f.RetryAfter)
	if err := guess(good); err != nil {
		t.Fatalf("the right password after the wait: %v", err)
	}
	// Now this network is known, and the slate is clean.
	for range 9 {
		wantCode(t, guess("wrong wrong"), fault.InvalidCredentials)
	}
	if err := guess(good); err != nil {
		t.Errorf("after nine more: %v", err)
	}
}

func TestLogIn_aThrottledAddressDoesNotTellWhetherItExists(t *testing.T) {
	r := open(t)
	for range 10 {
		_, err := r.LogIn(t.Context(), request("nobody@example.com", "wrong wrong"))
		wantCode(t, err, fault.InvalidCredentials)
	}
	_, err := r.LogIn(t.Context(), request("nobody@example.com", "wrong wrong"))
	wantCode(t, err, fault.TooManyAttempts)
}

// importBcrypt makes an account with a hash of another scheme than today's.
func (r *reception) importBcrypt(t *testing.T, address string) id.User {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(good), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	email, err := account.ParseEmail(address)
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := password.Parse(string(hash))
	if err != nil {
		t.Fatal(err)
	}
	u := id.NewUser()
	if taken, err := r.engine.Accounts().Import(t.Context(), []account.NewUser{{
		ID: u, Email: email, Hash: string(hash), Scheme: scheme.String(), Actor: "operator:test", Imported: true,
	}}); err != nil || len(taken) > 0 {
		t.Fatal(taken, err)
	}
	return u
}

func TestLogIn_renewsAnImportedHash(t *testing.T) {
	r := open(t)
	r.importBcrypt(t, "old@example.com")
	if _, err := r.LogIn(t.Context(), request("old@example.com", good)); err != nil {
		t.Fatal(err)
	}
	schemes, err := r.engine.Accounts().Schemes(t.Context())
	if err != nil || len(schemes) != 1 || schemes[0] != "argon2id m=19456,t=2,p=1" {
		t.Errorf("schemes after the login: %v, %v", schemes, err)
	}
	if _, err := r.LogIn(t.Context(), request("old@example.com", good)); err != nil {
		t.Errorf("with the new hash: %v", err)
	}
}

func TestLogIn_replacesTheSessionOfALiveCookie(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	first, err := r.LogIn(t.Context(), request("ada@example.com", good))
	if err != nil {
		t.Fatal(err)
	}
	req := request("ada@example.com", good)
	req.Replaces = first.Family.Session
	if _, err := r.LogIn(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	s, err := r.engine.Sessions().Session(t.Context(), first.Family.Session, refresh.Policy{IdleTTL: time.Hour})
	if err != nil || s == nil || s.EndReason != refresh.EndedByRelogin {
		t.Errorf("the replaced session: %+v, %v", s, err)
	}
}

func TestChangePassword_countsAWrongOneAndEndsTheOthers(t *testing.T) {
	r := open(t)
	u := r.register(t, "ada@example.com")
	here, err := r.LogIn(t.Context(), request("ada@example.com", good))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.LogIn(t.Context(), request("ada@example.com", good)); err != nil {
		t.Fatal(err)
	}
	change := func(current, next string) (int, error) {
		return r.ChangePassword(t.Context(), login.PasswordChange{
			User: u.ID, Email: u.Email, Session: here.Family.Session, Current: secret.NewText(current), New: secret.NewText(next), Network: "192.0.2.1",
		})
	}
	_, err = change(good, "short")
	wantCode(t, err, fault.PasswordTooWeak)
	_, err = change("wrong wrong", "another fine battery")
	wantCode(t, err, fault.WrongPassword)
	ended, err := change(good, "another fine battery")
	if err != nil || ended != 1 {
		t.Fatalf("%d sessions ended, %v", ended, err)
	}
	left, err := r.engine.Sessions().Sessions(t.Context(), u.ID, refresh.Policy{IdleTTL: time.Hour}, false)
	if err != nil || len(left) != 1 || left[0].ID != here.Family.Session {
		t.Errorf("living sessions %+v, %v", left, err)
	}
	_, err = r.LogIn(t.Context(), request("ada@example.com", good))
	wantCode(t, err, fault.InvalidCredentials)
	for range 9 {
		_, err = change("wrong wrong", "another fine battery 2")
		wantCode(t, err, fault.WrongPassword)
	}
	_, err = change("wrong wrong", "another fine battery 2")
	wantCode(t, err, fault.WrongPassword)
	_, err = change("another fine battery", "another fine battery 2")
	wantCode(t, err, fault.TooManyAttempts)
	events, err := r.engine.Audit().Events(t.Context(), audit.Filter{User: u.ID, Kind: audit.PasswordChanged})
	if err != nil || len(events) != 1 {
		t.Errorf("audit events %+v, %v", events, err)
	}
}

func TestRegister_tellsOfTakenAddressesTwentyTimesAnHour(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	again := func(network string) error {
		_, err := r.registry.Register(t.Context(), account.Registration{Email: "ADA@example.com", Password: secret.NewText(good), Network: network})
		return err
	}
	for range 20 {
		wantCode(t, again("203.0.113.5"), fault.EmailTaken)
	}
	wantCode(t, again("203.0.113.5"), fault.TooManyRequests)
	wantCode(t, again("203.0.113.6"), fault.EmailTaken)
	r.pass(time.Hour + time.Second)
	wantCode(t, again("203.0.113.5"), fault.EmailTaken)
	for i := range 25 { // new addresses cost nothing
		email := string(rune('a'+i)) + "@example.com"
		if _, err := r.registry.Register(t.Context(), account.Registration{Email: email, Password: secret.NewText(good), Network: "203.0.113.7"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogIn_parallelLoginsOfTheOwnerAllOpen(t *testing.T) {
	r := open(t)
	r.register(t, "ada@example.com")
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			req := request("ada@example.com", good)
			req.Network = "203.0.113.9" // never seen before
			if _, err := r.LogIn(t.Context(), req); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
}

func TestRegister_parallelStrangersDoNotHinderEachOther(t *testing.T) {
	r := open(t)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			_, err := r.registry.Register(t.Context(), account.Registration{Email: fmt.Sprintf("p%d@example.com", i), Password: secret.NewText(good), Network: "203.0.113.8"})
			if err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	var mu sync.Mutex
	told := 0
	for i := range 40 {
		all.Go(func() {
			_, err := r.registry.Register(t.Context(), account.Registration{Email: fmt.Sprintf("p%d@example.com", i), Password: secret.NewText(good), Network: "203.0.113.8"})
			if fault.Is(err, fault.EmailTaken) {
				mu.Lock()
				told++
				mu.Unlock()
			} else if !fault.Is(err, fault.TooManyRequests) {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if told != 20 {
		t.Errorf("%d of 40 parallel tries were told that the address is taken; want 20", told)
	}
}
