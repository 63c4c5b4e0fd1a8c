package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/pgcluster"
	"example.com/authserver/test/prove/faultproxy"
	"example.com/authserver/test/prove/provetest"
	"example.com/authserver/test/rig"
)

// Nodes are killed and stopped at random, and come back; nobody is logged out.
func TestKills_nodesAtRandom(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		dice := provetest.Dice(provetest.Seed(t), 0)
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		c := newCrowd(t, nodes, 8)
		c.start()
		rounds := 2 * provetest.Effort(t)
		for range rounds {
			c.refreshed(uint64(20 + dice.IntN(100)))
			n := nodes[dice.IntN(len(nodes))]
			n.kill()
			c.refreshed(20)
			n.start()
			n = nodes[dice.IntN(len(nodes))]
			n.pause(time.Duration(200+dice.IntN(800)) * time.Millisecond)
		}
		c.settle(trouble)
		provetest.Figure(t, "kills of a node", rounds)
		provetest.Figure(t, "stops of a node", rounds)
		audit(t, nodes[0])
	})
	t.Run("sqlite", func(t *testing.T) {
		dice := provetest.Dice(provetest.Seed(t), 1)
		n := newNode(t, "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 8)
		c.start()
		rounds := 2 * provetest.Effort(t)
		for range rounds {
			c.refreshed(uint64(20 + dice.IntN(200)))
			n.kill()
			n.start()
			n.pause(time.Duration(200+dice.IntN(800)) * time.Millisecond)
		}
		c.settle(trouble)
		provetest.Figure(t, "kills of a node", rounds)
		provetest.Figure(t, "stops of a node", rounds)
		audit(t, n)
	})
}

// A node that is stopped for longer than its clients wait wakes with their requests in
// its hands, which others have answered by then.
func TestKills_aStoppedNodeWakesAfterItsClientsLeft(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		dice := provetest.Dice(provetest.Seed(t), 3)
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		c := newCrowd(t, nodes, 8)
		c.impatient(time.Second)
		c.start()
		rounds := 2 * provetest.Effort(t)
		for range rounds {
			c.refreshed(uint64(20 + dice.IntN(100)))
			nodes[dice.IntN(len(nodes))].pause(time.Duration(2000+dice.IntN(1500)) * time.Millisecond)
		}
		c.settle(trouble)
		provetest.Figure(t, "stops of a node, longer than its clients wait", rounds)
		audit(t, nodes[0])
	})
}

// A proxy that does not pass on that a client hung up keeps the connection to a node that
// has stopped; the client is answered by another node meanwhile, twice.
func TestKills_aStoppedNodeWakesWithARequestThatSomebodyWaitsFor(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		settings := []string{"DATABASE_URL=" + storetest.Postgres(t), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		stopped, other := newNode(t, settings...).start(), newNode(t, settings...).start()
		token := stopped.person("patient@example.com").Field("refresh_token")
		client := &http.Client{Timeout: time.Minute}
		present := func(n *node, token string) rig.Answer {
			a, err := rig.Ask(t.Context(), client, "POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token})
			if err != nil {
				t.Error(err)
			}
			return a
		}
		old := token
		first := present(stopped, old) // so that the connection stands
		old = first.Field("refresh_token")
		stopped.stand()
		waited := make(chan rig.Answer)
		go func() { waited <- present(stopped, old) }()
		<-time.After(500 * time.Millisecond)
		head := old
		for range 2 {
			a := present(other, head)
			if a.Status != http.StatusOK {
				t.Fatal(a)
			}
			head = a.Field("refresh_token")
		}
		<-time.After(2 * time.Second)
		stopped.cmd.Process.Signal(syscall.SIGCONT)
		if a := <-waited; a.Status != http.StatusServiceUnavailable {
			t.Errorf("the request that lay in the node: %s; want 503", a)
		}
		if a := present(stopped, head); a.Status != http.StatusOK {
			t.Errorf("the head afterwards: %s; want 200", a)
		}
		// Once it runs again an old token is one.
		<-time.After(3 * time.Second)
		if a := stopped.refreshWith(http.StatusUnauthorized, old); !a.Is(http.StatusUnauthorized, "refresh_reused") {
			t.Errorf("an old token later on: %s; want refresh_reused", a)
		}
		provetest.Figure(t, "stops of a node, longer than its clients wait", 1)
		audit(t, stopped)
	})
}

