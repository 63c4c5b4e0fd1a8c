package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/pgcluster"
	"example.com/authserver/test/prove/provetest"
)

// With the database gone under load nobody is logged out: every refusal is 503
// with Retry-After, no cookie is touched, the key set is served, and when it is
// back everybody goes on without a restart.
func TestFaults_aDatabaseThatIsGoneLogsNobodyOut(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		pg := pgcluster.New(t)
		n := newNode(t, "DATABASE_URL="+pg.URL(), "RETRY_WINDOW=1s", "LOG_LEVEL=error").start()
		const people = 12
		tokens := make([]string, people)
		for i := range tokens {
			tokens[i] = n.person(fmt.Sprintf("p%d@example.com", i)).Field("refresh_token")
		}
		cookie := n.must(200, "POST", "/v1/login", map[string]string{"email": "p0@example.com", "password": goodPassword, "transport": "cookie"}).Header.Get("Set-Cookie")
		cookie, _, _ = strings.Cut(cookie, ";")
		access := bearer(n.logIn("p0@example.com"))

		stop := make(chan struct{})
		var mu sync.Mutex
		statuses := map[int]int{}
		var all sync.WaitGroup
		for i := range people {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": tokens[i]})
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					mu.Lock()
					statuses[a.Status]++
					mu.Unlock()
					switch a.Status {
					case 200:
						tokens[i] = a.Field("refresh_token")
					case 503:
						if a.Header.Get("Retry-After") == "" || a.Field("code") != "temporarily_unavailable" {
							t.Errorf("503 without Retry-After or code: %s", a)
						}
						time.Sleep(20 * time.Millisecond)
					default:
						t.Errorf("client %d: %s", i, a)
						return
					}
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		pg.Stop()
		time.Sleep(time.Second)
		for what, a := range map[string]answer{
			"refresh by cookie": n.must(503, "POST", "/v1/refresh", nil, "Cookie", cookie),
			"login":             n.must(503, "POST", "/v1/login", map[string]string{"email": "p0@example.com", "password": goodPassword}),
			"me":                n.must(503, "GET", "/v1/me", nil, access...),
			"logout":            n.must(503, "POST", "/v1/logout", nil, "Cookie", cookie),
			"registration":      n.must(503, "POST", "/v1/users", map[string]string{"email": "new@example.com", "password": goodPassword}),
		} {
			if a.Header.Get("Set-Cookie") != "" || a.Header.Get("Retry-After") == "" {
				t.Errorf("%s while the database is gone: %v", what, a.Header)
			}
		}
		n.must(200, "GET", "/.well-known/jwks.json", nil)
		if a, err := call("GET", n.Ops+"/readyz", nil); err != nil || a.Status != 503 {
			t.Errorf("/readyz: %v %s; want 503", err, a)
		}
		if a, err := call("GET", n.Ops+"/livez", nil); err != nil || a.Status != 200 {
			t.Errorf("/livez: %v %s; want 200", err, a)
		}
		pg.Start()
		n.awaitReady(20 * time.Second)
		time.Sleep(300 * time.Millisecond)
		close(stop)
		all.Wait()
		for i, token := range tokens {
			if a := n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": token}); a.Field("refresh_token") == "" {
				t.Errorf("person %d: %s", i, a)
			}
		}
		n.must(200, "POST", "/v1/refresh", nil, "Cookie", cookie)
		for status := range statuses {
			if status != 200 && status != 503 {
				t.Errorf("statuses %v; want 200 and 503 alone", statuses)
			}
		}
		if statuses[200] == 0 || statuses[503] == 0 {
			t.Errorf("statuses %v; want some of 200 and of 503", statuses)
		}
		t.Logf("answers: %v", statuses)
		audit(t, n)
	})
}

