package storetest

import (
	"errors"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/limit"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

func (r *rig) credential(u account.User, network string) login.Credential {
	r.Helper()
	return got(r.Logins().Credential(r.Context(), account.EmailKey(u.Email), network))(r)
}

// from makes a login come from a network.
func from(network string) func(*login.Opening) {
	return func(o *login.Opening) { o.Network = network }
}

// refused wants that an opening is refused and leaves nothing behind.
func (r *rig) refused(o login.Opening) {
	r.Helper()
	if _, err := r.Logins().Open(r.Context(), o); !errors.Is(err, login.ErrRefused) {
		r.Errorf("opened: %v, want it refused", err)
	}
	if f, _, err := r.Families().Family(r.Context(), o.Family.ID); f != nil || err != nil {
		r.Errorf("a refused login left family %v, %v", f, err)
	}
	if s := got(r.Sessions().Session(r.Context(), o.Session, policy()))(r); s != nil {
		r.Errorf("a refused login left session %+v", s)
	}
	if e := r.events(audit.Filter{RequestID: o.RequestID}); len(e) > 0 {
		r.Errorf("a refused login is in the log: %v", e)
	}
}

var loginStories = []story{
	{"credential", func(r *rig) {
		u := r.user()
		r.same("known", login.Credential{User: u, Hash: someHash}, r.credential(u, "192.0.2.1"))
		r.same("unknown", login.Credential{}, got(r.Logins().Credential(r.Context(), "nobody@example.com", "192.0.2.1"))(r))
	}},
	{"opened", func(r *rig) {
		u := r.user()
		o := r.opening(u)
		f := got(r.Logins().Open(r.Context(), o))(r)
		events := r.events(audit.Filter{RequestID: o.RequestID})
		if len(events) != 1 || events[0].Kind != audit.SessionOpened || events[0].User != u.ID || events[0].Session != o.Session || events[0].Actor != audit.ByUser {
			r.Errorf("the log says %+v", events)
		}
		r.alive(f)
	}},
	{"refusedAfterANewPassword", func(r *rig) {
		u := r.user()
		o := r.opening(u, from("192.0.2.1"))
		newPassword(r, refresh.Family{User: u.ID})
		r.refused(o)
		if r.credential(u, "192.0.2.1").KnownNetwork {
			r.Error("a refused login made its network known")
		}
		r.alive(r.login(r.account(u)))
	}},
	{"refusedWhileDisabled", func(r *rig) {
		u := r.user()
		ban(r, refresh.Family{User: u.ID})
		r.refused(r.opening(u))
		r.refused(r.opening(r.account(u)))
	}},
	{"refusedForNobody", func(r *rig) {
		nobody := account.User{ID: id.NewUser(), CredentialVersion: 1}
		r.refused(r.opening(nobody))
	}},
	{"aRefusedLoginReplacesForgetsAndRehashesNothing", func(r *rig) {
		u := r.user()
		live := r.login(u)
		budget := limit.BudgetOf("login", "x")
		closed(r, budget)
		o := r.opening(u)
		o.Replaces, o.Forget = live.Session, []limit.Budget{budget}
		o.OldHash, o.NewHash, o.NewScheme = someHash, otherHash, newScheme
		o.CredentialVersion = 7
		r.refused(o)
		r.alive(live)
		if c := r.credential(u, ""); c.Hash != someHash {
			r.Errorf("the hash is %s", c.Hash)
		}
		if wait := got(r.Ledger().Charge(r.Context(), []limit.Charge{{Budget: budget, Allowance: tight}}))(r); wait == 0 {
			r.Error("the budget was forgotten")
		}
	}},
	{"replacesTheSessionOfItsCookie", func(r *rig) {
		u, other := r.user(), r.user()
		own, others, bystander := r.login(u), r.login(other), r.login(u)
		r.clock.Advance(time.Minute)
		for _, replaced := range []refresh.Family{own, others} { // of the same user, of another one
			o := r.opening(u)
			o.Replaces = replaced.Session
			f := got(r.Logins().Open(r.Context(), o))(r)
			r.over(replaced, r.clock.Now(), refresh.EndedByRelogin, o.RequestID)
			r.same("log", []audit.Kind{audit.SessionEnded, audit.SessionOpened}, kinds(r.events(audit.Filter{RequestID: o.RequestID})))
			r.alive(f, bystander)
			for _, e := range r.events(audit.Filter{RequestID: o.RequestID, Kind: audit.SessionEnded}) {
				if e.User != replaced.User || e.Session != replaced.Session {
					r.Errorf("the end names user %s and session %s, want %s and %s", e.User, e.Session, replaced.User, replaced.Session)
				}
			}
		}
		for what, s := range map[string]id.Session{"one that ended before": own.Session, "one that never was": id.NewSession()} {
			o := r.opening(u)
			o.Replaces = s
			r.alive(got(r.Logins().Open(r.Context(), o))(r))
			if n := len(r.events(audit.Filter{RequestID: o.RequestID, Kind: audit.SessionEnded})); n != 0 {
				r.Errorf("%s: %d ends in the log", what, n)
			}
		}
	}},
	{"twoUsersReplaceEachOther", func(r *rig) {
		for range 10 {
			a, b := r.user(), r.user()
			ofA, ofB := r.login(a), r.login(b)
			atOnce(2, func(i int) {
				o := r.openings([]account.User{a, b}[i], i)
				o.Replaces = []refresh.Family{ofB, ofA}[i].Session
				if _, err := r.Logins().Open(r.Context(), o); err != nil {
					r.Errorf("login %d: %v", i, err)
				}
			})
			for _, f := range []refresh.Family{ofA, ofB} {
				if row := r.row(f.ID); row.EndReason != refresh.EndedByRelogin {
					r.Errorf("ended by %q", row.EndReason)
				}
			}
		}
	}},
	{"knownNetworks", func(r *rig) {
		u, other := r.user(func(u *account.NewUser) { u.Network = "198.51.100.1" }), r.user()
		known := func(u account.User, network string, want bool) {
			r.Helper()
			if c := r.credential(u, network); c.KnownNetwork != want {
				r.Errorf("%s is known to %s: %t, want %t", network, u.Email, c.KnownNetwork, want)
			}
		}
		known(u, "198.51.100.1", true) // where the account was made
		known(other, "198.51.100.1", false)
		known(u, "192.0.2.1", false)
		r.login(u, from("192.0.2.1"))
		r.login(u, from("")) // on the host
		known(u, "192.0.2.1", true)
		known(other, "192.0.2.1", false)
		known(u, "", false)

		r.clock.Advance(login.KnownFor - time.Minute)
		known(u, "192.0.2.1", true)
		r.login(u, from("192.0.2.1"))
		r.clock.Advance(time.Hour)
		known(u, "192.0.2.1", true)     // renewed
		known(u, "198.51.100.1", false) // more than 90 days ago
		for _, want := range []int{1, 0} {
			if n := got(r.Logins().SweepNetworks(r.Context(), 10))(r); n != want {
				r.Errorf("%d networks swept, want %d", n, want)
			}
		}
		known(u, "192.0.2.1", true)
		for i := range 5 {
			r.login(u, from(string(rune('a'+i))))
		}
		r.clock.Advance(login.KnownFor + tick)
		for _, want := range []int{4, 2, 0} {
			if n := got(r.Logins().SweepNetworks(r.Context(), 4))(r); n != want {
				r.Errorf("%d networks swept by fours, want %d", n, want)
			}
		}
	}},
	{"rehashIfTheHashIsStillThere", func(r *rig) {
		u := r.user()
		o := r.opening(u)
		o.OldHash, o.NewHash, o.NewScheme = someHash, otherHash, newScheme
		got(r.Logins().Open(r.Context(), o))(r)
		c := r.credential(u, "")
		if c.Hash != otherHash || c.User.CredentialVersion != 1 {
			r.Errorf("%s at version %d; want the new hash at version 1", c.Hash, c.User.CredentialVersion)
		}
		r.same("schemes", []string{newScheme}, got(r.Accounts().Schemes(r.Context()))(r))
		r.same("log", []audit.Kind{audit.PasswordRehashed, audit.SessionOpened}, kinds(r.events(audit.Filter{RequestID: o.RequestID})))

		late := r.opening(u)
		late.OldHash, late.NewHash, late.NewScheme = someHash, "$argon2id$third", "third"
		r.alive(got(r.Logins().Open(r.Context(), late))(r))
		if c := r.credential(u, ""); c.Hash != otherHash {
			r.Errorf("a hash that was no longer there was replaced: %s", c.Hash)
		}
		r.same("log of the late one", []audit.Kind{audit.SessionOpened}, kinds(r.events(audit.Filter{RequestID: late.RequestID})))
	}},
	{"manyLoginsRehashAtOnce", func(r *rig) {
		u := r.user()
		var opened atomic.Int32
		atOnce(10, func(i int) {
			o := r.openings(u, i)
			o.Network, o.OldHash, o.NewHash, o.NewScheme = "192.0.2.1", someHash, otherHash, newScheme
			if _, err := r.Logins().Open(r.Context(), o); err != nil {
				r.Errorf("login %d: %v", i, err)
				return
			}
			opened.Add(1)
		})
		if c := r.credential(u, "192.0.2.1"); c.Hash != otherHash || !c.KnownNetwork || opened.Load() != 10 {
			r.Errorf("%d opened, hash %s, network known %t", opened.Load(), c.Hash, c.KnownNetwork)
		}
		if n := len(r.events(audit.Filter{User: u.ID, Kind: audit.PasswordRehashed})); n != 1 {
			r.Errorf("%d rehashes in the log, want 1", n)
		}
	}},
	{"forgetsTheFailures", func(r *rig) {
		u := r.user()
		mine, theirs := limit.BudgetOf("login", "mine"), limit.BudgetOf("login", "theirs")
		closed(r, mine)
		closed(r, theirs)
		o := r.opening(u)
		o.Forget = []limit.Budget{mine, limit.BudgetOf("login", "never charged")}
		got(r.Logins().Open(r.Context(), o))(r)
		if wait := got(r.Ledger().Charge(r.Context(), []limit.Charge{{Budget: mine, Allowance: tight}}))(r); wait != 0 {
			r.Errorf("a forgotten budget makes one wait %s", wait)
		}
		if wait := got(r.Ledger().Charge(r.Context(), []limit.Charge{{Budget: theirs, Allowance: tight}}))(r); wait == 0 {
			r.Error("a budget that was not named is forgotten")
		}
	}},
	{"aStrangersFamilyIdIsNotTaken", func(r *rig) {
		u := r.user()
		f := r.login(u)
		o := r.opening(u)
		o.Family.ID = f.ID
		if _, err := r.Logins().Open(r.Context(), o); err == nil || errors.Is(err, login.ErrRefused) {
			r.Errorf("an id in use: %v, want trouble", err)
		}
		r.alive(f)
		if s := got(r.Sessions().Session(r.Context(), o.Session, policy()))(r); s != nil {
			r.Errorf("trouble left a session without a family: %+v", s)
		}
	}},
}