// All nodes are away for longer than the retry window, and the last answer before was
// lost. The client comes back when they do, without a key. Where another node has run
// all the time it is late.
func TestKills_theTimeInWhichNoNodeRunsDoesNotCount(t *testing.T) {
	for _, c := range []struct {
		name, present string
		status        int
	}{
		{"postgres/nobody was there", "now() - interval '60 seconds'", http.StatusOK},
		{"postgres/another node was", "now() + interval '20 seconds'", http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			database := storetest.Postgres(t)
			n := newNode(t, "DATABASE_URL="+database, "MASTER_KEY="+masterKey, "LOG_LEVEL=error").start()
			token := n.person("away@example.com").Field("refresh_token")
			lost := n.refresh(token)
			n.kill()
			conn, err := pgx.Connect(t.Context(), database)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			for _, statement := range []string{
				`UPDATE families SET head_born = head_born - interval '100 seconds', used_at = used_at - interval '100 seconds',
					born_at = born_at - interval '100 seconds', auth_time = auth_time - interval '100 seconds'`,
				`INSERT INTO leases (name, holder, until) VALUES ('presence', 'a node', ` + c.present + `)
					ON CONFLICT (name) DO UPDATE SET until = excluded.until`,
			} {
				if _, err := conn.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			n.start()
			a := n.refreshWith(c.status, token)
			if a.Status == http.StatusOK && a.Field("refresh_token") != lost.Field("refresh_token") {
				t.Errorf("the retry, 100 s after its answer was lost: %s; want the same answer", a)
			}
			audit(t, n)
		})
	}
}

// stand stops the process and returns when all of it has stopped.
func (n *node) stand() {
	n.cmd.Process.Signal(syscall.SIGSTOP)
	until(n.t, "the process to stop", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.cmd.Process.Pid))
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			if _, state, _ := strings.Cut(string(text), ") "); err == nil && !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
}

// pause stops the process for a while: it holds its connections and answers
// nothing.
func (n *node) pause(d time.Duration) {
	n.stand()
	<-time.After(d)
	n.cmd.Process.Signal(syscall.SIGCONT)
}

// A node is killed at each point that matters of a refresh and of a logout:
// the proxy before its database holds the message while the node dies.
func TestKills_atNamedPoints(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		database := storetest.Postgres(t)
		proxy := faultproxy.New(t, database)
		n := newNode(t, "DATABASE_URL="+proxy.URL, "MASTER_KEY="+masterKey, "LOG_LEVEL=error").start()
		const batch = "refresh.rotate_batch"
		at := func(d faultproxy.Direction, kind byte) func(faultproxy.Message) bool {
			return func(m faultproxy.Message) bool { return m.Direction == d && m.Kind == kind && m.Label == batch }
		}
		for _, point := range []struct {
			name   string
			fits   func(faultproxy.Message) bool
			logout bool
		}{
			{name: "before the statement is sent", fits: at(faultproxy.ToServer, 'B')},
			{name: "before the commit of a batch is sent", fits: at(faultproxy.ToServer, 'S')},
			{name: "after the statement of a batch, before its rows come back", fits: at(faultproxy.ToClient, '2')},
			{name: "after the commit of a batch, before the end of its answer", fits: at(faultproxy.ToClient, 'Z')},
			{name: "before a COMMIT is sent", fits: faultproxy.Message.Commits, logout: true},
			{name: "after a COMMIT, before its answer", fits: faultproxy.Message.Committed, logout: true},
		} {
			clients := newCrowd(t, []*node{n}, 4).holders // of every kind
			if point.logout {
				clients = clients[:1]
			}
			for _, h := range clients {
				if err := h.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				release, met := make(chan struct{}), make(chan struct{})
				held := false
				proxy.Arm(func(m faultproxy.Message) faultproxy.Act {
					if held || !point.fits(m) {
						return faultproxy.Act{}
					}
					held = true
					close(met)
					return faultproxy.Hold(release)
				})
				done := make(chan error, 1)
				if point.logout {
					go func() { done <- n.logOut(t.Context(), h.Token) }()
				} else {
					go func() { done <- h.Refresh(t.Context()) }()
				}
				select {
				case <-met:
				case <-time.After(time.Minute):
					t.Fatalf("%s: no such message", point.name)
				}
				n.kill()
				close(release)
				proxy.Arm(nil)
				n.start()
				if err := <-done; err != nil {
					t.Errorf("killed %s: %v", point.name, err)
				}
				switch err := h.Refresh(t.Context()); {
				case !point.logout && err != nil:
					t.Errorf("killed %s, and then: %v", point.name, err)
				case point.logout && (err == nil || !strings.Contains(err.Error(), "refresh_revoked")):
					t.Errorf("killed %s; a refresh after the answer to logout: %v; want refresh_revoked", point.name, err)
				}
				provetest.Figure(t, "kills of a node at a named point", 1)
			}
		}
		audit(t, n)
	})
}

