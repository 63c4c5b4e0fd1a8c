package storetest

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store"
)

const (
	day  = 24 * time.Hour
	tick = time.Microsecond // the grain of both stores
)

const (
	someHash   = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA"
	someScheme = "argon2id m=19456 t=2 p=1"
	otherHash  = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHQ$aGFzaA"
	newScheme  = "argon2id m=65536 t=3 p=1"
)

var (
	phone    = refresh.SenderOf("", "phone/1.0")
	stranger = refresh.SenderOf("", "curl/8.0")
)

// policy is what most tests judge by.
func policy() refresh.Policy {
	return refresh.Policy{IdleTTL: 30 * day, RetryWindow: 90 * time.Second}
}

func email(t testing.TB, text string) account.Email {
	t.Helper()
	e, err := account.ParseEmail(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (r *rig) newUser(change ...func(*account.NewUser)) account.NewUser {
	r.n++
	u := account.NewUser{
		ID: id.NewUser(), Email: email(r, fmt.Sprintf("user%d@example.com", r.n)), Hash: someHash, Scheme: someScheme,
		Actor: audit.ByUser, RequestID: r.request(),
	}
	for _, do := range change {
		do(&u)
	}
	return u
}

// user makes an account.
func (r *rig) user(change ...func(*account.NewUser)) account.User {
	r.Helper()
	return got(r.Accounts().Create(r.Context(), r.newUser(change...)))(r)
}

// opening prepares a session of u with a family at generation 1.
func (r *rig) opening(u account.User, change ...func(*login.Opening)) login.Opening {
	o := login.Opening{
		Session: id.NewSession(), Kind: session.Browser, DeviceName: "Ada's phone", AbsoluteTTL: 90 * day,
		CredentialVersion: u.CredentialVersion, Actor: audit.ByUser, RequestID: r.request(),
	}
	o.Family = refresh.Family{
		ID: id.NewFamily(u.ID), Session: o.Session, User: u.ID, Client: "first-party", SecretHash: randomHash(),
		Scope: "openid profile", Audience: []string{"http://localhost:8080", "urn:other"}, AMR: []string{"pwd", "otp"},
		Transport: refresh.InBody, Rotates: true, IdleTTL: 30 * day,
		UserAgent: "phone/1.0", IP: "192.0.2.1", Sender: phone, Generation: 1, HeadKey: 1,
	}
	for _, do := range change {
		do(&o)
	}
	o.Family.Session = o.Session
	return o
}

// login opens a session of u and returns its family as the store wrote it.
func (r *rig) login(u account.User, change ...func(*login.Opening)) refresh.Family {
	r.Helper()
	return got(r.Logins().Open(r.Context(), r.opening(u, change...)))(r)
}

func randomHash() (h [sha256.Size]byte) {
	rand.Read(h[:])
	return h
}

// bound makes a family that is bound to b.
func bound(b refresh.Binding) func(*login.Opening) {
	return func(o *login.Opening) { o.Family.Binding = b }
}

// row reads one family, which must be there.
func (r *rig) row(f id.Family) refresh.Family {
	r.Helper()
	row, now, err := r.Families().Family(r.Context(), f)
	r.must(err)
	if row == nil {
		r.Fatalf("family %s is not there", f)
	}
	if !now.Equal(r.clock.Now()) {
		r.Errorf("the store's clock says %s, want %s", now, r.clock.Now())
	}
	return *row
}

// presents is the owner of f presenting the token of generation g.
func (r *rig) presents(f refresh.Family, g int32, change ...func(*refresh.Call)) refresh.Call {
	c := refresh.Call{Policy: policy(), Attempt: refresh.Attempt{
		Family: f.ID, Generation: g, Key: f.HeadKey, SecretHash: f.SecretHash, Client: f.Client, Transport: f.Transport,
		Sender: phone, UserAgent: "phone/1.0", IP: "192.0.2.77", RequestID: r.request(), NewKey: 1,
	}}
	for _, do := range change {
		do(&c)
	}
	return c
}

// redeem judges one attempt alone.
func (r *rig) redeem(c refresh.Call) refresh.Outcome {
	r.Helper()
	return got(r.Families().Redeem(r.Context(), c, 10*time.Second))(r)
}

// rotate moves the head of f by n generations and returns the row.
func (r *rig) rotate(f refresh.Family, n int, change ...func(*refresh.Call)) refresh.Family {
	r.Helper()
	for range n {
		f = r.row(f.ID)
		if out := r.redeem(r.presents(f, f.Generation, change...)); out.Verdict != refresh.Rotated {
			r.Fatalf("generation %d: %s (%s), want it rotated", f.Generation, out.Verdict, out.Reason)
		}
	}
	return r.row(f.ID)
}

// events returns what the log says, newest first.
func (r *rig) events(f audit.Filter) []audit.Event {
	r.Helper()
	return got(r.Audit().Events(r.Context(), f))(r)
}

// kinds returns the kinds of events, sorted.
func kinds(events []audit.Event) []audit.Kind {
	var list []audit.Kind
	for _, e := range events {
		list = append(list, e.Kind)
	}
	slices.Sort(list)
	return list
}

// diff compares values that come from a store with those that are expected.
// A floor that was never raised may be zero or the epoch.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Floor"
	}, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) || a.Unix() <= 0 && b.Unix() <= 0 })))
}

func (r *rig) same(what string, want, got any) {
	r.Helper()
	if d := diff(want, got); d != "" {
		r.Errorf("%s (-want +got)\n%s", what, d)
	}
}

// Names are the ids of one session with its family and its user.
type Names struct {
	User    id.User
	Session id.Session
	Family  id.Family
}

// OneSession makes an account and, two days later, a session whose refresh
// token is rotated once, for tests that go beside the suite. The store is
// founded, and its ring has the root key, if they were not there.
func OneSession(t *testing.T, e store.Engine, clock *Clock) Names {
	t.Helper()
	r := &rig{T: t, Engine: e, clock: clock}
	got(r.Founding().Found(t.Context(), facts))(r)
	if ring := r.ring(); ring.Fresh() {
		r.change(keys.Change{Insert: []keys.StoredKey{rootKey(1, clock.Now())}})
	}
	u := r.user(func(u *account.NewUser) { u.Email = email(t, u.ID.String()+"@example.com") })
	clock.Advance(2 * day)
	f := r.login(u)
	clock.Advance(time.Minute)
	r.rotate(f, 1)
	return Names{u.ID, f.Session, f.ID}
}
