package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/pgcluster"
	"example.com/authserver/test/prove/provetest"
)

// smallDisk mounts a file system of so many MiB at dir, for the length of the
// test. Only root can; CI is root.
func smallDisk(t testing.TB, dir string, mib string) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test mounts a small disk and needs root")
		}
		t.Skip("this test mounts a small disk and needs root")
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "mode=0700,size="+mib+"m"); err != nil {
		t.Fatalf("mount a small disk at %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// fill takes what is left of the disk; the file it returns gives it back.
func fill(t testing.TB, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := 1 << 20; chunk > 0; chunk /= 2 { // to the last page
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, chunk))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill %s: %v", dir, err)
		}
	}
	return filler
}

// A full disk under the WAL of PostgreSQL makes it panic; the nodes say 503, and
// when there is room again everybody goes on.
func TestExhaustion_aFullDiskUnderPostgres(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		storetest.Postgres(t) // before anything is mounted: skips where there is none
		pg := pgcluster.NewWith(t, pgcluster.Options{
			Prepare: func(dir string) { smallDisk(t, dir, "256") }, InitDB: []string{"--wal-segsize=1"},
		})
		n := newNode(t, "DATABASE_URL="+pg.URL(), "DATABASE_CONNS=12", "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 6)
		c.start()
		c.refreshed(30)
		filler := fill(t, pg.Dir)
		conn, err := pgx.Connect(t.Context(), pg.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for err = nil; err == nil; { // the segments that are there already
			_, err = conn.Exec(t.Context(), `SELECT pg_switch_wal(), pg_logical_emit_message(true, 'fill', repeat('x', 100000))`)
		}
		t.Logf("the disk is full: %v", err)
		n.felt(c)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		pg.StartAgain()
		n.awaitReady(time.Minute)
		c.settle(trouble)
		provetest.Figure(t, "disks filled", 1)
		audit(t, n)
	})
}

// felt waits until the crowd has had answers that were none.
func (n *node) felt(c *crowd) {
	n.t.Helper()
	token := c.first // of any generation: what counts is whether there is an answer
	until(n.t, "the server to be in trouble", func() bool {
		a, err := call("POST", n.URL+"/v1/users", map[string]string{"email": rand.Text() + "@example.com", "password": goodPassword})
		return err != nil || a.Status == http.StatusServiceUnavailable
	})
	if a, err := call("POST", n.URL+"/v1/logout", map[string]string{"refresh_token": token[:len(token)-1]}); err == nil && a.Status != 204 && a.Status != 503 {
		n.t.Errorf("logout with a mangled token meanwhile: %s; want 204 or 503", a)
	}
}

// A full disk under SQLite is trouble until there is room again, without a
// restart.
func TestExhaustion_aFullDiskUnderSQLite(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		n := newNode(t, "LOG_LEVEL=error")
		smallDisk(t, n.Dir, "32")
		n.start()
		c := newCrowd(t, []*node{n}, 6)
		filler := fill(t, n.Dir)
		c.start()
		n.felt(c)
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		c.refreshed(50)
		c.settle(trouble)
		provetest.Figure(t, "disks filled", 1)
		audit(t, n)
		if code := n.terminate(); code != 0 { // before the disk goes
			t.Errorf("exit code %d", code)
		}
	})
}

// All ordinary connections of a node wait for rows that somebody holds locked;
// refreshes have connections of their own.
func TestExhaustion_everyConnectionWaitsForALock(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		url := storetest.Postgres(t)
		n := newNode(t, "DATABASE_URL="+url, "DATABASE_CONNS=8", "LOG_LEVEL=error").start()
		c := newCrowd(t, []*node{n}, 6)
		const victims = 12 // thrice the ordinary connections
		tokens := make([]string, victims)
		for i := range tokens {
			tokens[i] = n.person(rand.Text() + "@victim.example").Field("refresh_token")
		}
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), `SELECT id FROM users WHERE email LIKE '%@victim.example' FOR UPDATE`); err != nil {
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, token := range tokens {
			waiting.Go(func() {
				if err := n.logOut(ctx, token); err != nil {
					t.Errorf("a logout that had to wait: %v", err)
				}
			})
		}
		watcher, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close(context.Background())
		until(t, "the connections to wait for locks", func() bool {
			var stuck int
			if err := watcher.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&stuck); err != nil {
				t.Fatal(err)
			}
			return stuck >= 4
		})
		c.start()
		c.refreshed(100)
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		waiting.Wait()
		c.settle(nothing)
		provetest.Figure(t, "pools exhausted", 1)
		audit(t, n)
	})
}

