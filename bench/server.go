package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// issuer is the same for all servers of a run, because a database belongs to
// one. It need not be where the server listens.
const issuer = "http://localhost:8080"

// build makes the binary that is measured, as it is shipped.
func (b *bench) build() error {
	if b.binary != "" {
		var err error
		b.server, err = filepath.Abs(b.binary)
		return err
	}
	root, err := moduleRoot(b.ctx)
	if err != nil {
		return err
	}
	b.server = filepath.Join(b.dir, "authserver")
	cmd := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.server, "./cmd/authserver")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w:\n%s", err, out)
	}
	return nil
}

// authserver is one running server.
type authserver struct {
	*child
	public     string // HOST:PORT
	operations string
	startup    time.Duration // until /readyz said 200
}

// startServer runs `authserver serve`. databaseURL may be empty: SQLite in dataDir.
func (b *bench) startServer(dataDir, databaseURL string) (*authserver, error) {
	s := &authserver{}
	for _, address := range []*string{&s.public, &s.operations} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*address = "127.0.0.1:" + port
	}
	cmd := exec.Command(b.server, "serve")
	cmd.Dir = b.dir
	cmd.Env = append(b.environment(dataDir, databaseURL), "AUTHSERVER_ADDR="+s.public, "AUTHSERVER_ADMIN_ADDR="+s.operations)
	began := time.Now()
	var err error
	s.child, err = startChild(cmd, "authserver", filepath.Join(b.dir, "authserver.log"), syscall.SIGKILL, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: time.Second}
	err = s.await(b.ctx, time.Minute, 2*time.Millisecond, func() error {
		answer, err := client.Get("http://" + s.operations + "/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz says %s", answer.Status)
		}
		return nil
	})
	s.startup = time.Since(began)
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// environment is that of every verb on one database.
func (b *bench) environment(dataDir, databaseURL string) []string {
	list := []string{
		"PATH=" + os.Getenv("PATH"),
		"AUTHSERVER_ISSUER=" + issuer,
		"AUTHSERVER_DATA_DIR=" + dataDir,
		"AUTHSERVER_DRAIN_DELAY=0s",
	}
	if databaseURL != "" {
		list = append(list, "AUTHSERVER_DATABASE_URL="+databaseURL)
	}
	return append(list, b.settings...)
}

// auditSessions re-reads a whole database.
func (b *bench) auditSessions(dataDir, databaseURL string) ([]byte, error) {
	cmd := exec.CommandContext(b.ctx, b.server, "audit", "sessions", "--json")
	cmd.Dir, cmd.Env = b.dir, b.environment(dataDir, databaseURL)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || len(out) == 0) { // with violations it exits so, too
		return nil, fmt.Errorf("audit sessions: %w:\n%.2000s", err, errs.String())
	}
	return out, nil
}

// auditBed wants no broken invariant in a database that was used hard.
func (b *bench) auditBed(d *bed) error {
	out, err := d.audit()
	if err != nil {
		return err
	}
	var found struct{ Count int }
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Errorf("audit sessions says %.300q: %w", out, err)
	}
	b.report.atMost(d.engine+", violations of an invariant at the end", float64(found.Count), "", 0, "authserver audit sessions")
	return nil
}

// startOnPostgres runs a server on the seeded cluster.
func (b *bench) startOnPostgres() (*authserver, error) {
	return b.startServer(filepath.Join(b.dir, "data"), b.cluster.url(b.cluster.database))
}

func (s *authserver) stop() { s.child.stop(syscall.SIGTERM, 15*time.Second) }

// fetch returns the body of a GET.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.300s", url, answer.Status, body)
	}
	return body, err
}

// profile takes profiles of CPU and of allocations while load runs, if they are
// wanted. The round does not count: sampling costs a little.
func (b *bench) profile(s *authserver, name string, load func(seconds int) error) error {
	if b.profiles == "" {
		return nil
	}
	if err := os.MkdirAll(b.profiles, 0o755); err != nil {
		return err
	}
	const seconds = 20
	kinds := []string{"profile", "allocs"}
	taken := make(chan error, len(kinds))
	for _, kind := range kinds {
		go func() {
			text, err := fetch(b.ctx, fmt.Sprintf("http://%s/debug/pprof/%s?seconds=%d", s.operations, kind, seconds))
			if err == nil {
				err = os.WriteFile(filepath.Join(b.profiles, name+"."+kind+".pprof"), text, 0o644)
			}
			taken <- err
		}()
	}
	err := load(seconds)
	for range kinds {
		err = errors.Join(err, <-taken)
	}
	return err
}
