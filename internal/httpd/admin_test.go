package httpd_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/httpd/contracttest"
	"example.com/authserver/internal/keys"
)

// office is the admin API as one administrator uses it.
type office struct {
	*house
	token string
	id    string // of the administrator
}

func (h *house) user(email string) account.User {
	h.t.Helper()
	u, err := h.engine.Accounts().ByEmail(h.t.Context(), account.EmailKey(email))
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

func (h *house) setRole(email string, granted bool) {
	h.t.Helper()
	if err := h.engine.Accounts().SetRole(h.t.Context(), h.user(email).ID, account.RoleAdmin, granted, "operator:test", "r"); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) openOffice() office {
	h.t.Helper()
	h.register("root@example.com")
	h.setRole("root@example.com", true)
	t := into[tokens](h.post("/v1/login", fields{"email": "root@example.com", "password": goodWord, "audience": "admin"}).is(200))
	return office{h, t.Access, h.user("root@example.com").ID.String()}
}

func (o office) ask(method, path string, body any, changes ...change) answer {
	o.t.Helper()
	all := append([]change{host("127.0.0.1:8081"), bearer(o.token)}, changes...)
	return o.send(o.ops, method, "/admin/v1"+path, body, all...)
}

type (
	adminUser struct {
		ID         string
		Email      string
		DisabledAt string `json:"disabled_at"`
		Roles      []string
	}
	adminUsers struct {
		Users []adminUser
		Next  string
	}
	adminSessions struct {
		Sessions []struct {
			ID        string
			UserID    string `json:"user_id"`
			EndedAt   string `json:"ended_at"`
			EndReason string `json:"end_reason"`
		}
	}
	endedCount struct {
		N int `json:"sessions_ended"`
	}
	keyStatus struct {
		Keys []struct {
			Purpose, Algorithm, KID, State string
			Number                         int
			HeldBy                         *int `json:"held_by"`
		}
		Verifiers struct {
			Newest, Older, Unknown int
			List                   []struct {
				Holds, Network string
				UserAgent      string `json:"user_agent"`
				Lacks          []string
				Trusts         []string `json:"may_trust_revoked"`
			}
		}
	}
	rotations struct {
		Rotations []struct {
			KID       string
			SignsFrom string `json:"signs_from"`
			HeldBy    int    `json:"held_by"`
		}
		Verifiers int
	}
	keyRevocation struct {
		DryRun    bool `json:"dry_run"`
		Successor string
		Living    int `json:"sessions_living"`
		Ending    int `json:"sessions_ending"`
		Ended     int `json:"sessions_ended"`
		HeldBy    int `json:"held_by"`
		Warnings  []string
	}
)

func TestAdmin_usersPageByPage(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		o := h.openOffice()
		want := []string{"root@example.com"}
		for i := range 6 {
			email := fmt.Sprintf("User%d@Example.com", i)
			h.register(email)
			want = append(want, email)
		}
		var got []string
		for after := ""; ; {
			page := into[adminUsers](o.ask("GET", "/users?limit=3&after="+after, nil).is(200))
			for _, u := range page.Users {
				got = append(got, u.Email)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		one := into[adminUsers](o.ask("GET", "/users?email=USER3@example.com", nil).is(200))
		if len(one.Users) != 1 || one.Users[0].Email != "User3@Example.com" {
			t.Errorf("by address: %v", one)
		}
		if none := into[adminUsers](o.ask("GET", "/users?email=nobody@example.com", nil).is(200)); none.Users == nil || len(none.Users) != 0 {
			t.Errorf("an unknown address: %v", none)
		}
		if u := into[adminUser](o.ask("GET", "/users/"+one.Users[0].ID, nil).is(200)); u.Email != "User3@Example.com" || u.Roles == nil {
			t.Errorf("shown: %v", u)
		}
		for _, id := range []string{"nonsense", "5c1f0d8e-7f52-4c1b-9f0e-6a2b1f3c4d5e"} {
			o.ask("GET", "/users/"+id, nil).refused(404, "user_not_found")
			o.ask("POST", "/users/"+id+"/disable", nil).refused(404, "user_not_found")
			o.ask("POST", "/users/"+id+"/enable", nil).refused(404, "user_not_found")
			o.ask("PUT", "/users/"+id+"/roles/editor", nil).refused(404, "user_not_found")
		}
	})
}

func TestAdmin_aBanCountsAtTheNextRequest(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		o := h.openOffice()
		h.register("eve@example.com")
		eve := h.login("eve@example.com")
		h.login("eve@example.com")
		id := h.user("eve@example.com").ID.String()
		a := o.ask("POST", "/users/"+id+"/disable", nil).is(200)
		if n := into[endedCount](a).N; n != 2 {
			t.Errorf("%d sessions ended, want 2", n)
		}
		h.do("GET", "/v1/me", nil, bearer(eve.Access)).refused(401, "session_ended")
		h.refresh(eve.Refresh).refused(401, "refresh_revoked")
		if n := into[endedCount](o.ask("POST", "/users/"+id+"/disable", nil).is(200)).N; n != 0 {
			t.Errorf("a second time: %d", n)
		}
		if u := into[adminUser](o.ask("GET", "/users/"+id, nil).is(200)); u.DisabledAt == "" {
			t.Errorf("disabled: %v", u)
		}
		if u := into[adminUser](o.ask("POST", "/users/"+id+"/enable", nil).is(200)); u.DisabledAt != "" {
			t.Errorf("enabled again: %v", u)
		}
		h.login("eve@example.com")

		if u := into[adminUser](o.ask("PUT", "/users/"+id+"/roles/editor", nil).is(200)); !slices.Contains(u.Roles, "editor") {
			t.Errorf("roles %v", u.Roles)
		}
		if u := into[adminUser](o.ask("PUT", "/users/"+id+"/roles/team%3Aadmin", nil).is(200)); !slices.Contains(u.Roles, "team:admin") {
			t.Errorf("a colon that came encoded: roles %v", u.Roles)
		}
		if u := into[adminUser](o.ask("DELETE", "/users/"+id+"/roles/team:admin", nil).is(200)); slices.Contains(u.Roles, "team:admin") {
			t.Errorf("a colon: roles %v", u.Roles)
		}
		o.ask("PUT", "/users/"+id+"/roles/No%20Role", nil).refused(400, "invalid_request")
		o.ask("DELETE", "/sessions?user="+id, map[string]any{"except": "x"}).refused(400, "invalid_request")
		for i := range 40 { // until they no longer fit into a token
			if a := o.ask("PUT", fmt.Sprintf("/users/%s/roles/%s%d", id, strings.Repeat("x", 60), i), nil); a.StatusCode != 200 {
				a.refused(409, "conflict")
				break
			} else if i == 39 {
				t.Error("40 roles of 62 bytes fit into a token")
			}
		}
		if u := into[adminUser](o.ask("DELETE", "/users/"+id+"/roles/editor", nil).is(200)); slices.Contains(u.Roles, "editor") {
			t.Errorf("roles %v", u.Roles)
		}
		o.wantActs(a.Header.Get("X-Request-Id"), audit.UserDisabled, audit.SessionEnded, audit.SessionEnded)
	})
}