// Hundreds of clients that never finish their request, hundreds that open a
// connection for each one, and thousands that keep theirs open and ask for nothing
// more, take nothing away from the others.
func TestExhaustion_slowClientsAndConnectionStorms(t *testing.T) {
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, append(settings, "LOG_LEVEL=error")...).start()
		c := newCrowd(t, []*node{n}, 6)
		c.start()
		address := strings.TrimPrefix(n.URL, "http://")
		const slow, storm = 200, 300
		resting := rest(t, address)
		over := make(chan struct{})
		var crawling sync.WaitGroup
		for range slow {
			crawl, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			crawling.Go(func() {
				defer crawl.Close()
				request := "POST /v1/refresh HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
				for {
					for i := range request {
						if _, err := io.WriteString(crawl, request[i:i+1]); err != nil {
							return // the server has lost patience
						}
						select {
						case <-over:
							return
						case <-time.After(100 * time.Millisecond):
						}
					}
				}
			})
		}
		token := n.person(rand.Text() + "@example.com").Field("refresh_token")
		var bad atomic.Int32
		var storming sync.WaitGroup
		for range storm {
			storming.Go(func() {
				once := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
				a, err := provetest.Send(t.Context(), once, "POST", n.URL+"/v1/refresh", map[string]string{"refresh_token": token})
				if err != nil || a.Status != http.StatusOK {
					bad.Add(1)
					t.Logf("in the storm: %v %s", err, a)
				}
			})
		}
		storming.Wait()
		c.refreshed(50)
		for _, conn := range resting {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("an idle connection: %v %v", answer, err)
				break
			}
			conn.Close()
		}
		close(over)
		crawling.Wait()
		if n := bad.Load(); n > 0 {
			t.Errorf("%d of %d were not answered with 200", n, storm)
		}
		c.settle(whatever)
		provetest.Figure(t, "slow clients", slow)
		provetest.Figure(t, "connections of storms", storm)
		provetest.Figure(t, "idle connections", len(resting))
		audit(t, n)
	})
}

// rest opens ten thousand connections, or as many as there are file descriptors for, that
// ask for the key set once.
func rest(t *testing.T, address string) (resting []net.Conn) {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	most := 10_000
	if files.Max < 12_000 {
		most = int(files.Max) - 2000
	}
	if most < 1000 {
		t.Fatalf("this test needs 3000 file descriptors, and the limit is %d", files.Max)
	}
	for range most {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			_, err = io.WriteString(conn, "GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		resting = append(resting, conn)
	}
	return resting
}

// No file descriptor is left, because somebody holds idle connections: nothing new can be
// opened, no connection and no file of the database. Whoever is connected goes on or is
// told to try again, and when they are free again everybody is there.
func TestExhaustion_noFileDescriptorIsLeft(t *testing.T) {
	if _, err := exec.LookPath("prlimit"); err != nil {
		t.Skip("this test needs prlimit")
	}
	engines(t, func(t *testing.T, settings []string) {
		n := newNode(t, append(settings, "LOG_LEVEL=error")...).start()
		c := newCrowd(t, []*node{n}, 6)
		c.start()
		c.refreshed(50)
		limit := func(files int) {
			t.Helper()
			out, err := exec.CommandContext(t.Context(), "prlimit", "--pid", strconv.Itoa(n.cmd.Process.Pid), fmt.Sprintf("--nofile=%d:4096", files)).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		open := func() int {
			files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			return len(files)
		}
		most := open() + 10
		limit(most)
		var idle []net.Conn
		for range 100 { // the kernel takes them, whether or not the server does
			conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			idle = append(idle, conn)
		}
		until(t, "the last file descriptor to be taken", func() bool { return open() >= most })
		c.http.CloseIdleConnections() // some have to come anew
		<-time.After(3 * time.Second)
		until(t, "the file descriptors to be taken still", func() bool { return open() >= most })
		for _, conn := range idle {
			conn.Close()
		}
		limit(4096)
		c.refreshed(50)
		c.settle(whatever)
		provetest.Figure(t, "times without a file descriptor", 1)
		audit(t, n)
	})
}
