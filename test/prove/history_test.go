package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// story is one user's history while it happens: several clients that share what
// they hold, as tabs, thieves and operators do.
type story struct {
	t     *testing.T
	nodes []*node
	http  *http.Client
	apis  *rig.ResourceServers
	email string
	user  id.User
	begun time.Time

	mu        sync.Mutex
	ops       []porcupine.Operation
	holdings  []*holding
	passwords int // made up so far; the one that is right may be another
	right     int // as far as anybody was told
}

// holding is what is known of one family.
type holding struct {
	session string
	access  string
	tokens  map[int32]string // by generation
	keys    map[int32]string // that the successor of a generation was asked with
	head    int32
}

func password(n int) string { return fmt.Sprintf("%s %d", goodPassword, n) }

// device is the sender of a family's own device, or of another one.
func device(n int) string { return fmt.Sprintf("device-number-%08d", n) }

func tell(t *testing.T, nodes []*node, client *http.Client, apis *rig.ResourceServers, email string) *story {
	t.Helper()
	s := &story{t: t, nodes: nodes, http: client, apis: apis, email: email, begun: time.Now()}
	a := must(t, client, http.StatusCreated, "POST", nodes[0].url+"/v1/users", map[string]string{"email": email, "password": password(0)})
	if err := s.user.UnmarshalText([]byte(a.Field("id"))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.logIn(t.Context(), nodes[0], 0)
	}
	if len(s.holdings) != 2 {
		t.Fatalf("%s could not log in: %+v", email, s.ops)
	}
	return s
}

func (s *story) now() int64 { return time.Since(s.begun).Nanoseconds() }

// record adds what was asked and what came of it.
func (s *story) record(client int, in input, out output) {
	until := in.span.until
	if out.unknown {
		until = never
		in.span.until = s.now() + time.Minute.Nanoseconds()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, porcupine.Operation{ClientId: client, Input: in, Call: in.span.from, Output: out, Return: until})
}

// ask sends a request and translates the answer: trouble and silence are
// unknown. Where it was refused too often, nothing happened at all, and ok is
// false.
func (s *story) ask(ctx context.Context, n *node, method, path string, body map[string]string, header ...string) (a provetest.Answer, out output, ok bool) {
	a, err := provetest.Send(ctx, s.http, method, n.url+path, body, header...)
	if err == nil && a.Status >= 500 && (a.Status != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header.Get("Set-Cookie") != "") {
		s.t.Errorf("%s %s: %v %s; want trouble told as 503 with Retry-After and without a cookie", method, path, a.Header, a)
	}
	switch {
	case err != nil || a.Status >= 500:
		return a, output{unknown: true}, true
	case a.Status == http.StatusTooManyRequests:
		return a, output{}, false
	case a.Status >= 400:
		return a, output{code: a.Field("code")}, true
	}
	return a, output{}, true
}

// present refreshes family f with the token of generation g, and reports whether
// anything is known of what came of it.
func (s *story) present(ctx context.Context, n *node, client, f int, g int32, sender int, key string) (answered bool) {
	s.mu.Lock()
	h := s.holdings[f]
	token := h.tokens[g]
	if key != "" && h.keys[g] == "" {
		h.keys[g] = key
	}
	s.mu.Unlock()
	in := input{op: opRefresh, family: f, generation: g, key: key, sender: refresh.SenderOf(device(sender), "")}
	header := []string{"Authserver-Install-Id", device(sender)}
	if key != "" {
		header = append(header, "Idempotency-Key", key)
	}
	in.span.from = s.now()
	a, out, ok := s.ask(ctx, n, "POST", "/v1/refresh", map[string]string{"refresh_token": token}, header...)
	in.span.until = s.now()
	if !ok {
		return false
	}
	if !out.unknown && out.code == "" {
		out.generation = s.learn(f, a)
	}
	s.record(client, in, out)
	return !out.unknown
}