// wantActs reads the audit log through the API: what a request did, by whom.
func (o office) wantActs(request string, want ...audit.Kind) {
	o.t.Helper()
	log := into[struct {
		Events []struct{ Kind, Actor string }
	}](o.ask("GET", "/audit?request_id="+request, nil).is(200))
	var kinds []audit.Kind
	for _, e := range log.Events {
		if e.Actor != "admin:"+o.id {
			o.t.Errorf("%s was done by %q, want admin:%s", e.Kind, e.Actor, o.id)
		}
		kinds = append(kinds, audit.Kind(e.Kind))
	}
	slices.Sort(kinds)
	slices.Sort(want)
	if diff := cmp.Diff(want, kinds); diff != "" {
		o.t.Errorf("events of %s (-want +got)\n%s", request, diff)
	}
}

func TestAdmin_whoMayAsk(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		o := h.openOffice()
		h.register("ada@example.com")
		h.post("/v1/login", fields{"email": "ada@example.com", "password": goodWord, "audience": "admin"}).refused(403, "forbidden")
		if a := h.send(h.ops, "GET", "/admin/v1/users", nil, host("localhost")); a.refused(401, "token_invalid").Code == "" || strings.Contains(a.Header.Get("WWW-Authenticate"), "error") {
			t.Errorf("without a token the challenge is %q", a.Header.Get("WWW-Authenticate"))
		}
		with := func(token string) answer {
			o := o
			o.token = token
			return o.ask("GET", "/users", nil)
		}
		a := with(h.login("root@example.com").Access) // the audience of everything else
		a.refused(401, "token_invalid")
		if e := h.event(a); e["reason"] != "audience" {
			t.Errorf("the log says %v", e["reason"])
		}
		with("x.y.z").refused(401, "token_invalid")
		h.do("GET", "/v1/me", nil, bearer(o.token)).refused(401, "token_invalid") // and not the other way round

		o.ask("GET", "/users", nil).is(200)
		h.setRole("root@example.com", false)
		if a := o.ask("GET", "/users", nil); a.refused(403, "forbidden").Code == "" || h.event(a)["reason"] != "role_missing" {
			t.Errorf("without the role: %v", h.event(a))
		}
		h.setRole("root@example.com", true)
		o.ask("GET", "/users", nil).is(200)

		again := into[tokens](h.post("/v1/login", fields{"email": "root@example.com", "password": goodWord, "audience": "admin"}).is(200))
		o.ask("DELETE", "/sessions/"+again.Session, nil).is(204)
		with(again.Access).refused(401, "session_ended")
		h.advance(11 * time.Minute)
		o.ask("GET", "/users", nil).refused(401, "token_expired")
	})
}