// besides has people refresh for that long, and wants an answer of 200 each time. It returns
// how many they had a second, and what tokens they have now in the place of the others. None
// may take more than two seconds, but once: a machine that stands still is late with all that
// it was at.
func (n *node) besides(tokens []string, least time.Duration) (perSecond float64) {
	n.t.Helper()
	var mu sync.Mutex
	count, slowest := 0, time.Duration(0)
	var first, last time.Time // answers that took so long
	begun := time.Now()
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			for time.Since(begun) < least {
				asked := time.Now()
				a, err := call("POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": tokens[i]})
				took := time.Since(asked)
				if err != nil || a.Status != 200 {
					n.t.Errorf("client %d: %v %s", i, err, a)
					return
				}
				tokens[i] = a.Field("refresh_token")
				mu.Lock()
				count++
				slowest = max(slowest, took)
				if took > 2*time.Second {
					if last = time.Now(); first.IsZero() {
						first = last
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if last.Sub(first) > time.Second {
		n.t.Errorf("the others: answers took more than 2s from %s to %s, the slowest %s", first, last, slowest)
	}
	n.t.Logf("%d refreshes in %s, the slowest took %s", count, least, slowest)
	return float64(count) / least.Seconds()
}

// A family row that somebody holds locked costs its own client a 503, and
// nobody else anything. So does one whose update fails.
func TestFaults_aRowOfOneStopsNobodyElse(t *testing.T) {
	for _, c := range []struct {
		name, begin, end string // $1 is the victim's session
		least            time.Duration
	}{
		// A minute where there is time for it, as somebody's forgotten psql does.
		{"locked", `SELECT id FROM families WHERE session_id = '$1' FOR UPDATE`, `ROLLBACK`, time.Minute},
		{
			"fails", `CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''by the test''; END';
			CREATE TRIGGER fails BEFORE UPDATE ON families FOR EACH ROW WHEN (OLD.session_id = '$1') EXECUTE FUNCTION fails(); COMMIT`,
			`DROP FUNCTION fails CASCADE; COMMIT`, 5 * time.Second,
		},
	} {
		t.Run("postgres/"+c.name, func(t *testing.T) {
			url := storetest.Postgres(t)
			n := newNode(t, "DATABASE_URL="+url, "LOG_LEVEL=error").start()
			victim := n.person("victim@example.com")
			others := make([]string, 16)
			for i := range others {
				others[i] = n.person(fmt.Sprintf("p%d@example.com", i)).Field("refresh_token")
			}
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			run := func(statements string) {
				t.Helper()
				if _, err := conn.PgConn().Exec(t.Context(), strings.ReplaceAll(statements, "$1", victim.Field("session_id"))).ReadAll(); err != nil {
					t.Fatal(err)
				}
			}
			alone := n.besides(others, 2*time.Second)
			run("BEGIN; " + c.begin)
			held := &provetest.Holder{
				HTTP: http.DefaultClient, Node: func() string { return n.URL }, Timeout: 10 * time.Second, Patience: 4 * time.Minute,
				Pause: 25 * time.Millisecond, Agent: "a device whose row is of no use", Token: victim.Field("refresh_token"),
			}
			done := make(chan error, 1)
			go func() { done <- held.Refresh(t.Context()) }()
			if beside := n.besides(others, min(c.least, time.Duration(provetest.Effort(t))*5*time.Second)); beside < alone/4 {
				t.Errorf("the others had %.0f answers a second, and %.0f without this row; want a quarter of that at least", beside, alone)
			}
			run(c.end)
			// It heard 503 with Retry-After all the while, which a holder wants of trouble.
			if err := <-done; err != nil || held.Repeats == 0 || !strings.Contains(held.Last, "503") {
				t.Errorf("the victim: %v after %d attempts without an answer, the last: %s", err, held.Repeats, held.Last)
			}
			audit(t, n)
		})
	}
}

// Dangerous and ambiguous starts are refused with what was seen, what was
// expected and what to change.
func TestServe_refusesDangerousStarts(t *testing.T) {
	refused := func(t *testing.T, n *node, code int, words ...string) {
		t.Helper()
		n.launch()
		if got := n.wait(20 * time.Second); got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
		log := n.log.String()
		for _, w := range append(words, "error: ") {
			if !strings.Contains(log, w) {
				t.Errorf("the message does not say %q:\n%s", w, log)
			}
		}
	}
	t.Run("sqlite/settings", func(t *testing.T) {
		refused(t, newNode(t, "ISSUER=http://auth.example.com"), 78, "AUTHSERVER_ISSUER", "http://auth.example.com", "https://auth.example.com")
		refused(t, newNode(t, "ACCESS_TTL=ten"), 78, "access-ttl", "ten")
		refused(t, newNode(t, "KEY_LEAD=1m"), 78, "AUTHSERVER_KEY_LEAD", "AUTHSERVER_JWKS_MAX_AGE", "20m0s")
	})
	t.Run("sqlite/second server", func(t *testing.T) {
		first := newNode(t).start()
		second := newNode(t, "DATA_DIR="+first.Dir)
		refused(t, second, 5, "authserver.db")
		first.kill() // leaves the lock file, and no lock
		second.start()
	})
	t.Run("sqlite/settings that never work", func(t *testing.T) {
		refused(t, newNode(t, "DATABASE_URL=postgres://["), 78, "database URL")
		refused(t, newNode(t, "PASSWORD_MEMORY=300000"), 78, "AUTHSERVER_PASSWORD_MEMORY", "262144")
		refused(t, newNode(t, "MASTER_KEY_FILE=/dev/null"), 78, "AUTHSERVER_MASTER_KEY_FILE", "empty")
		refused(t, newNode(t, "DATA_DIR=/dev/null/data"), 78, "/dev/null")
		n := newNode(t)
		if _, errs, code := n.cli(`{"email":"x@example.com"}`, "users", "import", "--dry-run"); code != 3 {
			t.Errorf("a dry run where nothing is: exit code %d, want 3\n%s", code, errs)
		}
		if left, err := os.ReadDir(n.Dir); err != nil || len(left) > 0 {
			t.Errorf("it left %v, %v", left, err)
		}
	})
	t.Run("sqlite/port in use", func(t *testing.T) {
		first := newNode(t).start()
		refused(t, newNode(t, "ADDR="+strings.TrimPrefix(first.URL, "http://")), 5, "AUTHSERVER_ADDR")
	})
	engines(t, func(t *testing.T, settings []string) {
		t.Run("issuer", func(t *testing.T) {
			n := newNode(t, append(settings, "ISSUER=https://one.example.com")...).start()
			token := n.person("ada@example.com").Field("refresh_token")
			n.terminate()
			n.env = append(n.env, "AUTHSERVER_ISSUER=https://two.example.com")
			refused(t, n, 78, "https://one.example.com", "https://two.example.com", "set-issuer")
			n.mustCLI("", "config", "set-issuer", "https://two.example.com", "--yes")
			n.start()
			// A session goes on, with tokens that are good under the new name.
			access := n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": token}).Field("access_token")
			n.must(200, "GET", "/v1/me", nil, "Authorization", "Bearer "+access)
		})
	})
	engines(t, func(t *testing.T, settings []string) {
		t.Run("master key", func(t *testing.T) {
			n := newNode(t, append(settings, "MASTER_KEY="+masterKey)...).start()
			token := n.person("ada@example.com").Field("refresh_token")
			n.terminate()
			const other = "OTg3NjU0MzIxMGFiY2RlZjk4NzY1NDMyMTBhYmNkZWY="
			n.env = append(n.env, "AUTHSERVER_MASTER_KEY="+other)
			refused(t, n, 78, "AUTHSERVER_MASTER_KEY")
			// Both keys, rewrap, and then the new one alone.
			n.env = append(n.env, "AUTHSERVER_MASTER_KEY_FORMER="+masterKey)
			n.start()
			n.mustCLI("", "keys", "rewrap")
			n.terminate()
			n.env = append(n.env, "AUTHSERVER_MASTER_KEY_FORMER=")
			n.start()
			n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": token})
		})
	})
	t.Run("postgres/schema", func(t *testing.T) {
		url := storetest.Postgres(t)
		n := newNode(t, "DATABASE_URL="+url).start()
		n.terminate()
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), `UPDATE schema_info SET compatible_from = 9999`); err != nil {
			t.Fatal(err)
		}
		refused(t, n, 5, "9999")
	})
}