// accepted wants the access token of an answer to pass by the keys of every node.
func (s *story) accepted(a provetest.Answer) {
	if err := s.apis.Accept(s.t.Context(), a.Field("access_token")); err != nil {
		s.t.Errorf("%s: %v", s.email, err)
	}
}

// learn keeps the tokens of an answer. Of one family and generation only one
// token may ever be seen.
func (s *story) learn(f int, a provetest.Answer) int32 {
	s.accepted(a)
	token := a.Field("refresh_token")
	g, err := provetest.Generation(token)
	if err != nil {
		s.t.Errorf("%s: %v", s.email, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holdings[f]
	if known := h.tokens[g]; known != "" && known != token {
		s.t.Errorf("%s: two tokens of generation %d", s.email, g)
	}
	h.tokens[g] = token
	if g >= h.head {
		h.head, h.access = g, a.Field("access_token")
	}
	return g
}

func (s *story) logIn(ctx context.Context, n *node, client int) {
	s.mu.Lock()
	full := len(s.holdings) >= mostFamilies
	in := input{op: opLogin, password: s.right}
	s.mu.Unlock()
	if full {
		return
	}
	in.span.from = s.now()
	a, out, ok := s.ask(ctx, n, "POST", "/v1/login", map[string]string{"email": s.email, "password": password(in.password)}, "User-Agent", "browser")
	in.span.until = s.now()
	if !ok || out.unknown { // a session that nobody holds
		return
	}
	in.sender = refresh.SenderOf("", "browser")
	if out.code == "" {
		s.accepted(a)
		token := a.Field("refresh_token")
		g, err := provetest.Generation(token)
		if err != nil {
			s.t.Errorf("%s: %v", s.email, err)
		}
		s.mu.Lock()
		if len(s.holdings) == mostFamilies { // another client was quicker
			s.mu.Unlock()
			return
		}
		out.family = len(s.holdings)
		// Whole, because the others use it from here on.
		s.holdings = append(s.holdings, &holding{
			session: a.Field("session_id"), head: g, access: a.Field("access_token"),
			tokens: map[int32]string{g: token}, keys: map[int32]string{},
		})
		s.mu.Unlock()
	}
	s.record(client, in, out)
}

func (s *story) logOut(ctx context.Context, n *node, client, f int, g int32) {
	s.mu.Lock()
	token := s.holdings[f].tokens[g]
	s.mu.Unlock()
	in := input{op: opLogout, family: f}
	in.span.from = s.now()
	_, out, ok := s.ask(ctx, n, "POST", "/v1/logout", map[string]string{"refresh_token": token})
	in.span.until = s.now()
	if ok {
		s.record(client, in, out)
	}
}

// endFrom ends one session from another.
func (s *story) endFrom(ctx context.Context, n *node, client, asker, f int) {
	s.mu.Lock()
	access, session := s.holdings[asker].access, s.holdings[f].session
	s.mu.Unlock()
	in := input{op: opEnd, family: f}
	in.span.from = s.now()
	_, out, ok := s.ask(ctx, n, "DELETE", "/v1/sessions/"+session, nil, "Authorization", "Bearer "+access)
	in.span.until = s.now()
	if ok {
		s.record(client, in, out)
	}
}

// look asks a node, whichever, for the account with an access token.
func (s *story) look(ctx context.Context, n *node, client, f int) {
	s.mu.Lock()
	access := s.holdings[f].access
	s.mu.Unlock()
	in := input{op: opLook, family: f}
	in.span.from = s.now()
	_, out, ok := s.ask(ctx, n, "GET", "/v1/me", nil, "Authorization", "Bearer "+access)
	in.span.until = s.now()
	if ok {
		s.record(client, in, out)
	}
}

func (s *story) changePassword(ctx context.Context, n *node, client, asker int) {
	s.mu.Lock()
	access := s.holdings[asker].access
	s.passwords++
	in := input{op: opPassword, family: asker, password: s.right, next: s.passwords}
	s.mu.Unlock()
	in.span.from = s.now()
	_, out, ok := s.ask(ctx, n, "POST", "/v1/me/password",
		map[string]string{"current_password": password(in.password), "new_password": password(in.next)}, "Authorization", "Bearer "+access)
	in.span.until = s.now()
	if !ok {
		return
	}
	if !out.unknown && out.code == "" {
		s.mu.Lock()
		s.right = in.next
		s.mu.Unlock()
	}
	s.record(client, in, out)
}

// ban disables the account as the command line does, and enables it again.
func (s *story) ban(ctx context.Context, n *node, client int, op string) {
	in := input{op: op}
	in.span.from = s.now()
	var err error
	if op == opBan {
		_, err = n.in.Engine.Accounts().Disable(ctx, s.user, audit.BySystem, "prove")
	} else {
		err = n.in.Engine.Accounts().Enable(ctx, s.user, audit.BySystem, "prove")
	}
	in.span.until = s.now()
	s.record(client, in, output{unknown: err != nil})
}

// act does one thing that a client might do.
func (s *story) act(client int, dice *rand.Rand, impatient float64) {
	n := s.nodes[dice.IntN(len(s.nodes))]
	ctx := s.t.Context()
	if dice.Float64() < impatient {
		bounded, cancel := context.WithTimeout(ctx, time.Duration(dice.IntN(8000))*time.Microsecond)
		defer cancel()
		ctx = bounded
	}
	s.mu.Lock()
	f := dice.IntN(len(s.holdings))
	h := s.holdings[f]
	head := h.head
	previous := h.keys[max(1, head-1)]
	s.mu.Unlock()
	fresh := fmt.Sprintf("key-%016x", dice.Uint64())
	switch p := dice.IntN(100); {
	case p < 48:
		s.present(ctx, n, client, f, head, f, fresh)
	case p < 56:
		s.present(ctx, n, client, f, head, f, "")
	case p < 66: // the answer was lost: the same token with the same key
		s.present(ctx, n, client, f, max(1, head-1), f, previous)
	case p < 74: // the same without any
		s.present(ctx, n, client, f, max(1, head-1), f, "")
	case p < 80: // somebody else, who holds the predecessor
		s.present(ctx, n, client, f, max(1, head-1), 9, fresh)
	case p < 83: // somebody else, who holds the head
		s.present(ctx, n, client, f, head, 9, fresh)
	case p < 84: // an old token
		s.present(ctx, n, client, f, max(1, head-2), f, "")
	case p < 87:
		s.logOut(ctx, n, client, f, max(1, head-int32(dice.IntN(2))))
	case p < 89:
		s.endFrom(ctx, n, client, dice.IntN(len(s.holdings)), f)
	case p < 91:
		s.ban(ctx, n, client, opBan)
	case p < 93:
		s.ban(ctx, n, client, opUnban)
	case p < 95:
		s.changePassword(ctx, n, client, f)
	case p < 98:
		s.look(ctx, n, client, f)
	default:
		s.logIn(ctx, n, client)
	}
}

// close presents, with everything whole again, what was acknowledged last of
// each family: nothing that was acknowledged is lost, nothing ended comes back. A
// family of which nothing can be learned now was lost, too.
func (s *story) close(n *node) {
	for f, h := range s.holdings {
		for range 2 {
			head := h.head
			for deadline := time.Now().Add(time.Minute); !s.present(s.t.Context(), n, 0, f, head, f, fmt.Sprintf("last-key-of-%08d", f)); {
				if time.Now().After(deadline) {
					s.t.Errorf("%s: family %d has no answer with everything whole again: %v", s.email, f, s.ops[len(s.ops)-1].Output)
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		}
	}
	if err := s.apis.Settle(s.t.Context()); err != nil {
		s.t.Errorf("%s: %v", s.email, err)
	}
}