func TestAdmin_onlyWhereItIsMeantToBe(t *testing.T) {
	h := onOne(t)
	o := h.openOffice()
	exposed := h.config
	exposed.AdminExpose, exposed.AdminHosts = []string{"admin"}, []string{"ops.example.com"}
	open, err := httpd.New(exposed, h.rooms)
	if err != nil {
		t.Fatal(err)
	}
	loop, lan := &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4zero}
	for _, x := range []struct {
		handler http.Handler
		host    string
		want    int
	}{
		{h.server.Operations(loop), "127.0.0.1:8081", 200},
		{h.server.Operations(loop), "localhost", 200},
		{h.server.Operations(loop), "ops.example.com", 403},
		{h.server.Operations(loop), "evil.example", 403},
		{h.server.Operations(lan), "10.0.0.1", 404},
		{h.server.Operations(lan), "localhost", 404},
		{open.Operations(lan), "10.0.0.1", 200},
		{open.Operations(lan), "ops.example.com:8081", 200},
		{open.Operations(lan), "evil.example", 403},
		{h.server.Public(), "auth.example.com", 404},
		{h.server.Public(), "127.0.0.1", 421},
	} {
		r := httptest.NewRequest("GET", "/admin/v1/keys", nil)
		r.Host = x.host
		r.Header.Set("Authorization", "Bearer "+o.token)
		w := httptest.NewRecorder()
		x.handler.ServeHTTP(w, r)
		if w.Code != x.want && x.want != 421 || x.want == 421 && w.Code == 200 {
			t.Errorf("under %s: %d, want %d: %s", x.host, w.Code, x.want, w.Body)
		}
	}
	// No page of another origin reads it or may ask, and no cookie is taken or set.
	a := o.ask("GET", "/keys", nil, header("Origin", "https://app.example.com")).is(200)
	for name := range a.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
			t.Errorf("it answers with %s", name)
		}
	}
	h.send(h.ops, "OPTIONS", "/admin/v1/keys", nil, preflight("https://app.example.com", "GET", "authorization")...).is(405)
}

