package prove

import (
	"context"
	crand "crypto/rand"
	"net/http"
	"time"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// operation is what a client does while one message of it is broken. try is
// repeated until it has an answer; check is asked afterwards, with the network
// whole again.
type operation struct {
	name string
	// path, if set, makes a new script that leads the operation where it is to
	// be tested.
	path func() faultproxy.Script
	new  func(l *lab) (attempt, verdict)
	want int
	// cost is how many times as dear as a refresh it is: passwords are hashed.
	cost int
	// apart ones change what all nodes of a database share.
	apart bool
}

// attempt is what is repeated until it has an answer, and verdict what is asked then.
type (
	attempt func(ctx context.Context) (provetest.Answer, error)
	verdict func(provetest.Answer)
)

// step is the distance between two messages that suffer f: at a small effort some are
// left out, others in each run.
func (op operation) step(f fault, effort int) int {
	step := 4 * max(1, op.cost)
	if f.slow {
		step *= 10
	}
	return max(1, step/effort)
}

// refreshing is a device that goes from generation to generation.
type refreshing struct{ token string }

func (r *refreshing) next(l *lab) (attempt, verdict) {
	if r.token == "" {
		r.token = person(l, l.http, l.url, crand.Text()+"@example.com").Field("refresh_token")
	}
	key, token := crand.Text(), r.token
	try := func(ctx context.Context) (provetest.Answer, error) { return l.refresh(ctx, token, key) }
	return try, func(a provetest.Answer) {
		l.Helper()
		l.wantNext(token, a)
		l.wantStored(a)
		// The answer once more: there is one successor and it is remembered.
		if again, err := patiently(func() (provetest.Answer, error) { return try(l.Context()) }); err != nil || again.Field("refresh_token") != a.Field("refresh_token") {
			l.Fatalf("the same token with the same key again: %v %s; want %s", err, again, a)
		}
		r.token = a.Field("refresh_token")
		// What was acknowledged is good; and the connections are warm again.
		b, err := l.refreshed(r.token)
		if err != nil {
			l.Fatal(err)
		}
		l.wantNext(r.token, b)
		r.token = b.Field("refresh_token")
	}
}

// refreshed is refresh with a new key, the network being whole.
func (l *lab) refreshed(token string) (provetest.Answer, error) {
	key := crand.Text()
	return patiently(func() (provetest.Answer, error) { return l.refresh(l.Context(), token, key) })
}

func (l *lab) refresh(ctx context.Context, token, key string) (provetest.Answer, error) {
	return provetest.Send(ctx, l.http, "POST", l.url+"/v1/refresh", map[string]string{"refresh_token": token}, "Idempotency-Key", key)
}

// wantNext wants a to hold the successor of token.
func (l *lab) wantNext(token string, a provetest.Answer) {
	l.Helper()
	held, err := provetest.Generation(token)
	if err != nil {
		l.Fatal(err)
	}
	if a.Status != http.StatusOK {
		l.Fatalf("generation %d: %s; want 200", held, a)
	}
	if g, err := provetest.Generation(a.Field("refresh_token")); err != nil || g != held+1 {
		l.Fatalf("generation %d was answered with %d, %v; want exactly the next", held, g, err)
	}
}

// wantStored wants the token of a to be the head of its family. To ask the server would not
// tell: it makes up for a rotation that was acknowledged and lost, and answers the same.
func (l *lab) wantStored(a provetest.Answer) {
	l.Helper()
	token := a.Field("refresh_token")
	if g, err := provetest.Generation(token); err != nil || l.family(token).Generation != g {
		l.Fatalf("generation %d, %v, was handed out; the database is at %d", g, err, l.family(token).Generation)
	}
}

// revoked wants a token of what has ended to be told so.
func (l *lab) revoked(what, token string) {
	l.Helper()
	if a, err := l.refreshed(token); err != nil || a.Status != http.StatusUnauthorized || a.Field("code") != "refresh_revoked" {
		l.Fatalf("a refresh after the answer to %s: %v %s; want 401 refresh_revoked", what, err, a)
	}
}

func operations() []operation {
	var batch, alone refreshing
	email := crand.Text() + "@example.com"
	registered := false
	logIn := func(l *lab) (attempt, verdict) {
		if !registered {
			person(l, l.http, l.url, email)
			registered = true
		}
		try := func(ctx context.Context) (provetest.Answer, error) {
			return provetest.Send(ctx, l.http, "POST", l.url+"/v1/login", map[string]string{"email": email, "password": goodPassword})
		}
		return try, func(a provetest.Answer) {
			next, err := l.refreshed(a.Field("refresh_token"))
			if err != nil {
				l.Fatal(err)
			}
			l.wantNext(a.Field("refresh_token"), next)
		}
	}
	loggedIn := func(l *lab) (token string) {
		try, _ := logIn(l)
		a, err := patiently(func() (provetest.Answer, error) { return try(l.Context()) })
		if err != nil || a.Status != http.StatusOK {
			l.Fatalf("%v %s", err, a)
		}
		return a.Field("refresh_token")
	}
	return []operation{
		{name: "refresh in a batch", want: http.StatusOK, new: batch.next},
		{name: "refresh alone", want: http.StatusOK, new: alone.next, path: refusedTwice},
		{name: "login", want: http.StatusOK, cost: 3, new: logIn},
		{name: "logout", want: http.StatusNoContent, cost: 3, new: func(l *lab) (attempt, verdict) {
			token := loggedIn(l)
			return func(ctx context.Context) (provetest.Answer, error) {
				return provetest.Send(ctx, l.http, "POST", l.url+"/v1/logout", map[string]string{"refresh_token": token})
			}, func(provetest.Answer) { l.revoked("logout", token) }
		}},
		{name: "an old token", want: http.StatusUnauthorized, cost: 3, new: func(l *lab) (attempt, verdict) {
			old := loggedIn(l)
			head := old
			for range 2 {
				next, err := l.refreshed(head)
				if err != nil {
					l.Fatal(err)
				}
				l.wantNext(head, next)
				head = next.Field("refresh_token")
			}
			return func(ctx context.Context) (provetest.Answer, error) {
				return provetest.Send(ctx, l.http, "POST", l.url+"/v1/refresh", map[string]string{"refresh_token": old})
			}, func(provetest.Answer) { l.revoked("an old token", head) }
		}},
		{name: "password change", want: http.StatusNoContent, cost: 16, new: changingPassword},
		{name: "ban", want: http.StatusNoContent, cost: 16, new: banning},
		{name: "key rotation", want: http.StatusNoContent, apart: true, cost: 6, new: rotatingKeys},
	}
}

// changingPassword has one of two devices of somebody change the password. One that did
// not hear the answer is told that the old password is wrong, and logs in with the new one.
func changingPassword(l *lab) (attempt, verdict) {
	email, next := crand.Text()+"@example.com", "another "+goodPassword
	mine := person(l, l.http, l.url, email)
	other := must(l, l.http, http.StatusOK, "POST", l.url+"/v1/login", map[string]string{"email": email, "password": goodPassword})
	logIn := func(ctx context.Context) (provetest.Answer, error) {
		return provetest.Send(ctx, l.http, "POST", l.url+"/v1/login", map[string]string{"email": email, "password": next})
	}
	unsure := false
	return func(ctx context.Context) (provetest.Answer, error) {
			a, err := provetest.Send(ctx, l.http, "POST", l.url+"/v1/me/password",
				map[string]string{"current_password": goodPassword, "new_password": next}, "Authorization", "Bearer "+mine.Field("access_token"))
			if unsure && err == nil && a.Field("code") == "wrong_password" {
				if in, err := logIn(ctx); err != nil || in.Status != http.StatusOK {
					return in, err
				}
				a.Status = http.StatusNoContent
			}
			unsure = unsure || err != nil || a.Status >= 500
			return a, err
		}, func(provetest.Answer) {
			l.revoked("a password change", other.Field("refresh_token"))
			kept, err := l.refreshed(mine.Field("refresh_token"))
			if err != nil {
				l.Fatal(err)
			}
			l.wantNext(mine.Field("refresh_token"), kept)
			if in, err := patiently(func() (provetest.Answer, error) { return logIn(l.Context()) }); err != nil || in.Status != http.StatusOK {
				l.Fatalf("a login with the new password: %v %s", err, in)
			}
		}
}

// banning has an operator disable the account of somebody who is logged in.
func banning(l *lab) (attempt, verdict) {
	email := crand.Text() + "@example.com"
	registered := must(l, l.http, http.StatusCreated, "POST", l.url+"/v1/users", map[string]string{"email": email, "password": goodPassword})
	var user id.User
	if err := user.UnmarshalText([]byte(registered.Field("id"))); err != nil {
		l.Fatal(err)
	}
	credentials := map[string]string{"email": email, "password": goodPassword}
	in := must(l, l.http, http.StatusOK, "POST", l.url+"/v1/login", credentials)
	return func(ctx context.Context) (provetest.Answer, error) {
			_, err := l.in.Engine.Accounts().Disable(ctx, user, audit.BySystem, "prove")
			return provetest.Answer{Status: http.StatusNoContent}, err
		}, func(provetest.Answer) {
			l.revoked("a ban", in.Field("refresh_token"))
			must(l, l.http, http.StatusUnauthorized, "POST", l.url+"/v1/login", credentials)
		}
}

// rotatingKeys has an operator bring the standby forward. Whoever does not hear the answer
// asks again: it is the same key, with the same date, and no verifier can miss it.
func rotatingKeys(l *lab) (attempt, verdict) {
	broken := l.in.Engine.(quiet).Engine.Keys() // those of quiet go past the fault proxy
	policy := l.in.Config.Keys()
	custodian := keys.NewCustodian(broken, l.in.Masters, policy, time.Now)
	operator := keys.By{Actor: audit.BySystem, RequestID: "prove"}
	ring := func() (standby []keys.StoredKey, all int) {
		stored, err := l.in.Engine.Keys().ReadRing(l.Context())
		if err != nil {
			l.Fatal(err)
		}
		for _, k := range stored.Keys {
			if k.Purpose == keys.Sign && (k.ActiveAt == nil || k.ActiveAt.After(stored.StoreNow)) {
				standby = append(standby, k)
			}
		}
		return standby, len(stored.Keys)
	}
	if standby, _ := ring(); len(standby) == 0 {
		if _, err := custodian.Rotate(l.Context(), operator, "", time.Time{}); err != nil {
			l.Fatal(err)
		}
	}
	if _, err := custodian.CancelRotation(l.Context(), operator, ""); err != nil {
		l.Fatal(err) // the date of before is the one that it has to be given again
	}
	standby, before := ring()
	if len(standby) != 1 {
		l.Fatalf("%d standbys, want one", len(standby))
	}
	soonest := standby[0].PublishedAt.Add(policy.Lead)
	return func(ctx context.Context) (provetest.Answer, error) {
			_, err := custodian.Rotate(ctx, operator, "", time.Time{})
			return provetest.Answer{Status: http.StatusNoContent}, err
		}, func(provetest.Answer) {
			dated, after := ring()
			if after != before || len(dated) != 1 || dated[0].KID != standby[0].KID {
				l.Fatalf("%d keys with %d standbys, want the same %d with one", after, len(dated), before)
			}
			if at := dated[0].ActiveAt; at == nil || at.Before(soonest) || at.After(soonest.Add(time.Minute)) {
				l.Fatalf("the standby signs from %v; want %v, its lead after it was published", at, soonest)
			}
		}
}

// refusedTwice has the database refuse the next batch and its second try, so
// that its members are judged alone.
func refusedTwice() faultproxy.Script {
	refused := 0
	return func(m faultproxy.Message) faultproxy.Act {
		if refused < 2 && m.Kind == 'B' && m.Direction == faultproxy.ToServer && m.Label == "refresh.rotate_batch" {
			refused++
			return faultproxy.Fail("40001")
		}
		return faultproxy.Act{}
	}
}
