package knownfailures

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/authserver/internal/refresh"
)

// Keycloak checked that a refresh token was unused, and marked it used later:
// between the two, parallel requests got a successor each. Here many at once
// get one successor, on three nodes, round after round. test/e2e does the same
// with processes and 1,000 rounds.
func TestKnown_CVE_2026_1035_rotationRace(t *testing.T) {
	race := func(t *testing.T, h *house, rounds, holders int) {
		uid := h.user()
		text := h.born(uid, "first-party")
		for round := range rounds {
			var all sync.WaitGroup
			answers := make([]answer, holders)
			for i := range holders {
				all.Go(func() {
					answers[i] = h.call(h.nodes[i%len(h.nodes)], "POST", "/v1/refresh", fields{"refresh_token": text})
				})
			}
			all.Wait()
			next := answers[0].Field("refresh_token")
			for i, a := range answers {
				if a.Status != http.StatusOK || a.Field("refresh_token") != next || next == text {
					t.Fatalf("round %d, holder %d: %s; the first one got %s", round, i, a, answers[0])
				}
			}
			text = next
		}
		t.Logf("%d rounds of %d holders on %d nodes, one successor each", rounds, holders, len(h.nodes))
		h.audit()
	}
	t.Run("postgres", func(t *testing.T) { t.Parallel(); race(t, onPostgres(t, 3), 50, 24) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); race(t, onSQLite(t), 20, 12) })
}

// Keycloak kept what it needed for reuse detection in memory: after a restart
// an old token was good again.
func TestKnown_CVE_2026_9802_reuseIsNoticedAfterARestart(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		first := h.born(h.user(), "first-party")
		second := h.rotate(h.nodes[0], first).Field("refresh_token")
		third := h.rotate(h.nodes[0], second).Field("refresh_token")
		h.nodes[0].stop()
		n := h.start()
		if a := h.refresh(n, first); !a.Is(http.StatusUnauthorized, "refresh_reused") {
			t.Errorf("an old token after a restart: %s", a)
		}
		n.stop()
		n = h.start()
		if a := h.refresh(n, third); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
			t.Errorf("the head of the ended family after another restart: %s", a)
		}
	})
}

// Keycloak #50999 compared instants of whole seconds: what was used twice
// within one looked unused. Here 50 rotations follow each other as fast as they
// can, within a second or little more, and every older token is noticed, whatever its place.
func TestKnown_Keycloak_50999_rotationsWithinOneSecond(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		uid := h.user()
		fastest := time.Hour
		for old := range 49 {
			tokens, begun := []string{h.born(uid, "first-party")}, time.Now()
			for range 50 {
				tokens = append(tokens, h.rotate(h.nodes[0], tokens[len(tokens)-1]).Field("refresh_token"))
			}
			fastest = min(fastest, time.Since(begun))
			if a := h.refresh(h.nodes[0], tokens[old]); !a.Is(http.StatusUnauthorized, "refresh_reused") {
				t.Errorf("generation %d of 51: %s", old+1, a)
			}
			for _, later := range []int{old + 1, 50} {
				if a := h.refresh(h.nodes[0], tokens[later]); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
					t.Errorf("generation %d after that: %s", later+1, a)
				}
			}
		}
		t.Logf("50 rotations took %s at best", fastest.Round(time.Millisecond))
	})
}