func TestAdmin_sessions(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		o := h.openOffice()
		h.register("ada@example.com")
		first, second, third := h.login("ada@example.com"), h.login("ada@example.com"), h.login("ada@example.com")
		id := h.user("ada@example.com").ID.String()
		living := func(more string) adminSessions {
			return into[adminSessions](o.ask("GET", "/sessions?user="+id+more, nil).is(200))
		}
		if l := living(""); len(l.Sessions) != 3 || l.Sessions[0].UserID != id {
			t.Fatalf("listed: %v", l)
		}
		a := o.ask("DELETE", "/sessions/"+first.Session, nil).is(204)
		o.wantActs(a.Header.Get("X-Request-Id"), audit.SessionEnded)
		o.ask("DELETE", "/sessions/"+first.Session, nil).is(204)
		h.do("GET", "/v1/me", nil, bearer(first.Access)).refused(401, "session_ended")
		h.do("GET", "/v1/me", nil, bearer(second.Access)).is(200)
		one := into[struct {
			EndedAt   string `json:"ended_at"`
			EndReason string `json:"end_reason"`
		}](o.ask("GET", "/sessions/"+first.Session, nil).is(200))
		if one.EndedAt == "" || one.EndReason == "" {
			t.Errorf("shown: %v", one)
		}
		if l := living(""); len(l.Sessions) != 2 {
			t.Errorf("living: %v", l)
		}
		if l := living("&ended=true"); len(l.Sessions) != 3 {
			t.Errorf("with those that ended: %v", l)
		}
		if n := into[endedCount](o.ask("DELETE", "/sessions?user="+id, nil).is(200)).N; n != 2 {
			t.Errorf("%d ended, want the two that were left", n)
		}
		h.refresh(third.Refresh).refused(401, "refresh_revoked")
		o.ask("GET", "/users", nil).is(200) // the administrator's own session stands
		for _, id := range []string{"nonsense", "0e8f1c7a-3b2d-4e5f-8a9b-1c2d3e4f5a6b"} {
			o.ask("GET", "/sessions/"+id, nil).refused(404, "session_not_found")
			o.ask("DELETE", "/sessions/"+id, nil).refused(404, "session_not_found")
		}
		o.ask("GET", "/sessions?user=0e8f1c7a-3b2d-4e5f-8a9b-1c2d3e4f5a6b", nil).refused(404, "user_not_found")
		o.ask("DELETE", "/sessions?user=0e8f1c7a-3b2d-4e5f-8a9b-1c2d3e4f5a6b", nil).refused(404, "user_not_found")
	})
}