// A node on SQLite is killed by the kernel at the system call that matters: before a commit
// is written to the log, before that reaches the disk, and before the answer goes out.
func TestKills_atNamedPointsOfSQLite(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		if _, err := exec.LookPath("strace"); err != nil {
			t.Skip("this test needs strace; scripts/ensure strace installs it")
		}
		dice := provetest.Dice(provetest.Seed(t), 4)
		n := newNode(t, "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 8)
		c.start()
		points := []struct{ name, call string }{
			{"before a write to the log", "pwrite64"},
			{"before the log is on disk", "fdatasync,fsync"},
			{"before something is written to a socket, an answer perhaps", "write"},
		}
		for range provetest.Effort(t) {
			for _, point := range points {
				c.refreshed(uint64(10 + dice.IntN(50)))
				nth := 1 + dice.IntN(10) // such call of one thread
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				killer := exec.CommandContext(ctx, "strace", "-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(n.cmd.Process.Pid),
					"-e", "trace="+point.call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", point.call, nth))
				out, err := killer.CombinedOutput() // it ends with whom it watches
				cancel()
				if strings.Contains(string(out), "Operation not permitted") {
					t.Skipf("this test needs to watch system calls: %s", out)
				}
				select {
				case <-n.exited:
				case <-time.After(10 * time.Second):
					t.Fatalf("%s: strace did not kill the node: %v\n%s", point.name, err, out)
				}
				n.start()
				provetest.Figure(t, "kills of a node at a named point", 1)
			}
		}
		c.settle(trouble)
		audit(t, n)
	})
}

// Nothing of reuse detection is in memory: an old token is known when every node was killed
// since it was used, and its family stays ended when they are killed once more.
func TestKills_everyNodeBetweenTwoUsesOfAToken(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		nodes := []*node{newNode(t, settings...).start()}
		if len(settings) > 0 { // a database that nodes share
			nodes = append(nodes, newNode(t, settings...).start())
		}
		turn := 0
		present := func(token string) answer {
			turn++
			return nodes[turn%len(nodes)].refresh(token)
		}
		killAll := func() {
			for _, n := range nodes {
				n.kill()
			}
			for _, n := range nodes {
				n.start()
			}
		}
		tokens := []string{nodes[0].person("ada@example.com").Field("refresh_token")}
		for range 3 {
			a := present(tokens[len(tokens)-1])
			if a.Status != http.StatusOK {
				t.Fatalf("a refresh: %s", a)
			}
			tokens = append(tokens, a.Field("refresh_token"))
			killAll()
		}
		if a := present(tokens[0]); !a.Is(http.StatusUnauthorized, "refresh_reused") {
			t.Errorf("an old token after all nodes were killed: %s; want 401 refresh_reused", a)
		}
		killAll()
		for i, token := range tokens {
			if a := present(token); !a.Is(http.StatusUnauthorized, "refresh_revoked") {
				t.Errorf("generation %d of the ended family, after they were killed again: %s; want 401 refresh_revoked", i+1, a)
			}
		}
		audit(t, nodes[0])
	})
}

// A disk that fails under SQLite: a write or a sync ends with an I/O error, and the server is
// killed some time later. It says so, nobody is answered by what was not written, and
// everybody goes on. What was written and not synced outlives a kill: that nobody is answered
// by that either shows where every sync fails.
func TestKills_afterTheDiskOfSQLiteFailed(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		if _, err := exec.LookPath("strace"); err != nil {
			t.Skip("this test needs strace; scripts/ensure strace installs it")
		}
		const writes, syncs = "pwrite64", "fdatasync,fsync"
		dice := provetest.Dice(provetest.Seed(t), 6)
		n := newNode(t, "LOG_LEVEL=warn").start()
		c := newCrowd(t, []*node{n}, 8)
		c.start()
		for range provetest.Effort(t) {
			for _, calls := range []string{writes, syncs} {
				c.refreshed(uint64(10 + dice.IntN(50)))
				over := n.failing(calls, fmt.Sprintf("when=%d", 1+dice.IntN(10)))
				until(t, "the server to tell of the error of "+calls, func() bool { return strings.Contains(n.log.String(), "I/O error") })
				<-time.After(time.Duration(dice.IntN(1000)) * time.Millisecond)
				over()
				n.kill()
				n.start()
				provetest.Figure(t, "I/O errors under SQLite", 1)
			}
		}
		c.refreshed(50)
		over := n.failing(syncs, "when=1+")
		<-time.After(time.Second) // what was synced before is answered
		before := c.answers.Load()
		<-time.After(2 * time.Second)
		if told := c.answers.Load() - before; told > 0 {
			t.Errorf("%d refreshes were answered while no sync succeeded", told)
		}
		over()
		c.refreshed(50)
		c.settle(trouble)
		audit(t, n)
	})
}