// Keycloak #51312: a refresh that was under way while the session was revoked
// handed out tokens that lived. Here what begins after the answer to a logout
// is refused, and what overlapped it is dead.
func TestKnown_Keycloak_51312_refreshRacesLogout(t *testing.T) {
	race := func(t *testing.T, h *house) {
		uid := h.user()
		handedOut := 0
		for range 12 {
			text := h.born(uid, "first-party")
			var ended atomic.Bool
			var mu sync.Mutex
			var got []answer
			var all sync.WaitGroup
			for holder := range 6 {
				n := h.nodes[holder%len(h.nodes)]
				all.Go(func() {
					mine := text
					for range 10 {
						late := ended.Load()
						a := h.refresh(n, mine)
						if late && a.Status == http.StatusOK {
							t.Errorf("a refresh that began after the logout: %s", a)
						}
						if a.Status != http.StatusOK {
							return
						}
						mine = a.Field("refresh_token")
						mu.Lock()
						got = append(got, a)
						mu.Unlock()
					}
				})
			}
			all.Go(func() {
				if a := h.first("POST", "/v1/logout", fields{"refresh_token": text}); a.Status != http.StatusNoContent {
					t.Errorf("logout: %s", a)
				}
				ended.Store(true)
			})
			all.Wait()
			handedOut += len(got)
			for i, a := range got {
				n := h.nodes[i%len(h.nodes)]
				if late := h.refresh(n, a.Field("refresh_token")); late.Status != http.StatusUnauthorized {
					t.Fatalf("a refresh token that was handed out around the logout: %s", late)
				}
				if me := h.call(n, "GET", "/v1/me", nil, bearer(a.Field("access_token"))...); !me.Is(http.StatusUnauthorized, "session_ended") {
					t.Fatalf("an access token that was handed out around the logout: %s", me)
				}
			}
		}
		if handedOut == 0 {
			t.Error("not one refresh overlapped a logout, so nothing was tested")
		}
		t.Logf("%d refreshes overlapped a logout, nothing of theirs lived on", handedOut)
	}
	t.Run("postgres", func(t *testing.T) { t.Parallel(); race(t, onPostgres(t, 2)) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); race(t, onSQLite(t)) })
}

// Keycloak #52666 kept the state of a rotation on an object that lived as long
// as a request. Here a node that was not there when the token was used knows.
func TestKnown_Keycloak_52666_theStateIsInTheRow(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		h := onPostgres(t, 1)
		tokens := []string{h.born(h.user(), "first-party")}
		for i := range 6 {
			n := h.nodes[0]
			if i%2 == 1 {
				n = h.start()
			}
			tokens = append(tokens, h.rotate(n, tokens[i]).Field("refresh_token"))
		}
		last := h.nodes[len(h.nodes)-1]
		if a := h.refresh(last, tokens[5]); a.Status != http.StatusOK || a.Field("refresh_token") != tokens[6] {
			t.Errorf("the predecessor, a retry: %s", a)
		}
		if a := h.refresh(h.start(), tokens[2]); !a.Is(http.StatusUnauthorized, "refresh_reused") {
			t.Errorf("an old token at a node that has just started: %s", a)
		}
	})
}

// Hydra #3604: under contention some of the parallel refreshes got 500. Here a
// head that many hold meets forged tokens, and then old tokens and a logout, too, on three
// nodes: all that is ever said is 200, 204 or 401, and to the head alone 200. (An old token
// may hear 503 of a node that has not run for seconds, which calls nobody a thief yet.)
func TestKnown_Hydra_3604_contentionIsNoServerError(t *testing.T) {
	contend := func(t *testing.T, h *house) {
		uid := h.user()
		for round := range 4 {
			first := h.born(uid, "first-party")
			second := h.rotate(h.nodes[0], first).Field("refresh_token")
			forged := second[:40] + strings.Repeat("A", len(second)-40)
			quarrel := round%2 == 1
			var mu sync.Mutex
			statuses := map[string]int{}
			var all sync.WaitGroup
			for i := range 48 {
				all.Go(func() {
					who, path, token := "head", "/v1/refresh", second
					switch {
					case i%8 == 1:
						who, token = "forged", forged
					case i%8 == 7:
						who, path, token = "logout of a forged one", "/v1/logout", forged
					case quarrel && i%8 == 2:
						who, token = "old", first
					case quarrel && i == 40:
						who, path = "logout", "/v1/logout"
					}
					a := h.call(h.nodes[i%len(h.nodes)], "POST", path, fields{"refresh_token": token})
					mu.Lock()
					statuses[fmt.Sprint(who, " ", a.Status)]++
					mu.Unlock()
				})
			}
			all.Wait()
			for what := range statuses {
				if s := what[len(what)-3:]; s != "200" && s != "204" && s != "401" && what != "old 503" {
					t.Errorf("the answers were %v", statuses)
				}
			}
			if !quarrel && statuses["head 200"] != 36 {
				t.Errorf("the answers were %v; want 200 for all 36 who hold the head", statuses)
			}
		}
		h.audit()
	}
	t.Run("postgres", func(t *testing.T) { t.Parallel(); contend(t, onPostgres(t, 3)) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); contend(t, onSQLite(t)) })
}