// What was handed out is found nowhere: not in the database, not in the log,
// not in the metrics.
func TestSecrets_areFoundNowhere(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		url := storetest.Postgres(t)
		n := newNode(t, "DATABASE_URL="+url, "LOG_LEVEL=debug").start()
		first := n.person("ada@example.com")
		second := n.must(200, "POST", "/v1/refresh", map[string]string{"refresh_token": first.Field("refresh_token")}, "Idempotency-Key", "a-retry-key-of-mine")
		n.must(401, "POST", "/v1/login", map[string]string{"email": "ada@example.com", "password": "a wrong password indeed"})
		n.must(401, "GET", "/v1/me?access_token=query-token-here", nil)
		metrics, err := call("GET", n.Ops+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		dump, err := exec.Command(filepath.Join(os.Getenv("AUTHSERVER_TEST_POSTGRES_BIN"), "pg_dump"), "--inserts", url).Output()
		if err != nil {
			t.Fatalf("pg_dump: %v", err)
		}
		if !strings.Contains(string(dump), "ada@example.com") {
			t.Fatal("the dump is not of this database")
		}
		for place, text := range map[string]string{"database": string(dump), "log": n.log.String(), "metrics": string(metrics.Body)} {
			for _, a := range []answer{first, second} {
				for _, name := range []string{"access_token", "refresh_token"} {
					whole := a.Field(name)
					signature := whole[len(whole)-22:] // the MAC, or a good part of the signature
					if strings.Contains(text, whole) || strings.Contains(text, signature) {
						t.Errorf("%s of an answer is in the %s", name, place)
					}
				}
			}
			for _, s := range []string{goodPassword, "a wrong password indeed", "a-retry-key-of-mine", "query-token-here"} {
				if strings.Contains(text, s) {
					t.Errorf("%q is in the %s", s, place)
				}
			}
		}
		for line := range strings.Lines(n.log.String()) {
			if !strings.HasPrefix(line, "{") {
				continue
			}
			var event map[string]any
			if err := json.Unmarshal([]byte(line), &event); err != nil || event["time"] == nil || event["level"] == nil || event["msg"] == nil {
				t.Errorf("not a log event: %v: %s", err, line)
			}
		}
	})
}