// failing has system calls of the node end with an I/O error, those that strace's expression
// chooses, and returns after the first. It ends with the call of over.
func (n *node) failing(calls, which string) (over func()) {
	n.t.Helper()
	log := filepath.Join(n.t.TempDir(), "calls")
	tracer := exec.CommandContext(n.t.Context(), "strace", "-f", "-qq", "-o", log, "-p", strconv.Itoa(n.cmd.Process.Pid),
		"-e", "trace="+calls, "-e", fmt.Sprintf("inject=%s:error=EIO:%s", calls, which))
	said := &rig.Journal{}
	tracer.Stderr = said
	if err := tracer.Start(); err != nil {
		n.t.Fatal(err)
	}
	forbidden := func() bool { return strings.Contains(said.String(), "Operation not permitted") }
	until(n.t, "an injected error of "+calls, func() bool {
		text, _ := os.ReadFile(log)
		return strings.Contains(string(text), "INJECTED") || forbidden()
	})
	if forbidden() {
		_ = tracer.Wait()
		n.t.Skipf("this test needs to watch system calls: %s", said)
	}
	return func() {
		if err := tracer.Process.Signal(syscall.SIGINT); err != nil {
			n.t.Fatal(err)
		}
		_ = tracer.Wait() // it ends by that signal
	}
}

// One process of PostgreSQL stands still, and holds what it holds: no connection is lost,
// and nobody is told anything.
func TestKills_aBackendThatStandsStill(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		pg := pgcluster.New(t)
		settings := []string{"DATABASE_URL=" + pg.URL(), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		c := newCrowd(t, nodes, 8)
		c.start()
		conn, err := pgx.Connect(t.Context(), pg.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		rounds := provetest.Effort(t)
		for round := range rounds {
			c.refreshed(60)
			var pid int
			if err := conn.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
				AND query LIKE '%rotate_batch%' ORDER BY state = 'active' DESC, random() LIMIT 1`).Scan(&pid); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped := 4 * time.Second
			if rounds > 1 && round == rounds/2 {
				stopped = 40 * time.Second // longer than a node waits
			}
			<-time.After(stopped)
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			provetest.Figure(t, "stops of a process of Postgres", 1)
		}
		c.refreshed(60)
		c.settle(whatever)
		audit(t, nodes[0])
	})
}

// logOut tries until it has an answer.
func (n *node) logOut(ctx context.Context, token string) error {
	for {
		a, err := call("POST", n.URL+"/v1/logout", map[string]string{"refresh_token": token})
		switch {
		case err == nil && a.Status == 204:
			return nil
		case err == nil && a.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("logout: %s", a)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		<-time.After(20 * time.Millisecond)
	}
}

// PostgreSQL is killed outright, all its processes are stopped for a while, and
// it comes back; what it acknowledged, with fsync on, is there.
func TestKills_postgresIsKilledAndComesBack(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		dice := provetest.Dice(provetest.Seed(t), 2)
		pg := pgcluster.New(t)
		settings := []string{"DATABASE_URL=" + pg.URL(), "MASTER_KEY=" + masterKey, "DATABASE_CONNS=12", "LOG_LEVEL=error"}
		nodes := []*node{newNode(t, settings...).start(), newNode(t, settings...).start()}
		c := newCrowd(t, nodes, 8)
		c.start()
		rounds := provetest.Effort(t)
		for round := range rounds {
			c.refreshed(uint64(20 + dice.IntN(100)))
			pg.Signal(syscall.SIGSTOP)
			stopped := time.Duration(200+dice.IntN(1500)) * time.Millisecond
			if rounds > 1 && round == rounds/2 { // longer than a node waits
				stopped = 20 * time.Second
			}
			<-time.After(stopped)
			pg.Signal(syscall.SIGCONT)
			c.refreshed(uint64(20 + dice.IntN(100)))
			pg.Signal(syscall.SIGKILL)
			pg.StartAgain()
			for _, n := range nodes {
				n.awaitReady(time.Minute)
			}
		}
		c.settle(trouble)
		provetest.Figure(t, "kills of PostgreSQL", rounds)
		provetest.Figure(t, "stops of PostgreSQL", rounds)
		audit(t, nodes[0])
	})
}
