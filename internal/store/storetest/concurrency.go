package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/session"
)

// at once runs n functions that all start at the same moment.
func atOnce(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

// patient is a wait for locks that no slow machine outlasts.
const patient = time.Minute

var concurrencyStories = []story{
	{"aHundredRedeemOneToken", func(r *rig) {
		f := r.login(r.user())
		var rotated, replayed atomic.Int32
		atOnce(100, func(i int) {
			out, err := r.Families().Redeem(r.Context(), r.calls(f, 1, i), patient)
			switch {
			case err != nil:
				r.Errorf("attempt %d: %v", i, err)
			case out.Next.Generation != 2:
				r.Errorf("attempt %d: %s with generation %d", i, out.Verdict, out.Next.Generation)
			case out.Verdict == refresh.Rotated:
				rotated.Add(1)
			case out.Verdict == refresh.Replayed && out.Next.HeadKey == r.row(f.ID).HeadKey:
				replayed.Add(1)
			default:
				r.Errorf("attempt %d: %s under root key %d", i, out.Verdict, out.Next.HeadKey)
			}
		})
		if rotated.Load() != 1 || replayed.Load() != 99 {
			r.Errorf("%d rotated and %d replayed, want 1 and 99", rotated.Load(), replayed.Load())
		}
		if row := r.row(f.ID); row.Generation != 2 {
			r.Errorf("the head is generation %d, want 2", row.Generation)
		}
	}},
	{"batchesAndSingleAttemptsOnOneToken", func(r *rig) {
		for range 10 {
			f, others := r.login(r.user()), []refresh.Family{r.login(r.user()), r.login(r.user())}
			var rotated atomic.Int32
			atOnce(12, func(i int) {
				c := r.calls(f, 1, i)
				if i%2 == 0 {
					out, err := r.Families().Redeem(r.Context(), c, patient)
					if err != nil || !out.Verdict.Answers() || out.Next.Generation != 2 {
						r.Errorf("alone: %s with generation %d, %v", out.Verdict, out.Next.Generation, err)
					}
					if out.Verdict == refresh.Rotated {
						rotated.Add(1)
					}
					return
				}
				outs, err := r.Families().RotateBatch(r.Context(), []refresh.Call{r.calls(others[0], 1, i), c, r.calls(others[1], 1, i)})
				switch {
				case errors.Is(err, refresh.ErrRefused):
				case err != nil:
					r.Errorf("batch: %v", err)
				case outs[1] == refresh.Held: // the others waited for the row for too long
				case outs[1] != nil && outs[1].Next.Generation == 2:
					rotated.Add(1)
				case outs[1] != nil:
					r.Errorf("batch: generation %d", outs[1].Next.Generation)
				}
			})
			if rotated.Load() != 1 || r.row(f.ID).Generation != 2 {
				r.Fatalf("%d rotated, the head is generation %d", rotated.Load(), r.row(f.ID).Generation)
			}
		}
	}},
	{"throughTheRotator", func(r *rig) {
		roots := oneRoot{}
		rotator := refresh.NewRotator(r.Families(), roots, func(string) refresh.Policy { return policy() }, r.clock, quiet{})
		u := r.user()
		tokens := make([]secret.Text, 40)
		families := make([]id.Family, len(tokens))
		for i := range tokens {
			b, text, err := refresh.Bear(roots, refresh.Birth{
				Session: id.NewSession(), User: u.ID, Client: "first-party", Audience: []string{"a"}, AMR: []string{"pwd"},
				Transport: refresh.InBody, Rotates: true, IdleTTL: 30 * day, Sender: phone,
			})
			r.must(err)
			o := r.opening(u)
			o.Session, o.Family = b.Session, b
			got(r.Logins().Open(r.Context(), o))(r)
			tokens[i], families[i] = text, b.ID
		}
		redeem := func(token secret.Text) (refresh.Redemption, error) {
			return rotator.Redeem(r.Context(), refresh.Presentation{
				Token: token, Client: "first-party", Transport: refresh.InBody, UserAgent: "phone/1.0", IP: "192.0.2.1", RequestID: "r",
			})
		}
		// Each family rotates 15 times, every generation asked for by three at once.
		atOnce(len(tokens), func(i int) {
			for g := int32(2); g <= 16; g++ {
				var next [3]secret.Text
				var rotated atomic.Int32
				atOnce(3, func(k int) {
					got, err := redeem(tokens[i])
					if err != nil || !got.Verdict.Answers() || got.Next.Generation != g {
						r.Errorf("family %d, generation %d: %s (%s) with generation %d, %v", i, g-1, got.Verdict, got.Reason, got.Next.Generation, err)
						return
					}
					if got.Verdict == refresh.Rotated {
						rotated.Add(1)
					}
					next[k] = got.Token
				})
				if next[0] != next[1] || next[1] != next[2] || rotated.Load() != 1 {
					r.Errorf("family %d, generation %d: %d rotated, answers equal %t", i, g-1, rotated.Load(), next[0] == next[1] && next[1] == next[2])
					return
				}
				tokens[i] = next[0]
			}
		})
		for i, f := range families {
			if row := r.row(f); row.Generation != 16 {
				r.Errorf("family %d: head is generation %d, want 16", i, row.Generation)
			}
		}
	}},
	{"revokedIsFinal", func(r *rig) {
		// Whatever ends a session, a refresh that begins afterwards never answers.
		for name, end := range map[string]func(u account.User, f refresh.Family) error{
			"logout": func(u account.User, f refresh.Family) error {
				_, err := r.Sessions().EndSessions(r.Context(), session.End{User: u.ID, Session: f.Session, Reason: refresh.EndedByLogout, Actor: audit.ByUser})
				return err
			},
			"ban": func(u account.User, _ refresh.Family) error {
				_, err := r.Accounts().Disable(r.Context(), u.ID, "operator:x", "ban")
				return err
			},
			"password": func(u account.User, _ refresh.Family) error {
				_, err := r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: u.ID, Hash: otherHash, Scheme: newScheme, Actor: audit.ByUser})
				return err
			},
			"floor": func(account.User, refresh.Family) error {
				_, err := r.Sessions().RaiseFloor(r.Context(), r.clock.Now().Add(tick), "operator:x", "floor")
				return err
			},
			"reuse": func(_ account.User, f refresh.Family) error {
				out, err := r.Families().Redeem(r.Context(), r.calls(f, 1, 0), patient)
				if err == nil && out.Verdict != refresh.Reused && out.Verdict != refresh.Revoked {
					r.Errorf("reuse: %s", out.Verdict)
				}
				return err
			},
		} {
			for range 4 {
				u := r.user()
				r.clock.Advance(time.Second) // above the floor of the last round
				// Bound to a key, so that the four never take each other for a thief;
				// only an unbound family can end by reuse, and it gets one holder.
				holders, binding, proof := 4, refresh.ToDPoP("thumb"), refresh.Proof{DPoP: "thumb"}
				if name == "reuse" {
					holders, binding, proof = 1, refresh.Unbound, refresh.Proof{}
				}
				f := r.rotate(r.login(u, bound(binding)), 3, proving(proof))
				var over atomic.Bool
				atOnce(1+holders, func(i int) {
					if i == 0 {
						if err := end(u, f); err != nil {
							r.Errorf("%s: %v", name, err)
						}
						over.Store(true)
						return
					}
					for g := f.Generation; ; {
						after := over.Load()
						c := r.calls(f, g, i)
						c.Attempt.Proof = proof
						var out refresh.Outcome
						var err error
						if i%2 == 0 {
							out, err = r.Families().Redeem(r.Context(), c, patient)
						} else if outs, berr := r.Families().RotateBatch(r.Context(), []refresh.Call{c}); berr == nil && outs[0] != nil {
							out = *outs[0]
						} else if berr != nil && !errors.Is(berr, refresh.ErrRefused) {
							err = berr
						} else {
							out, err = r.Families().Redeem(r.Context(), c, patient)
						}
						switch {
						case err != nil:
							r.Errorf("%s: %v", name, err)
							return
						case after && out.Verdict.Answers():
							r.Errorf("%s was answered, and after that a refresh was: %s, generation %d", name, out.Verdict, out.Next.Generation)
							return
						case !out.Verdict.Answers():
							if after {
								return
							}
						default:
							g = out.Next.Generation
						}
					}
				})
				if name != "floor" && r.row(f.ID).EndedAt.IsZero() {
					r.Errorf("after %s the family lives", name)
				}
			}
		}
		for got(r.Sessions().EndBelowFloor(r.Context(), 100))(r) > 0 {
		}
	}},
	{"noSessionIsBornAfterABan", func(r *rig) {
		for range 15 {
			u := r.user()
			var opened, refused atomic.Int32
			atOnce(6, func(i int) {
				if i == 0 {
					got(r.Accounts().Disable(r.Context(), u.ID, "operator:x", "ban"))(r)
					return
				}
				switch _, err := r.Logins().Open(r.Context(), r.openings(u, i)); {
				case err == nil:
					opened.Add(1)
				case errors.Is(err, login.ErrRefused):
					refused.Add(1)
				default:
					r.Errorf("login %d: %v", i, err)
				}
			})
			if living := got(r.Sessions().Sessions(r.Context(), u.ID, policy(), false))(r); len(living) > 0 {
				r.Fatalf("%d sessions live after the ban (%d were opened, %d refused)", len(living), opened.Load(), refused.Load())
			}
			for _, s := range got(r.Sessions().Sessions(r.Context(), u.ID, policy(), true))(r) {
				if s.EndedAt.IsZero() {
					r.Errorf("session %s has no end", s.ID)
				}
			}
		}
	}},
	{"noSessionOfAnOldPasswordIsBornAfterANewOne", func(r *rig) {
		for range 15 {
			u := r.user()
			atOnce(6, func(i int) {
				if i == 0 {
					got(r.Accounts().ChangePassword(r.Context(), account.PasswordChange{User: u.ID, Version: u.CredentialVersion, Hash: otherHash, Scheme: newScheme, Actor: audit.ByUser}))(r)
					return
				}
				if _, err := r.Logins().Open(r.Context(), r.openings(u, i)); err != nil && !errors.Is(err, login.ErrRefused) {
					r.Errorf("login %d: %v", i, err)
				}
			})
			if living := got(r.Sessions().Sessions(r.Context(), u.ID, policy(), false))(r); len(living) > 0 {
				r.Fatalf("%d sessions of the old password live on", len(living))
			}
		}
	}},
	{"whoLeavesARootKeyInTimeIsSpared", func(r *rig) {
		for range 3 {
			var families []refresh.Family
			for range 24 {
				families = append(families, r.rotate(r.login(r.user()), 1, func(c *refresh.Call) { c.Attempt.NewKey = 7 }))
			}
			atOnce(6, func(i int) {
				if i == 0 {
					for {
						n, err := r.Sessions().EndUnderRoot(r.Context(), 7, 3, "operator:x")
						if err != nil {
							r.Errorf("end: %v", err)
						}
						if n == 0 || err != nil {
							return
						}
					}
				}
				for k := i - 1; k < len(families); k += 5 {
					c := r.calls(families[k], 2, i)
					c.Attempt.Key, c.Attempt.NewKey = 7, 8
					if _, err := r.Families().Redeem(r.Context(), c, patient); err != nil {
						r.Errorf("refresh: %v", err)
					}
				}
			})
			got(r.Sessions().EndUnderRoot(r.Context(), 7, 100, "operator:x"))(r)
			for _, f := range families {
				switch row := r.row(f.ID); {
				case row.EndedAt.IsZero() && row.HeadKey != 8:
					r.Errorf("a family lives on under root key %d", row.HeadKey)
				case !row.EndedAt.IsZero() && (row.HeadKey != 7 || row.EndReason != refresh.EndedByRootKey):
					r.Errorf("a family under root key %d ended by %s", row.HeadKey, row.EndReason)
				}
			}
		}
	}},
	{"endsAndRotationsOfOneUserDoNotDeadlock", func(r *rig) {
		u := r.user()
		var families []refresh.Family
		for range 12 {
			families = append(families, r.login(u))
		}
		atOnce(len(families)+4, func(i int) {
			if i >= len(families) {
				for k := range families {
					_, err := r.Sessions().EndSessions(r.Context(), session.End{User: u.ID, Session: families[(k+i)%len(families)].Session, Reason: refresh.EndedByUser, Actor: audit.ByUser})
					if err != nil {
						r.Errorf("end: %v", err)
					}
				}
				return
			}
			for g := int32(1); ; {
				out, err := r.Families().Redeem(r.Context(), r.calls(families[i], g, i), patient)
				if err != nil {
					r.Errorf("refresh: %v", err)
					return
				}
				if !out.Verdict.Answers() {
					return
				}
				g = out.Next.Generation
			}
		})
		if n := len(got(r.Sessions().Sessions(r.Context(), u.ID, policy(), false))(r)); n != 0 {
			r.Errorf("%d sessions live on", n)
		}
		if n := len(r.events(audit.Filter{User: u.ID, Kind: audit.SessionEnded})); n != len(families) {
			r.Errorf("%d ends in the log, want one for each of %d sessions", n, len(families))
		}
	}},
}

