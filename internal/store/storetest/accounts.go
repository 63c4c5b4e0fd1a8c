package storetest

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
)

func (r *rig) account(u account.User) account.User {
	r.Helper()
	return got(r.Accounts().ByID(r.Context(), u.ID))(r)
}

var accountStories = []story{
	{"created", func(r *rig) {
		n := r.newUser(func(u *account.NewUser) {
			u.Email = email(r, "Ada.Lovelace@Example.com")
			u.Roles = []string{"writer", "admin"}
			u.Actor = "operator:x"
		})
		want := account.User{ID: n.ID, Email: "Ada.Lovelace@Example.com", CreatedAt: r.clock.Now(), Roles: []string{"admin", "writer"}, CredentialVersion: 1, HasPassword: true}
		r.same("created", want, got(r.Accounts().Create(r.Context(), n))(r))
		r.same("by id", want, r.account(want))
		r.same("by e-mail", want, got(r.Accounts().ByEmail(r.Context(), "ada.lovelace@example.com"))(r))
		events := r.events(audit.Filter{User: n.ID})
		if len(events) != 1 || events[0].Kind != audit.UserCreated || events[0].Actor != "operator:x" || events[0].RequestID != n.RequestID {
			r.Errorf("the log says %+v", events)
		}
		for what, err := range map[string]error{
			"id":     second(r.Accounts().ByID(r.Context(), id.NewUser())),
			"e-mail": second(r.Accounts().ByEmail(r.Context(), "nobody@example.com")),
		} {
			if !errors.Is(err, account.ErrNotFound) {
				r.Errorf("an unknown %s: %v", what, err)
			}
		}
	}},
	{"withoutAPassword", func(r *rig) {
		u := r.user(func(u *account.NewUser) { u.Hash, u.Scheme = "", "" })
		if u.HasPassword || r.account(u).HasPassword {
			r.Error("an account without a password has one")
		}
		if c := got(r.Logins().Credential(r.Context(), account.EmailKey(u.Email), ""))(r); c.Hash != "" || c.User.ID != u.ID {
			r.Errorf("its credential: %+v", c)
		}
		got(r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: u.ID, Hash: someHash, Scheme: someScheme, Actor: "operator:x"}))(r)
		if !r.account(u).HasPassword {
			r.Error("a password was set and is not there")
		}
	}},
	{"anAddressInUse", func(r *rig) {
		r.user(func(u *account.NewUser) { u.Email = email(r, "Zo\u00eb@example.com") })
		for _, same := range []string{"Zo\u00eb@example.com", "zoe\u0308@example.com", "ZOE\u0308@EXAMPLE.COM"} {
			n := r.newUser(func(u *account.NewUser) { u.Email = email(r, same) })
			if _, err := r.Accounts().Create(r.Context(), n); !errors.Is(err, account.ErrEmailTaken) {
				r.Errorf("%q: %v, want it taken", same, err)
			}
			if _, err := r.Accounts().ByID(r.Context(), n.ID); !errors.Is(err, account.ErrNotFound) {
				r.Errorf("%q was refused and is there: %v", same, err)
			}
			if e := r.events(audit.Filter{User: n.ID}); len(e) > 0 {
				r.Errorf("%q was refused and is in the log: %v", same, e)
			}
			if u := got(r.Accounts().ByEmail(r.Context(), account.EmailKey(same)))(r); u.Email != "Zo\u00eb@example.com" {
				r.Errorf("%q finds %q", same, u.Email)
			}
		}
		r.user(func(u *account.NewUser) { u.Email = email(r, "zoe@example.com") }) // another letter
	}},
	{"aRaceForOneAddress", func(r *rig) {
		for range 5 {
			n := r.newUser()
			var made, taken atomic.Int32
			atOnce(12, func(int) {
				mine := n
				mine.ID = id.NewUser()
				switch _, err := r.Accounts().Create(r.Context(), mine); {
				case err == nil:
					made.Add(1)
				case errors.Is(err, account.ErrEmailTaken):
					taken.Add(1)
				default:
					r.Errorf("%v", err)
				}
			})
			if made.Load() != 1 || taken.Load() != 11 {
				r.Errorf("%d made, %d told it is taken; want 1 and 11", made.Load(), taken.Load())
			}
		}
	}},
	{"imported", func(r *rig) {
		here := r.user()
		long := time.Date(2019, 3, 4, 5, 6, 7, 0, time.UTC)
		users := []account.NewUser{
			r.newUser(func(u *account.NewUser) { u.CreatedAt, u.Roles = long, []string{"writer"} }),
			r.newUser(func(u *account.NewUser) { u.Email = email(r, "USER1@example.com") }),
			r.newUser(func(u *account.NewUser) { u.Disabled = true }),
			r.newUser(func(u *account.NewUser) { u.Hash, u.Scheme = "", "" }),
		}
		for i := range users {
			users[i].Imported, users[i].Actor, users[i].RequestID = true, "operator:x", "import"
		}
		if here.Email != "user1@example.com" {
			r.Fatalf("the first account is %s", here.Email)
		}
		taken := got(r.Accounts().Import(r.Context(), users))(r)
		r.same("taken", []int{1}, taken)
		if u := got(r.Accounts().ByID(r.Context(), users[0].ID))(r); !u.CreatedAt.Equal(long) || !slices.Equal(u.Roles, []string{"writer"}) || !u.HasPassword || !u.DisabledAt.IsZero() {
			r.Errorf("the first: %+v", u)
		}
		if u := got(r.Accounts().ByID(r.Context(), users[2].ID))(r); u.DisabledAt.IsZero() {
			r.Error("one that was disabled there is enabled here")
		}
		if u := got(r.Accounts().ByID(r.Context(), users[3].ID))(r); u.HasPassword || !u.CreatedAt.Equal(r.clock.Now()) {
			r.Errorf("the one without a password: %+v", u)
		}
		if _, err := r.Accounts().ByID(r.Context(), users[1].ID); !errors.Is(err, account.ErrNotFound) {
			r.Errorf("the one that was taken: %v", err)
		}
		r.same("log", []audit.Kind{audit.UserImported, audit.UserImported, audit.UserImported}, kinds(r.events(audit.Filter{RequestID: "import"})))
		r.same("a second time", []int{0, 1, 2, 3}, got(r.Accounts().Import(r.Context(), users))(r))
		r.same("nothing", []int(nil), got(r.Accounts().Import(r.Context(), nil))(r))
	}},
	{"listedInPages", func(r *rig) {
		var want []string
		for _, e := range []string{"b@example.com", "A@example.com", "\u00e9@example.com", "a@example.org", "z@example.com"} {
			r.user(func(u *account.NewUser) { u.Email = email(r, e) })
			want = append(want, account.EmailKey(e))
		}
		slices.Sort(want) // by bytes
		var seen []string
		after := ""
		for range 10 {
			page := got(r.Accounts().List(r.Context(), after, 2))(r)
			if len(page) > 2 {
				r.Fatalf("a page of %d", len(page))
			}
			if len(page) == 0 {
				break
			}
			for _, u := range page {
				after = account.EmailKey(u.Email)
				seen = append(seen, after)
			}
		}
		r.same("by e-mail key, in the order of bytes", want, seen)
	}},
	{"aNewPasswordEndsTheOtherSessions", func(r *rig) {
		u, other := r.user(), r.user()
		keep, a, b, strangers := r.login(u), r.login(u), r.login(u), r.login(other)
		r.clock.Advance(time.Minute)
		change := account.PasswordChange{User: u.ID, Version: 1, Hash: otherHash, Scheme: newScheme, Keep: keep.Session, Actor: audit.ByUser, RequestID: "change"}
		if n := got(r.Accounts().ChangePassword(r.Context(), change))(r); n != 2 {
			r.Errorf("%d ended, want 2", n)
		}
		for _, f := range []refresh.Family{a, b} {
			r.over(f, r.clock.Now(), refresh.EndedByPassword, "change")
		}
		r.alive(keep, strangers)
		if v := r.account(u).CredentialVersion; v != 2 {
			r.Errorf("credential version %d, want 2", v)
		}
		if c := got(r.Logins().Credential(r.Context(), account.EmailKey(u.Email), ""))(r); c.Hash != otherHash {
			r.Errorf("the hash is %s", c.Hash)
		}
		r.same("log", []audit.Kind{audit.PasswordChanged, audit.SessionEnded, audit.SessionEnded}, kinds(r.events(audit.Filter{RequestID: "change"})))

		change.Hash, change.Scheme, change.RequestID = someHash, someScheme, "late" // decided on version 1
		if _, err := r.Accounts().ChangePassword(r.Context(), change); !errors.Is(err, account.ErrChanged) {
			r.Errorf("on an old version: %v", err)
		}
		if c := got(r.Logins().Credential(r.Context(), account.EmailKey(u.Email), ""))(r); c.Hash != otherHash || c.User.CredentialVersion != 2 {
			r.Errorf("a refused change left %s at version %d", c.Hash, c.User.CredentialVersion)
		}
		r.alive(keep)
		if e := r.events(audit.Filter{RequestID: "late"}); len(e) > 0 {
			r.Errorf("a refused change is in the log: %v", e)
		}

		change.Version, change.Keep, change.Actor, change.RequestID = 0, id.Session{}, "operator:x", "host"
		if n := got(r.Accounts().ChangePassword(r.Context(), change))(r); n != 1 {
			r.Errorf("on the host: %d ended, want the 1 that was kept before", n)
		}
		r.same("log of the host", []audit.Kind{audit.PasswordSet, audit.SessionEnded}, kinds(r.events(audit.Filter{RequestID: "host"})))
		r.alive(strangers)
		change.User = id.NewUser()
		if _, err := r.Accounts().ChangePassword(r.Context(), change); !errors.Is(err, account.ErrNotFound) {
			r.Errorf("of nobody: %v", err)
		}
	}},
	{"aStrangersSessionIsNotKept", func(r *rig) {
		u, other := r.user(), r.user()
		mine, theirs := r.login(u), r.login(other)
		n := got(r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: u.ID, Version: 1, Hash: otherHash, Scheme: newScheme, Keep: theirs.Session, Actor: audit.ByUser}))(r)
		if n != 1 || r.row(mine.ID).EndedAt.IsZero() {
			r.Errorf("%d ended", n)
		}
		r.alive(theirs)
	}},
	{"twoPasswordsAtOnce", func(r *rig) {
		u := r.user()
		var won, lost atomic.Int32
		atOnce(8, func(int) {
			_, err := r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: u.ID, Version: 1, Hash: otherHash, Scheme: newScheme, Actor: audit.ByUser})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, account.ErrChanged):
				lost.Add(1)
			default:
				r.Errorf("%v", err)
			}
		})
		if won.Load() != 1 || lost.Load() != 7 || r.account(u).CredentialVersion != 2 {
			r.Errorf("%d won, %d lost, version %d", won.Load(), lost.Load(), r.account(u).CredentialVersion)
		}
	}},
	{"disabledAndEnabled", func(r *rig) {
		u, other := r.user(), r.user()
		a, b, strangers := r.login(u), r.login(u), r.login(other)
		r.clock.Advance(time.Minute)
		banned := r.clock.Now()
		if n := got(r.Accounts().Disable(r.Context(), u.ID, "operator:x", "ban"))(r); n != 2 {
			r.Errorf("%d ended, want 2", n)
		}
		for _, f := range []refresh.Family{a, b} {
			r.over(f, banned, refresh.EndedByBan, "ban")
			if row := r.row(f.ID); !row.Disabled {
				r.Error("the family does not know that its user is disabled")
			}
		}
		r.alive(strangers)
		r.same("log", []audit.Kind{audit.SessionEnded, audit.SessionEnded, audit.UserDisabled}, kinds(r.events(audit.Filter{RequestID: "ban"})))
		after := r.account(u)
		if !after.DisabledAt.Equal(banned) || after.CredentialVersion <= u.CredentialVersion {
			r.Errorf("disabled at %s, credential version %d", after.DisabledAt, after.CredentialVersion)
		}
		if _, err := r.Logins().Open(r.Context(), r.opening(after)); !errors.Is(err, login.ErrRefused) {
			r.Errorf("a login while disabled: %v", err)
		}

		r.clock.Advance(time.Minute)
		if n := got(r.Accounts().Disable(r.Context(), u.ID, "operator:x", "again"))(r); n != 0 {
			r.Errorf("again: %d ended", n)
		}
		if again := r.account(u); !again.DisabledAt.Equal(banned) {
			r.Errorf("again: disabled at %s, want %s still", again.DisabledAt, banned)
		}
		if e := r.events(audit.Filter{RequestID: "again"}); len(e) > 0 {
			r.Errorf("again is in the log: %v", e)
		}

		r.must(r.Accounts().Enable(r.Context(), u.ID, "operator:x", "pardon"))
		r.must(r.Accounts().Enable(r.Context(), u.ID, "operator:x", "pardon again"))
		r.same("log of the pardon", []audit.Kind{audit.UserEnabled}, kinds(r.events(audit.Filter{RequestID: "pardon"})))
		if e := r.events(audit.Filter{RequestID: "pardon again"}); len(e) > 0 {
			r.Errorf("a second pardon is in the log: %v", e)
		}
		if !r.account(u).DisabledAt.IsZero() {
			r.Error("pardoned and still disabled")
		}
		r.over(a, banned, refresh.EndedByBan, "ban")
		if out := r.judged(r.presents(a, 1)); out.Verdict != refresh.Revoked {
			r.Errorf("a session of before the ban: %s", out.Verdict)
		}
		if _, err := r.Logins().Open(r.Context(), r.opening(u)); !errors.Is(err, login.ErrRefused) {
			r.Errorf("a login that was verified before the ban: %v", err)
		}
		r.alive(r.login(r.account(u)))

		if _, err := r.Accounts().Disable(r.Context(), id.NewUser(), "operator:x", ""); !errors.Is(err, account.ErrNotFound) {
			r.Errorf("nobody disabled: %v", err)
		}
		if err := r.Accounts().Enable(r.Context(), id.NewUser(), "operator:x", ""); !errors.Is(err, account.ErrNotFound) {
			r.Errorf("nobody enabled: %v", err)
		}
	}},
	{"roles", func(r *rig) {
		u := r.user()
		f := r.login(u)
		set := func(role string, granted bool, request string) {
			r.must(r.Accounts().SetRole(r.Context(), u.ID, role, granted, "operator:x", request))
		}
		for _, role := range []string{"writer", "admin", "reader"} {
			set(role, true, r.request())
		}
		set("admin", true, "again")
		want := []string{"admin", "reader", "writer"}
		r.same("granted", want, r.account(u).Roles)
		r.same("the family's", want, r.row(f.ID).Roles)
		r.same("the session's", want, r.standing(f).Roles)
		out := r.batched(r.presents(f, 1))[0]
		if out != nil {
			r.same("the rotation's", want, out.Next.Roles)
		}
		set("writer", false, "revoke")
		set("writer", false, "revoke again")
		r.same("revoked", []string{"admin", "reader"}, r.account(u).Roles)
		for request, kind := range map[string][]audit.Kind{"again": nil, "revoke": {audit.UserRoleRevoked}, "revoke again": nil} {
			r.same("log of "+request, kind, kinds(r.events(audit.Filter{RequestID: request})))
		}
		if err := r.Accounts().SetRole(r.Context(), id.NewUser(), "admin", true, "operator:x", ""); !errors.Is(err, account.ErrNotFound) {
			r.Errorf("nobody: %v", err)
		}
		if v := r.account(u).CredentialVersion; v != 1 {
			r.Errorf("a role moved the credential version to %d", v)
		}
	}},
	{"rolesAtOnce", func(r *rig) {
		u := r.user()
		names := []string{"a", "b", "c", "d", "e", "f"}
		atOnce(len(names), func(i int) {
			if err := r.Accounts().SetRole(r.Context(), u.ID, names[i], true, "operator:x", "roles"); err != nil {
				r.Errorf("%v", err)
			}
		})
		r.same("roles", names, r.account(u).Roles)
	}},
	{"schemes", func(r *rig) {
		if s := got(r.Accounts().Schemes(r.Context()))(r); len(s) != 0 {
			r.Errorf("an empty store: %v", s)
		}
		r.user()
		r.user()
		r.user(func(u *account.NewUser) { u.Scheme = newScheme })
		r.user(func(u *account.NewUser) { u.Hash, u.Scheme = "", "" })
		s := got(r.Accounts().Schemes(r.Context()))(r)
		slices.Sort(s)
		r.same("schemes", []string{someScheme, newScheme}, s)
	}},
}

// second drops what an act returns beside its error.
func second[T any](_ T, err error) error { return err }