// Ten thousand wrong passwords from a hundred networks (on PostgreSQL some hundred from
// twenty: each that is verified costs a hash), and the owner logs in at once: from a known
// network, and from elsewhere with a living token.
func TestLogin_outsidersCannotLockTheOwnerOut(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, settings []string) {
		networks, tries := 20, 15 // of each of them
		if sqlite := len(settings) == 0; sqlite {
			networks, tries = storetest.Times(20, 100), storetest.Times(15, 100)
		}
		n := newNode(t, append(settings, "TRUSTED_PROXIES=127.0.0.0/8", "LOG_LEVEL=error")...).start()
		from := func(ip string) []string { return []string{"X-Forwarded-For", ip} }
		n.must(201, "POST", "/v1/users", map[string]string{"email": "ada@example.com", "password": goodPassword}, from("198.51.100.1")...)
		good := map[string]string{"email": "ada@example.com", "password": goodPassword}
		home := n.must(200, "POST", "/v1/login", good, from("198.51.100.1")...)

		var mu sync.Mutex
		statuses := map[int]int{}
		begun := time.Now()
		var all sync.WaitGroup
		for network := range networks {
			all.Go(func() {
				for range tries {
					a, err := call("POST", n.URL+"/v1/login", map[string]string{"email": "ada@example.com", "password": "a wrong password"},
						"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", network))
					if err != nil {
						t.Error(err)
						return
					}
					for a.Status == http.StatusServiceUnavailable { // the hash queue: ask again
						time.Sleep(50 * time.Millisecond)
						if a, err = call("POST", n.URL+"/v1/login", map[string]string{"email": "ada@example.com", "password": "a wrong password"},
							"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", network)); err != nil {
							t.Error(err)
							return
						}
					}
					mu.Lock()
					statuses[a.Status]++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if statuses[401] == 0 || statuses[429] == 0 || len(statuses) != 2 {
			t.Errorf("the guesses: %v; want 401 and 429", statuses)
		}
		// Ten free guesses of each network, and one after every wait: 1 s, then 2 s, then 4 s.
		most := 10
		for wait := time.Second; time.Since(begun) >= wait; wait = 2*wait + time.Second {
			most++
		}
		if verified := statuses[401]; verified > networks*most {
			t.Errorf("%d guesses were verified, want %d of each of %d networks at most", verified, most, networks)
		}
		n.must(200, "POST", "/v1/login", good, from("198.51.100.1")...)
		n.must(200, "POST", "/v1/login", good, append(from("203.0.113.7"), bearer(home)...)...)
		t.Logf("%d guesses: %v", networks*tries, statuses)
	})
}