// A misspelt filter or member is refused, and nothing happens.
func TestAdmin_isStrict(t *testing.T) {
	h := onOne(t)
	o := h.openOffice()
	id := o.id
	for _, path := range []string{
		"/users?limt=3", "/users?limit=0", "/users?limit=1001", "/users?limit=x", "/users?limit=1&limit=2", "/users?after=***", "/users?%zz",
		"/sessions", "/sessions?user=x", "/sessions?user=" + id + "&ended=yes", "/sessions?user=" + id + "&user=" + id,
		"/audit?user=x", "/audit?session=x", "/audit?before=yesterday", "/audit?who=me",
	} {
		o.ask("GET", path, nil).refused(400, "invalid_request")
	}
	o.ask("DELETE", "/sessions?user="+id+"&except=current", nil).refused(400, "invalid_request")
	o.ask("DELETE", "/sessions", nil).refused(400, "invalid_request")
	for path, body := range map[string]any{
		"/users/" + id + "/disable": fields{"reason": "x"},
		"/keys/rotate":              fields{"at": "x"}, "/keys/cancel": `{"algorithm":"ES256","algorithm":"ES256"}`, "/keys/back": `[]`,
		"/keys/x/revoke": fields{"dry_run": "true"},
	} {
		o.ask("POST", path, body).refused(400, "invalid_request")
	}
	o.ask("POST", "/keys/rotate", fields{"not_before": "tomorrow"}).refused(400, "invalid_request")
	o.ask("POST", "/keys/rotate", fields{"algorithm": "HS256"}).refused(400, "invalid_request")
	o.ask("POST", "/keys/rotate", fields{"purpose": "refresh", "algorithm": "ES256"}).refused(400, "invalid_request")
	o.ask("POST", "/keys/rotate", `{}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }).refused(415, "unsupported_media_type")
	o.ask("POST", "/keys/x/revoke", strings.Repeat(" ", 70<<10)).refused(413, "body_too_large")
	o.ask("GET", "/users", nil).is(200) // nobody was disabled
}

// wantEachKey asks for every key of the timetable by its kid: the answer has to
// be the same object, and nothing that the timetable does not tell.
func (o office) wantEachKey(want map[string]string) {
	o.t.Helper()
	list := into[struct{ Keys []map[string]any }](o.ask("GET", "/keys", nil).is(200)).Keys
	states := map[string]string{}
	for _, k := range list {
		kid, _ := k["kid"].(string)
		states[kid], _ = k["state"].(string)
		if diff := cmp.Diff(k, into[map[string]any](o.ask("GET", "/keys/"+kid, nil).is(200))); diff != "" {
			o.t.Errorf("key %s (-in the timetable +alone)\n%s", kid, diff)
		}
	}
	if diff := cmp.Diff(want, states); diff != "" {
		o.t.Errorf("states (-want +got)\n%s", diff)
	}
}

func TestAdmin_keys(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		o := h.openOffice()
		h.seen(func() { h.do("GET", "/.well-known/jwks.json", nil, agent("svc/1")).is(200) })
		status := into[keyStatus](o.ask("GET", "/keys", nil).is(200))
		old := status.Keys[0].KID
		if len(status.Keys) != 2 || *status.Keys[0].HeldBy != 1 || status.Keys[1].HeldBy != nil || status.Verifiers.Newest != 1 || status.Verifiers.List[0].UserAgent != "svc/1" {
			t.Fatalf("%+v", status)
		}
		o.wantEachKey(map[string]string{old: "active", "refresh-1": "active"})
		for _, kid := range []string{"nonsense", "refresh-2", "rotate", old[1:], strings.Repeat("x", 300)} {
			o.ask("GET", "/keys/"+kid, nil).refused(404, "key_not_found")
		}
		o.ask("POST", "/keys/back", nil).refused(409, "conflict")
		o.ask("POST", "/keys/cancel", fields{"algorithm": "ES256"}).refused(409, "conflict")

		h.advance(time.Second) // two changes of one millisecond could not be told apart
		a := o.ask("POST", "/keys/rotate", fields{"algorithm": "ES256"}).is(200)
		r := into[rotations](a)
		next := r.Rotations[0]
		if from, err := time.Parse(time.RFC3339, next.SignsFrom); err != nil || from.Before(h.clock.Now().Add(h.policy.Lead).Truncate(time.Second)) {
			t.Errorf("it signs from %s, a lead of %s ahead is wanted: %v", next.SignsFrom, h.policy.Lead, err)
		}
		if next.HeldBy != 0 || r.Verifiers != 1 || next.KID == "" || next.KID == old {
			t.Errorf("rotated: %+v", r)
		}
		o.wantActs(a.Header.Get("X-Request-Id"), audit.KeyActivated, audit.KeyPublished)
		h.advance(0)
		status = into[keyStatus](o.ask("GET", "/keys", nil).is(200))
		if v := status.Verifiers; v.Older != 1 || v.List[0].Holds != string(keys.HoldsOlder) || cmp.Diff([]string{next.KID}, v.List[0].Lacks) != "" {
			t.Errorf("the verifier does not lag: %+v", v)
		}
		if into[rotations](o.ask("POST", "/keys/cancel", fields{"algorithm": "ES256"}).is(200)).Rotations[0].KID != next.KID {
			t.Error("another key was put back")
		}
		o.ask("POST", "/keys/rotate", nil).is(200)
		h.seen(func() { h.do("GET", "/.well-known/jwks.json", nil, agent("svc/1")).is(200) })

		o.ask("POST", "/keys/nonsense/revoke", fields{"dry_run": true}).refused(404, "key_not_found")
		dry := into[keyRevocation](o.ask("POST", "/keys/"+old+"/revoke", fields{"dry_run": true}).is(200))
		if !dry.DryRun || dry.Successor != next.KID || dry.Living != 1 || dry.HeldBy != 1 || dry.Warnings == nil {
			t.Errorf("dry run: %+v", dry)
		}
		h.advance(time.Second)
		o.ask("GET", "/users", nil).is(200) // nothing was done
		a = o.ask("POST", "/keys/"+old+"/revoke", nil).is(200)
		if did := into[keyRevocation](a); did.DryRun || did.Successor != next.KID {
			t.Errorf("revoked: %+v", did)
		}
		revoking := a.Header.Get("X-Request-Id")
		h.advance(0)
		o.ask("GET", "/users", nil).refused(401, "token_invalid") // its own token was signed by that key
		fresh := into[tokens](h.post("/v1/login", fields{"email": "root@example.com", "password": goodWord, "audience": "admin"}).is(200))
		o.token = fresh.Access
		o.wantActs(revoking, audit.KeyRevoked, audit.KeyRevoked, audit.KeyActivated)
		o.ask("POST", "/keys/"+old+"/revoke", nil).refused(409, "conflict")
		o.wantEachKey(map[string]string{old: "revoked", next.KID: "active", "refresh-1": "active"})
		status = into[keyStatus](o.ask("GET", "/keys", nil).is(200))
		if v := status.Verifiers.List[0]; cmp.Diff([]string{old}, v.Trusts) != "" {
			t.Errorf("who fetched before may still believe the old key: %+v", v)
		}

		// The refresh root key: the sessions under it end.
		o.ask("POST", "/keys/rotate", fields{"purpose": "refresh"}).is(200)
		dry = into[keyRevocation](o.ask("POST", "/keys/refresh-1/revoke", fields{"dry_run": true}).is(200))
		if dry.Ending != 2 || dry.Ended != 0 {
			t.Errorf("dry run of the root key: %+v", dry)
		}
		if did := into[keyRevocation](o.ask("POST", "/keys/refresh-1/revoke", nil).is(200)); did.Ended != 2 {
			t.Errorf("root key: %+v", did)
		}
		o.ask("GET", "/users", nil).refused(401, "session_ended")
	})
}

// A revocation of a root key that dies before the sessions are ended is
// finished by housekeeping.
func TestVault_finishesWhatARevocationLeft(t *testing.T) {
	onEach(t, func(t *testing.T, h *house) {
		h.register("ada@example.com")
		first := h.login("ada@example.com")
		by := keys.By{Actor: "operator:test", RequestID: "r"}
		if _, err := h.rooms.Vault.Revoke(t.Context(), by, "refresh-1", false); err != nil {
			t.Fatal(err)
		}
		h.do("GET", "/v1/me", nil, bearer(first.Access)).is(200) // its session still stands
		for _, want := range []int{1, 0} {
			if n, err := h.rooms.Vault.FinishRoots(t.Context(), audit.BySystem); err != nil || n != want {
				t.Errorf("%d ended, want %d: %v", n, want, err)
			}
		}
		h.do("GET", "/v1/me", nil, bearer(first.Access)).refused(401, "session_ended")
	})
}

// Whatever there is to ask for is for administrators alone, and asking without being one
// changes nothing.
func TestAdmin_everyOperationIsForAdministrators(t *testing.T) {
	h := onOne(t)
	o := h.openOffice()
	h.register("ada@example.com")
	ada := h.login("ada@example.com")
	logIn := fields{"email": "root@example.com", "password": goodWord, "audience": "admin"}
	ended := into[tokens](h.post("/v1/login", logIn).is(200))
	o.ask("DELETE", "/sessions/"+ended.Session, nil).is(204)
	before := o.ask("GET", "/keys", nil).is(200)
	kid := into[struct{ Keys []struct{ KID string } }](before).Keys[0].KID

	contract, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	everything := func(who, token string, status int, code string) {
		t.Helper()
		for _, operation := range contract.Operations() {
			method, path, _ := strings.Cut(operation, " ")
			path, ours := strings.CutPrefix(path, "/admin/v1")
			if !ours {
				continue
			}
			asked++
			subject := h.user("ada@example.com").ID.String()
			if strings.HasPrefix(path, "/sessions/") {
				subject = ada.Session
			}
			path = strings.NewReplacer("{id}", subject, "{role}", "admin", "{kid}", kid).Replace(path)
			changes := []change{host("127.0.0.1:8081")}
			if token != "" {
				changes = append(changes, bearer(token))
			}
			a := h.send(h.ops, method, "/admin/v1"+path, nil, changes...)
			if p := into[problem](a); a.StatusCode != status || p.Code != code {
				t.Errorf("%s %s asked by %s: %d %s; want %d %s", method, path, who, a.StatusCode, p.Code, status, code)
			}
		}
	}
	everything("nobody", "", 401, "token_invalid")
	everything("a user", ada.Access, 401, "token_invalid")
	everything("an administrator with a token for everything else", h.login("root@example.com").Access, 401, "token_invalid")
	everything("an administrator whose session has ended", ended.Access, 401, "session_ended")
	h.setRole("root@example.com", false)
	everything("somebody who was an administrator", o.token, 403, "forbidden")
	h.setRole("root@example.com", true)
	if asked < 5*15 {
		t.Errorf("%d requests; want each of fifteen operations at least asked for by five", asked)
	}

	if u := h.user("ada@example.com"); !u.DisabledAt.IsZero() || len(u.Roles) > 0 {
		t.Errorf("the account that they were about: %+v", u)
	}
	h.do("GET", "/v1/me", nil, bearer(ada.Access)).is(200)
	if after := o.ask("GET", "/keys", nil).is(200); string(after.body) != string(before.body) {
		t.Errorf("the keys before and after:\n%s\n%s", before.body, after.body)
	}
}
