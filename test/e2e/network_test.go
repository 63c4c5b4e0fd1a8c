package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
)

// What lies between one node and the database goes silent; the database and the other node
// are well. That node says so and comes back by itself, and nobody who is sent to either
// loses a session.
func TestFaults_oneNodeIsCutOffFromAHealthyDatabase(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		database := storetest.Postgres(t)
		proxy := faultproxy.New(t, database)
		settings := []string{"MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		well := newNode(t, append(settings, "DATABASE_URL="+database)...).start()
		cut := newNode(t, append(settings, "DATABASE_URL="+proxy.URL)...).start()
		c := newCrowd(t, []*node{well, cut}, 8)
		c.impatient(3 * time.Second) // they turn to the other node
		c.start()
		rounds := provetest.Effort(t)
		for range rounds {
			c.refreshed(50)
			proxy.Arm(func(faultproxy.Message) faultproxy.Act { return faultproxy.Mute() })
			until(t, "the node to see that it is cut off", func() bool {
				a, err := call("GET", cut.Ops+"/readyz", nil)
				return err == nil && a.Status == http.StatusServiceUnavailable
			})
			c.refreshed(50) // at the other one
			if err := well.ready(); err != nil {
				t.Errorf("the other node: %v", err)
			}
			proxy.Arm(nil)
			cut.awaitReady(2 * time.Minute)
		}
		c.settle(trouble)
		provetest.Figure(t, "nodes cut off from a healthy database", rounds)
		audit(t, cut)
	})
}

// PostgreSQL itself refuses connections, because others hold them all: what the nodes
// still have they use, and who gets no answer gets one later.
func TestFaults_theDatabaseHasNoConnectionLeft(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		database := storetest.Postgres(t)
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		admin, err := pgx.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		role := "authserver_" + strings.ToLower(rand.Text())
		exec := func(statement string) {
			t.Helper()
			if _, err := admin.Exec(context.Background(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
		t.Cleanup(func() { // after the node has ended
			exec(`DROP OWNED BY ` + role)
			exec(`DROP ROLE ` + role)
			admin.Close(context.Background())
		})
		exec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'a password'`)
		exec(`GRANT ALL ON SCHEMA public TO ` + role)
		u.User = url.UserPassword(role, "a password")
		n := newNode(t, "DATABASE_URL="+u.String(), "MASTER_KEY="+masterKey, "DATABASE_CONNS=8", "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 8)
		c.start()
		rounds := provetest.Effort(t)
		for _, limit := range []string{"1", "0"} {
			for range rounds {
				c.refreshed(50)
				exec(`ALTER ROLE ` + role + ` CONNECTION LIMIT ` + limit)
				exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + role + `'`)
				if limit == "0" {
					n.felt(c)
				} else {
					c.refreshed(20) // whichever pool of the node has the one
				}
				exec(`ALTER ROLE ` + role + ` CONNECTION LIMIT -1`)
			}
		}
		n.awaitReady(time.Minute)
		c.settle(trouble)
		provetest.Figure(t, "times without a connection that PostgreSQL grants", 2*rounds)
		audit(t, n)
	})
}

// The database is a thousand times as far away as usual: every message takes its time,
// and everything works.
func TestFaults_aThousandTimesTheLatency(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		database := storetest.Postgres(t)
		proxy := faultproxy.New(t, database)
		n := newNode(t, "DATABASE_URL="+proxy.URL, "MASTER_KEY="+masterKey, "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 8)
		const late = 20 * time.Millisecond // on the same machine it is some 20 us
		proxy.Arm(func(faultproxy.Message) faultproxy.Act { return faultproxy.Delay(late) })
		c.start()
		c.refreshed(40)
		token := n.person(rand.Text() + "@example.com").Field("refresh_token")
		// Two at once are two tabs: each gets the one successor.
		answers := make(chan string, 2)
		for range 2 {
			go func() {
				a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token})
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("one of two tabs: %v %s", err, a)
				}
				answers <- a.Field("refresh_token")
			}()
		}
		if one, other := <-answers, <-answers; one != other {
			t.Error("two tabs have two successors")
		}
		n.must(http.StatusNoContent, "POST", "/v1/logout", map[string]string{"refresh_token": token})
		if a := n.must(http.StatusUnauthorized, "POST", "/v1/refresh", map[string]string{"refresh_token": token}); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
			t.Errorf("after a logout: %s", a)
		}
		n.awaitReady(30 * time.Second) // a database that is far away is not gone
		c.settle(nothing)
		proxy.Arm(nil)
		provetest.Figure(t, "nodes whose database is a thousand times as far away", 1)
		audit(t, n)
	})
}
