package httpd_test

import (
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/token"
)

func TestBearer_refusalsAndChallenges(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		mine := h.login("ada@example.com")
		dot := strings.LastIndexByte(mine.Access, '.')
		mint := func(issuer string) string {
			minted, err := token.NewMinter(h.ring, token.Policy{Issuer: issuer, TTL: time.Minute}).Mint(token.Grant{
				User: id.NewUser(), Session: id.NewSession(), Client: "first-party", Audience: []string{h.issuer},
				AuthTime: h.clock.Now(), AMR: []string{"pwd"},
			}, h.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			return minted.Token.Reveal()
		}
		const bare = `Bearer realm="authserver"`
		for _, try := range []struct {
			name, authorization, code, reason string
		}{
			{"nothing", "", "token_invalid", "no_credentials"},
			{"another scheme", "Basic YTpi", "token_invalid", "no_credentials"},
			{"no token", "Bearer ", "token_invalid", "malformed_authorization"},
			{"two words", "Bearer a b", "token_invalid", "malformed_authorization"},
			{"rubbish", "Bearer rubbish", "token_invalid", "malformed"},
			{"a refresh token", "Bearer " + mine.Refresh, "token_invalid", "malformed"},
			{"another signature", "Bearer " + mine.Access[:dot+1] + strings.Repeat("A", 86), "token_invalid", "signature"},
			{"another issuer", "Bearer " + mint("https://other.example.com"), "token_invalid", "issuer"},
			{"a session that never was", "Bearer " + mint(h.issuer), "session_ended", "no_family"},
		} {
			t.Run(try.name, func(t *testing.T) {
				var headers []change
				if try.authorization != "" {
					headers = append(headers, header("Authorization", try.authorization))
				}
				for _, endpoint := range [][2]string{{"GET", "/v1/me"}, {"GET", "/v1/sessions"}, {"DELETE", "/v1/sessions"}, {"DELETE", "/v1/sessions/" + mine.Session}, {"POST", "/v1/me/password"}} {
					a := h.do(endpoint[0], endpoint[1], nil, headers...)
					a.refused(401, try.code)
					challenge := a.Header.Get("WWW-Authenticate")
					if want := bare + `, error="invalid_token"`; try.reason != "no_credentials" && !strings.HasPrefix(challenge, want) {
						t.Errorf("the challenge is %q, want %q", challenge, want)
					}
					if try.reason == "no_credentials" && challenge != bare {
						t.Errorf("the challenge is %q, want %q", challenge, bare)
					}
					if e := h.event(a); e["reason"] != try.reason {
						t.Errorf("the reason is %v, want %s", e["reason"], try.reason)
					}
				}
			})
		}
		h.do("GET", "/v1/me", nil, header("Authorization", "bearer "+mine.Access)).is(200) // schemes know no case
		h.do("GET", "/v1/me", nil, bearer(mine.Access), bearer(mine.Access)).refused(401, "token_invalid")
	})
}

func TestBearer_expiresToTheSecond(t *testing.T) {
	h := onOne(t, func(p *plan) { p.access = 2 * time.Second })
	h.register("ada@example.com")
	mine := h.login("ada@example.com")
	if mine.ExpiresIn != 2 {
		t.Fatalf("expires_in is %d", mine.ExpiresIn)
	}
	h.advance(time.Second)
	h.do("GET", "/v1/me", nil, bearer(mine.Access)).is(200)
	h.advance(time.Second) // iat was rounded down, so this is beyond exp
	a := h.do("GET", "/v1/me", nil, bearer(mine.Access))
	a.refused(401, "token_expired")
	if e := h.event(a); e["reason"] != "expired" || e["session_id"] != mine.Session {
		t.Errorf("the event is %v", e)
	}
}

func TestBearer_aTokenOfAnotherAlgorithm(t *testing.T) {
	for _, alg := range []keys.Algorithm{keys.EdDSA, keys.MLDSA44} {
		t.Run(string(alg), func(t *testing.T) {
			h := onOne(t, func(p *plan) { p.algorithms = []keys.Algorithm{alg} })
			h.register("ada@example.com")
			h.do("GET", "/v1/me", nil, bearer(h.login("ada@example.com").Access)).is(200)
		})
	}
}

// A key that another node made a moment ago is looked for before a token is
// refused.
func TestBearer_aKeyThisNodeHasNotReadYet(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		other := build(t, h.clock, h.engine, func(p *plan) { p.masters = h.masters })
		status, err := h.ring.Status()
		if err != nil {
			t.Fatal(err)
		}
		custodian := keys.NewCustodian(h.engine.Keys(), h.masters, h.policy, h.clock.Now)
		for _, k := range status.Keys {
			if k.Purpose != keys.Sign {
				continue
			}
			if _, err := custodian.Revoke(t.Context(), keys.By{Actor: "operator:test"}, k.KID, false); err != nil {
				t.Fatal(err)
			}
		}
		other.advance(2 * time.Second) // that node has read its keys again, the first one has not
		token := other.login("ada@example.com").Access
		h.do("GET", "/v1/me", nil, bearer(token)).is(200)
	})
}
