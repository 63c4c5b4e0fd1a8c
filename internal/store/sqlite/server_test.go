package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
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

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/migrations"
)

func file(t testing.TB) string { return filepath.Join(t.TempDir(), "data", "authserver.db") }

func newUser(t testing.TB, name string) account.NewUser {
	t.Helper()
	email, err := account.ParseEmail(name + "@example.com")
	if err != nil {
		t.Fatal(err)
	}
	return account.NewUser{ID: id.NewUser(), Email: email, Hash: "$h", Scheme: "s", Actor: "operator:test"}
}

// families makes n users with a session and a family each.
func families(t testing.TB, db *sqlite.DB, n int) []refresh.Family {
	t.Helper()
	var all []refresh.Family
	for i := range n {
		u, err := db.Accounts().Create(t.Context(), newUser(t, "user"+strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		s := id.NewSession()
		f, err := db.Logins().Open(t.Context(), login.Opening{
			Session: s, Kind: session.Browser, AbsoluteTTL: 24 * time.Hour, CredentialVersion: u.CredentialVersion, Actor: "user",
			Family: refresh.Family{
				ID: id.NewFamily(u.ID), Session: s, User: u.ID, Client: "first-party", Scope: "openid",
				Audience: []string{"https://auth.example.com"}, AMR: []string{"pwd"}, Transport: refresh.InBody, Rotates: true,
				IdleTTL: time.Hour, UserAgent: agent, IP: "203.0.113.7", Generation: 1, HeadKey: 1,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"

func call(f refresh.Family, generation int32) refresh.Call {
	return refresh.Call{
		Policy: refresh.Policy{IdleTTL: time.Hour, RetryWindow: time.Minute},
		Attempt: refresh.Attempt{
			Family: f.ID, Generation: generation, Key: 1, NewKey: 1, SecretHash: f.SecretHash, Client: f.Client, Transport: f.Transport,
			RetryKey: refresh.RetryKey{1, byte(generation)}, UserAgent: agent, IP: "203.0.113.7", RequestID: "r",
		},
	}
}

func TestOpen_refusesASecondServerAndNamesTheFirst(t *testing.T) {
	path := file(t)
	first := open(t, sqlite.Options{Path: path, Server: true})
	link := filepath.Join(t.TempDir(), "other-name.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		second, err := sqlite.Open(t.Context(), sqlite.Options{Path: name, Server: true})
		if !errors.Is(err, store.ErrInUse) {
			t.Fatalf("a second server on %s: %v, %v; want ErrInUse", name, second, err)
		}
		if want := "by process " + strconv.Itoa(os.Getpid()); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path+".lock") {
			t.Errorf("it says %q; want the lock file and %q", err, want)
		}
	}
	beside := open(t, sqlite.Options{Path: path})
	if _, err := beside.Accounts().Create(t.Context(), newUser(t, "ada")); err != nil {
		t.Errorf("the command line beside the server: %v", err)
	}
	first.Close()
	open(t, sqlite.Options{Path: path, Server: true})
}

// The test binary is also the server that is killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("SQLITE_TEST_SERVE"); path != "" {
		serveUntilKilled(path)
	}
	os.Exit(m.Run())
}

func serveUntilKilled(path string) {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, sqlite.Options{Path: path, Server: true})
	if err == nil {
		_, err = db.Migrate(ctx)
	}
	for i := 0; err == nil; i++ {
		var email account.Email
		if email, err = account.ParseEmail(fmt.Sprintf("user%d@example.com", i)); err == nil {
			_, err = db.Accounts().Create(ctx, account.NewUser{ID: id.NewUser(), Email: email, Actor: "operator:test"})
		}
		if err == nil {
			fmt.Println(email) // acknowledged
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A file that was put back by another user: SQLite would open it for reading, and the
// server would look well until somebody writes.
func TestOpen_refusesAFileThatItMayNotWrite(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "authserver-others") // another user may not come to $TMPDIR
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "authserver.db")
	open(t, sqlite.Options{Path: path, Server: true}).Close()
	self := filepath.Join(dir, "self") // where another user may run it
	text, err := os.ReadFile(os.Args[0])
	err = errors.Join(err, os.WriteFile(self, text, 0o700), os.Chmod(self, 0o755), os.Chmod(dir, 0o777), os.Chmod(path, 0o444), os.Remove(path+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(self)
	server.Env = append(os.Environ(), "SQLITE_TEST_SERVE="+path)
	if os.Geteuid() == 0 { // who may write everything
		server.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	said, err := server.CombinedOutput()
	if err == nil || !strings.Contains(string(said), path+" may not be written by this user") {
		t.Errorf("%v: %s", err, said)
	}
}

func TestOpen_afterKillTheLockIsFreeAndNothingAcknowledgedIsLost(t *testing.T) {
	path := file(t)
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), "SQLITE_TEST_SERVE="+path)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) == 1 {
			if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Server: true}); !errors.Is(err, store.ErrInUse) ||
				!strings.Contains(err.Error(), strconv.Itoa(server.Process.Pid)) {
				t.Errorf("while it serves: %v; want ErrInUse by process %d", err, server.Process.Pid)
			}
		}
		if len(acknowledged) == 200 {
			server.Process.Kill()
		}
	}
	server.Wait()
	if len(acknowledged) < 200 {
		t.Fatalf("the server died after %d accounts", len(acknowledged))
	}
	db := open(t, sqlite.Options{Path: path, Server: true})
	for _, email := range acknowledged {
		if _, err := db.Accounts().ByEmail(t.Context(), email); err != nil {
			t.Fatalf("%s was acknowledged: %v", email, err)
		}
	}
}

func TestMigrate_tenProcessesOnAnEmptyFile(t *testing.T) {
	path := file(t)
	var all sync.WaitGroup
	var applied atomic.Int32
	for range 10 {
		all.Go(func() {
			db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			names, err := db.Migrate(t.Context())
			if err != nil {
				t.Error(err)
			}
			applied.Add(int32(len(names)))
			s, err := db.Schema(t.Context())
			if err != nil || s.Applied != s.Newest || s.CompatibleFrom < 1 || len(s.Pending) > 0 {
				t.Errorf("afterwards: %+v, %v", s, err)
			}
		})
	}
	all.Wait()
	files, err := fs.Glob(migrations.SQLite, "sqlite/*.sql")
	if err != nil || int(applied.Load()) != len(files) || len(files) == 0 {
		t.Errorf("%d migrations applied by all together, want each of %d once (%v)", applied.Load(), len(files), err)
	}
}

func TestOpen_filesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b#c %41", "auth server.db")
	db := open(t, sqlite.Options{Path: path, Server: true})
	for name, want := range map[string]os.FileMode{
		filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600, path + ".lock": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
	if f, err := db.Doctor(t.Context()); err != nil || len(f) > 0 {
		t.Errorf("doctor on a fresh database: %+v, %v", f, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := db.Doctor(t.Context())
	if err != nil || len(f) != 1 || !f[0].Grave || f[0].Seen != "0644" || f[0].Expected != "0600" {
		t.Errorf("doctor on a file that all may read: %+v, %v", f, err)
	}
}

func TestWrite_theCommandLineFindsAGapBesideABusyServer(t *testing.T) {
	path := file(t)
	server := open(t, sqlite.Options{Path: path, Server: true})
	all := families(t, server, 64)
	stop := make(chan struct{})
	var rotations atomic.Int64
	var rotating sync.WaitGroup
	rotating.Go(func() {
		for g := int32(1); ; g++ {
			select {
			case <-stop:
				return
			default:
			}
			batch := make([]refresh.Call, len(all))
			for i, f := range all {
				batch[i] = call(f, g)
			}
			outcomes, err := server.Families().RotateBatch(context.Background(), batch)
			if err != nil {
				t.Errorf("batch: %v", err)
				return
			}
			for i, out := range outcomes {
				if out == nil {
					t.Errorf("generation %d of family %d was not rotated", g, i)
					return
				}
			}
			rotations.Add(int64(len(outcomes)))
		}
	})
	command := open(t, sqlite.Options{Path: path})
	for i := range 25 {
		if _, err := command.Accounts().Create(t.Context(), newUser(t, "cli"+strconv.Itoa(i))); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
	close(stop)
	rotating.Wait()
	if rotations.Load() == 0 {
		t.Error("the server rotated nothing meanwhile")
	}
	if users, err := server.Accounts().List(t.Context(), "", 1000); err != nil || len(users) != len(all)+25 {
		t.Errorf("the server sees %d accounts, %v; want %d", len(users), err, len(all)+25)
	}
}

func TestLog_doesNotGrowWhileSomebodyAlwaysReads(t *testing.T) {
	path := file(t)
	db := open(t, sqlite.Options{Path: path, Server: true})
	all := families(t, db, 200)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range 6 { // more than there are readers, so that some are always reading
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := db.Sessions().Standing(context.Background(), all[0].Session, all[0].User, refresh.Policy{IdleTTL: time.Hour}); err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	largest := int64(0)
	for g := int32(1); g <= 160; g++ { // some 30 pages each: 4,800 pages, 19 MiB
		batch := make([]refresh.Call, 0, 100)
		for _, f := range all[g%2*100:][:100] {
			batch = append(batch, call(f, (g+1)/2))
		}
		if _, err := db.Families().RotateBatch(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path + "-wal"); err == nil {
			largest = max(largest, info.Size())
		}
	}
	close(stop)
	reading.Wait()
	if largest == 0 || largest > 12<<20 {
		t.Errorf("the log grew to %d KiB; want at most some 4 MiB and a batch", largest>>10)
	}
}

func TestRotateBatch_aPoisonedMemberRefusesTheBatchAndHarmsNobodyElse(t *testing.T) {
	db := open(t, sqlite.Options{Path: file(t), Server: true})
	all := families(t, db, 3)
	batch := []refresh.Call{call(all[0], 1), call(all[1], 1), call(all[2], 1)}
	batch[1].Attempt.NewKey = 0 // no root key has that number: a CHECK refuses it
	if _, err := db.Families().RotateBatch(t.Context(), batch); !errors.Is(err, refresh.ErrRefused) {
		t.Fatalf("batch: %v; want ErrRefused", err)
	}
	for i, c := range batch {
		f, _, err := db.Families().Family(t.Context(), all[i].ID)
		if err != nil || f.Generation != 1 {
			t.Fatalf("member %d after the batch: generation %d, %v", i, f.Generation, err)
		}
		out, err := db.Families().Redeem(t.Context(), c, time.Second)
		if i == 1 && err == nil {
			t.Errorf("the poisoned member alone: %s, want trouble", out.Verdict)
		}
		if i != 1 && (err != nil || out.Verdict != refresh.Rotated) {
			t.Errorf("member %d alone: %s, %v", i, out.Verdict, err)
		}
	}
}

// A value that no code of ours has written spoils the row it is in and no other.
func TestRotateBatch_aRowThatCannotBeReadHarmsNobodyElse(t *testing.T) {
	path := file(t)
	db := open(t, sqlite.Options{Path: path, Server: true})
	all := families(t, db, 3)
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`UPDATE users SET roles = '[1]' WHERE id = ?`, all[1].User[:]); err != nil {
		t.Fatal(err)
	}
	got, err := db.Families().RotateBatch(t.Context(), []refresh.Call{call(all[0], 1), call(all[1], 1), call(all[2], 1)})
	if err != nil {
		t.Fatal(err)
	}
	for i, out := range got {
		if rotated := out != nil && out.Verdict == refresh.Rotated; rotated != (i != 1) {
			t.Errorf("member %d rotated: %t", i, rotated)
		}
	}
	if out, err := db.Families().Redeem(t.Context(), call(all[1], 1), time.Second); err == nil {
		t.Errorf("the one that cannot be read: %s, want trouble", out.Verdict)
	}
}

// Once nothing is left below a floor, nobody reads the whole table for it again.
func TestEndBelowFloor_readsTheTableOnceForEachFloor(t *testing.T) {
	path := file(t)
	db := open(t, sqlite.Options{Path: path, Server: true})
	if _, err := db.Founding().Found(t.Context(), store.Facts{Issuer: "https://auth.example.com", MasterID: [8]byte{1}}); err != nil {
		t.Fatal(err)
	}
	all := families(t, db, 3)
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	below := func(floor time.Duration, want int) {
		t.Helper()
		if _, err := db.Sessions().RaiseFloor(t.Context(), time.Now().Add(-floor), "operator:x", "floor"); err != nil {
			t.Fatal(err)
		}
		if n, err := db.Sessions().EndBelowFloor(t.Context(), 7); n != want || err != nil {
			t.Errorf("below a floor %s ago ended %d, %v; want %d", floor, n, err, want)
		}
	}
	below(3*time.Hour, 0)
	if _, err := raw.Exec(`UPDATE families SET born_at = born_at - ? WHERE id = ?`, (2 * time.Hour).Microseconds(), all[0].ID[:]); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour).UnixMicro()
	if _, err := raw.Exec(`UPDATE server_state SET floor = ?, floor_swept = ?`, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Sessions().EndBelowFloor(t.Context(), 7); n != 0 || err != nil {
		t.Errorf("below a floor that was swept ended %d, %v; want that nobody looks", n, err)
	}
	below(30*time.Minute, 1)
	below(30*time.Minute, 0)
	var swept bool
	if err := raw.QueryRow(`SELECT floor = floor_swept FROM server_state`).Scan(&swept); err != nil || !swept {
		t.Errorf("the last floor counts as swept: %t, %v", swept, err)
	}
	below(time.Minute, 0) // so young that somebody may still be born below it
	if err := raw.QueryRow(`SELECT floor = floor_swept FROM server_state`).Scan(&swept); err != nil || swept {
		t.Errorf("a floor of a minute ago counts as swept: %t, %v", swept, err)
	}
}

func TestWrite_aRequestThatGoesAwayTearsNothing(t *testing.T) {
	db := open(t, sqlite.Options{Path: file(t), Server: true})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Families().RotateBatch(gone, []refresh.Call{call(families(t, db, 1)[0], 1)}); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("a request that has gone away before it began: %v", err)
	}
	var users []account.NewUser
	for i := range 300 {
		users = append(users, newUser(t, "import"+strconv.Itoa(i)))
	}
	for i := range 30 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		for k := range users {
			users[k] = newUser(t, fmt.Sprintf("import%d-%d", i, k))
		}
		before := count(t, db)
		_, err := db.Accounts().Import(ctx, users)
		cancel()
		want := before
		if err == nil {
			want += len(users)
		}
		if got := count(t, db); got != want {
			t.Fatalf("import answered %v and left %d accounts, want %d", err, got-before, want-before)
		}
	}
}

func count(t *testing.T, db *sqlite.DB) (n int) {
	t.Helper()
	for after := ""; ; {
		users, err := db.Accounts().List(t.Context(), after, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(users) == 0 {
			return n
		}
		n += len(users)
		after = account.EmailKey(users[len(users)-1].Email)
	}
}
