package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// ending is one way in which a session ends before its time.
type ending struct {
	name string
	end  func(n *node, email string, in answer)
}

// refreshWith sends a refresh token and wants a status.
func (n *node) refreshWith(status int, token string) answer {
	n.t.Helper()
	return n.must(status, "POST", "/v1/refresh", map[string]string{"refresh_token": token})
}

var endings = []ending{
	{"logout", func(n *node, _ string, in answer) {
		n.must(http.StatusNoContent, "POST", "/v1/logout", nil, bearer(in)...)
	}},
	{"deleted by its owner", func(n *node, email string, in answer) {
		n.must(http.StatusNoContent, "DELETE", "/v1/sessions/"+in.Field("session_id"), nil, bearer(n.logIn(email))...)
	}},
	{"all others deleted", func(n *node, email string, _ answer) {
		n.must(http.StatusNoContent, "DELETE", "/v1/sessions?except=current", nil, bearer(n.logIn(email))...)
	}},
	{"another password", func(n *node, email string, _ answer) {
		n.must(http.StatusNoContent, "POST", "/v1/me/password",
			map[string]string{"current_password": goodPassword, "new_password": "another fine battery"}, bearer(n.logIn(email))...)
	}},
	{"reuse", func(n *node, _ string, in answer) {
		first := in.Field("refresh_token")
		n.refreshWith(http.StatusOK, n.refreshWith(http.StatusOK, first).Field("refresh_token"))
		n.refreshWith(http.StatusUnauthorized, first)
	}},
	{"ended by an operator", func(n *node, _ string, in answer) {
		n.mustCLI("", "sessions", "revoke", in.Field("session_id"))
	}},
	{"a password set by an operator", func(n *node, email string, _ answer) {
		n.mustCLI("yet another battery", "users", "set-password", email)
	}},
	{"a ban", func(n *node, email string, _ answer) {
		n.mustCLI("", "users", "disable", email)
	}},
	{"ended by an administrator", func(n *node, _ string, in answer) {
		n.mustOps(http.StatusNoContent, "DELETE", "/admin/v1/sessions/"+in.Field("session_id"))
	}},
	{"banned by an administrator", func(n *node, _ string, in answer) {
		n.mustOps(http.StatusOK, "POST", "/admin/v1/users/"+n.must(http.StatusOK, "GET", "/v1/me", nil, bearer(in)...).Field("id")+"/disable")
	}},
	{"a revoked refresh root key", func(n *node, _ string, _ answer) {
		n.mustOps(http.StatusOK, "POST", "/admin/v1/keys/refresh-1/revoke")
	}},
	{"everything before an instant", func(n *node, _ string, _ answer) {
		n.mustCLI("", "sessions", "revoke", "--issued-before", "now", "--yes")
	}},
}

// mustOps sends a request to the admin API as an administrator.
func (n *node) mustOps(status int, method, path string) {
	n.t.Helper()
	token := n.mustCLI("", "token", "mint", "--user", "root@example.com", "--admin")
	a, err := call(method, n.Ops+path, nil, "Authorization", "Bearer "+token[:len(token)-1])
	if err != nil || a.Status != status {
		n.t.Fatalf("%s %s: %v %s; want %d", method, path, err, a, status)
	}
}

// Whatever ends a session early, an API that follows the feed refuses its
// access token, and nobody else's.
func TestRevoked_everyWayASessionEnds(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, append(settings, "ISSUER="+issuerOfAll)...).start()
		all := followers(t, []*node{n}, 2)
		n.mustCLI(goodPassword, "users", "create", "root@example.com", "--admin")
		for i, e := range endings {
			email := fmt.Sprintf("ada%d@example.com", i)
			in := n.person(email)
			stays := n.person("stays-" + email).Field("access_token")
			believed(t, all, in.Field("access_token"), "before "+e.name)
			e.end(n, email, in)
			refusedBy(t, all, in.Field("access_token"), time.Now(), verify.ErrRevoked)
			if i < len(endings)-2 { // the last two concern everybody
				believed(t, all, stays, "of somebody else after "+e.name)
			}
		}
		believed(t, all, n.person("afterwards@example.com").Field("access_token"), "that is new")
	})
}

// believed wants every follower to take a token.
func believed(t *testing.T, all []following, token, what string) {
	t.Helper()
	for i, f := range all {
		if _, err := f.Verify(t.Context(), token); err != nil {
			t.Fatalf("follower %d refuses a token %s: %v", i, what, err)
		}
	}
}