// Zitadel let one client redeem the tokens of another. Here a token of another
// client is no token, and its family lives on.
func TestKnown_CVE_2026_55672_anotherClientsToken(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		theirs := h.born(h.user(), "another-client")
		for range 3 {
			if a := h.refresh(h.nodes[0], theirs); !a.Is(http.StatusUnauthorized, "refresh_invalid") {
				t.Errorf("another client's refresh token: %s", a)
			}
		}
		h.first("POST", "/v1/logout", fields{"refresh_token": theirs})
		out, err := h.redeem(theirs, "another-client")
		if err != nil || out != refresh.Rotated {
			t.Errorf("its own client: %v, %v", out, err)
		}
	})
}

// redeem presents a refresh token as another client would.
func (h *house) redeem(text, client string) (refresh.Verdict, error) {
	token, err := refresh.Parse(h.t.Context(), h.ring, text)
	if err != nil {
		return 0, err
	}
	number, _, err := h.ring.ActiveRoot()
	if err != nil {
		return 0, err
	}
	out, err := h.nodes[0].in.Engine.Families().Redeem(h.t.Context(), refresh.Call{
		Policy: h.nodes[0].in.Config.Refresh(client),
		Attempt: refresh.Attempt{
			Family: token.Family(), Generation: token.Generation(), Key: number, NewKey: number, SecretHash: token.SecretHash(),
			Client: client, Transport: refresh.InBody, RequestID: "test",
		},
	}, 0)
	return out.Verdict, err
}

// Keycloak kept all single-use things in one store without types: one could be
// made to stand for another. Here every name that this server hands out is
// tried as a refresh token, and a refresh token as a name.
func TestKnown_CVE_2026_4282_handlesOfAnotherKind(t *testing.T) {
	h := onSQLite(t)
	mine := h.person()
	access, text := mine.Field("access_token"), mine.Field("refresh_token")
	claims := open(t, access).claims
	for name, value := range map[string]any{
		"access token": access, "session id": mine.Field("session_id"), "user id": claims["sub"], "jti": claims["jti"], "kid": h.signing().kid,
		"request id": mine.Header.Get("X-Request-Id"), "prefix and session id": "asrt_" + mine.Field("session_id"), "prefix and jti": fmt.Sprint("asrt_", claims["jti"]),
		"token without its prefix": strings.TrimPrefix(text, "asrt_"), "another prefix": "asac_" + strings.TrimPrefix(text, "asrt_"),
	} {
		if a := h.refresh(h.nodes[0], fmt.Sprint(value)); !a.Is(http.StatusUnauthorized, "refresh_invalid") {
			t.Errorf("%s as a refresh token: %s", name, a)
		}
	}
	for _, id := range []string{text, access, fmt.Sprint(claims["sub"]), fmt.Sprint(claims["jti"])} {
		if a := h.first("DELETE", "/v1/sessions/"+id, nil, bearer(access)...); !a.Is(http.StatusNotFound, "session_not_found") {
			t.Errorf("%.20s as a session id: %s", id, a)
		}
	}
	h.rotate(h.nodes[0], text)
}