// calls is presents for many goroutines at once.
func (r *rig) calls(f refresh.Family, g int32, i int) refresh.Call {
	return refresh.Call{Policy: policy(), Attempt: refresh.Attempt{
		Family: f.ID, Generation: g, Key: 1, SecretHash: f.SecretHash, Client: f.Client, Transport: f.Transport,
		Sender: phone, UserAgent: "phone/1.0", IP: "192.0.2.77", RequestID: "many", NewKey: 1,
	}}
}

// openings is opening for many goroutines at once.
func (r *rig) openings(u account.User, i int) login.Opening {
	quietly := rig{T: r.T, Engine: r.Engine, clock: r.clock, n: 1000 + i}
	return quietly.opening(u)
}

type oneRoot struct{}

func (oneRoot) Revision() int64 { return 0 }

func (oneRoot) ActiveRoot() (uint8, secret.Bytes, error) {
	return 1, secret.NewBytes(make([]byte, 32)), nil
}

func (oneRoot) Root(n uint8) (secret.Bytes, bool) { return secret.NewBytes(make([]byte, 32)), n == 1 }
func (oneRoot) Reread(context.Context) error      { return nil }

type quiet struct{}

func (quiet) Redeemed(refresh.Verdict, refresh.Reason) {}
func (quiet) Spared(string)                            {}
func (quiet) BatchDone(int, time.Duration, error)      {}
