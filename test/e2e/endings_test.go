package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/rig"
	"example.com/authserver/verify"
)

// ending is one way in which a session ends before its time.
type ending struct {
	name string
	end  func(n *node, email string, in answer)
}

// refresh presents a refresh token, again where it is answered with 503: so does a node that
// has just stood still with what would end a session.
func (n *node) refresh(token string, header ...string) answer {
	n.t.Helper()
	a, err := rig.Patiently(30*time.Second, func() (answer, error) {
		return call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token}, header...)
	})
	if err != nil {
		n.t.Fatalf("refresh: %v", err)
	}
	return a
}

// refreshWith is refresh for who wants a status.
func (n *node) refreshWith(status int, token string) answer {
	n.t.Helper()
	a := n.refresh(token)
	if a.Status != status {
		n.t.Fatalf("refresh: %s; want %d", a, status)
	}
	return a
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

// A refresh that overlaps an end may be answered, but what it hands out is dead: an API that
// follows the feed refuses it, also where the end had to wait for a row and refreshes went on
// meanwhile: rotations before the end has looked at the clock, and retries, which lock
// nothing, until it commits. On SQLite all wait for one writer, and are let in in any order.
func TestRevoked_whatIsHandedOutBesideAnEnd(t *testing.T) {
	t.Parallel()
	const users, families = `SELECT FROM users WHERE email = $1 FOR UPDATE`,
		`SELECT FROM families f JOIN users u ON u.id = f.user_id WHERE u.email = $1 FOR UPDATE OF f`
	for _, c := range []struct {
		name, row string // what is locked; all of SQLite if empty
		retries   bool
		least     int // access tokens that are handed out while it is locked
	}{
		{"postgres/rotations", users, false, 5},
		{"postgres/retries", families, true, 5},
		{"sqlite/rotations", "", false, 0},
		{"sqlite/retries", "", true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var here, there *node
			var hold func(email string) (release func())
			settings := []string{"ISSUER=" + issuerOfAll, "LOG_LEVEL=error"}
			if c.row == "" {
				here = newNode(t, settings...).start()
				there, hold = here, holdsWriter(t, here)
			} else {
				database := storetest.Postgres(t)
				settings = append(settings, "DATABASE_URL="+database, "MASTER_KEY="+masterKey)
				here, there, hold = newNode(t, settings...).start(), newNode(t, settings...).start(), holdsRow(t, database, c.row)
			}
			all := followers(t, []*node{here, there}, 2)
			here.mustCLI(goodPassword, "users", "create", "root@example.com", "--admin")
			for i, e := range endings {
				if e.name == "reuse" || e.name == "a revoked refresh root key" { // the test's own refreshes; and who left it in time lives on
					continue
				}
				email := fmt.Sprintf("eva%d@example.com", i)
				in := here.person(email)
				token := in.Field("refresh_token")
				if c.retries { // of this one from here on, within the window
					there.refreshWith(http.StatusOK, token)
				}
				var count atomic.Int32
				begun, handedOut := make(chan struct{}), make(chan []string)
				go func() {
					tokens := []string{in.Field("access_token")}
					for {
						a, err := call("POST", there.URL+"/v1/refresh", map[string]string{"refresh_token": token})
						if len(tokens) == 1 {
							close(begun)
						}
						if err != nil || a.Status != http.StatusOK {
							handedOut <- tokens
							return
						}
						if !c.retries {
							token = a.Field("refresh_token")
						}
						tokens = append(tokens, a.Field("access_token"))
						count.Add(1)
						<-time.After(5 * time.Millisecond)
					}
				}()
				<-begun
				release := hold(email)
				from := count.Load()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					e.end(here, email, in)
				}()
				<-time.After(1500 * time.Millisecond)
				// The floor is raised before any row is locked; SQLite has no rows to lock.
				if e.name != "everything before an instant" || c.row == "" {
					for deadline := time.Now().Add(2 * time.Second); int(count.Load()-from) < c.least && time.Now().Before(deadline); {
						<-time.After(20 * time.Millisecond)
					}
					select {
					case <-ended:
						t.Errorf("%s: it did not wait for what is locked: nothing was tested", e.name)
					default:
					}
					if n := int(count.Load() - from); n < c.least {
						t.Errorf("%s: %d tokens were handed out meanwhile: nothing was tested", e.name, n)
					}
				}
				release()
				<-ended
				acknowledged := time.Now()
				tokens := <-handedOut
				for _, token := range tokens {
					refusedBy(t, all, token, acknowledged, verify.ErrRevoked)
				}
				if t.Failed() {
					t.Fatalf("after %s", e.name)
				}
			}
			audit(t, here)
		})
	}
}

// holdsRow locks a row that belongs to somebody until it is released.
func holdsRow(t *testing.T, database, row string) func(email string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return func(email string) func() {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), row, email); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// holdsWriter keeps everybody from writing to a node's SQLite until it is released.
func holdsWriter(t *testing.T, n *node) func(email string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(n.Dir, "authserver.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	exec := func(statement string) {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	return func(string) func() {
		exec("BEGIN IMMEDIATE")
		return func() { exec("ROLLBACK") }
	}
}