// Zitadel took a truncated opaque token for the whole. Here every prefix, every
// longer one and every single bit of a refresh token is refused, and changes
// nothing for the genuine one.
func TestKnown_CVE_2026_27840_everyPrefixAndEveryBit(t *testing.T) {
	h := onSQLite(t)
	genuine := h.born(h.user(), "first-party")
	var tries []string
	for n := range len(genuine) {
		tries = append(tries, genuine[:n], genuine[n+1:], genuine[:n]+genuine[n+1:])
		for bit := range 7 {
			tries = append(tries, genuine[:n]+string(rune(genuine[n]^1<<bit))+genuine[n+1:])
		}
	}
	for _, more := range []string{"A", "=", "==", ".", " ", "\n", "\r\n", "\x00", "AAAA", genuine} {
		tries = append(tries, genuine+more, more+genuine)
	}
	tries = append(tries, strings.ToUpper(genuine), strings.ToLower(genuine), "Bearer "+genuine, genuine[:38]+"\n"+genuine[38:])
	tries = append(tries, respelled(t, genuine)...)
	// Side by side, because a root key that is not known is looked for once a
	// second at most.
	var all sync.WaitGroup
	places := make(chan struct{}, 64)
	for _, text := range tries {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			a, err := h.nodes[0].try(context.Background(), "POST", "/v1/refresh", fields{"refresh_token": text})
			if err != nil || !a.Is(http.StatusUnauthorized, "refresh_invalid") {
				t.Errorf("%q: %s, %v", text, a, err)
			}
			// A logout answers 204 to everything; the genuine one lives on, below.
			a, err = h.nodes[0].try(context.Background(), "POST", "/v1/logout", fields{"refresh_token": text})
			if err != nil || a.Status != http.StatusNoContent {
				t.Errorf("a logout with %q: %s, %v", text, a, err)
			}
		})
	}
	all.Wait()
	t.Logf("%d mutations of a refresh token of %d characters", len(tries), len(genuine))
	h.rotate(h.nodes[0], genuine)
}

// respelled are other spellings of the same bytes.
func respelled(t *testing.T, genuine string) []string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(genuine, "asrt_"))
	if err != nil {
		t.Fatal(err)
	}
	hexed := fmt.Sprintf("asrt_%x", raw)
	padded := "asrt_" + base64.URLEncoding.EncodeToString(append(raw, 0))
	return []string{hexed, padded, "asrt_" + base64.StdEncoding.EncodeToString(raw) + "!", strings.Replace(genuine, "asrt_", "asrt-", 1)}
}

// Rauthy's list of 2026 asks for an atomic claim and for the end of the whole
// family. The first is the race above; this is the second: a reuse ends the
// family with everything that was made from it, and nothing else.
func TestKnown_Rauthy_1696_reuseEndsTheWholeFamily(t *testing.T) {
	steal := func(t *testing.T, h *house) {
		email, _ := h.register()
		stolen, other := h.logIn(email), h.logIn(email)
		second := h.rotate(h.nodes[0], stolen.Field("refresh_token"))
		third := h.rotate(h.nodes[0], second.Field("refresh_token"))
		if a := h.refresh(h.nodes[0], stolen.Field("refresh_token")); !a.Is(http.StatusUnauthorized, "refresh_reused") {
			t.Fatalf("reuse: %s", a)
		}
		for name, a := range map[string]answer{"first": stolen, "second": second, "third": third} {
			for i, n := range h.nodes {
				if r := h.refresh(n, a.Field("refresh_token")); r.Status != http.StatusUnauthorized {
					t.Errorf("the %s refresh token at node %d: %s", name, i, r)
				}
				if me := h.call(n, "GET", "/v1/me", nil, bearer(a.Field("access_token"))...); !me.Is(http.StatusUnauthorized, "session_ended") {
					t.Errorf("the %s access token at node %d: %s", name, i, me)
				}
			}
		}
		if me := h.me(other.Field("access_token")); me.Status != http.StatusOK {
			t.Errorf("the other device: %s", me)
		}
		h.rotate(h.nodes[0], other.Field("refresh_token"))
	}
	t.Run("postgres", func(t *testing.T) { t.Parallel(); steal(t, onPostgres(t, 3)) })
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); steal(t, onSQLite(t)) })
}
