package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// proxy is a proxy before a toy API, asked over a Unix socket.
type proxy struct {
	name   string
	client *http.Client
}

func newProxy(name, socket string) *proxy {
	return &proxy{name, &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// check asks the API with a token. The API's own answer is acceptance, 401 is
// refusal, and anything else is trouble, which no column expects.
func (p *proxy) check(token string) error {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://api.example.com/", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := p.client.Do(r)
	if err != nil {
		return &trouble{err.Error()}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return &trouble{err.Error()}
	case answer.StatusCode == http.StatusOK && string(body) == "hello\n":
		return nil
	case answer.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("401 %s", answer.Header.Get("WWW-Authenticate"))
	}
	return &trouble{fmt.Sprintf("%d %q", answer.StatusCode, body)}
}

// trouble is an answer that is neither yes nor no.
type trouble struct{ what string }

// Error implements error.
func (t *trouble) Error() string { return "trouble: " + t.what }

// serve answers on a Unix socket until the test ends.
func serve(t testing.TB, socket string, h http.Handler) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	// Proxies run as whoever they are told to.
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, h)
}

func serveOn(t testing.TB, l net.Listener, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
}

// toyAPI is what the proxies protect.
func toyAPI(t testing.TB, dir string) {
	serve(t, filepath.Join(dir, "api.sock"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
}

// startProxy runs a proxy until the test ends, or until the returned function
// is called, and waits until its socket takes connections.
func startProxy(t testing.TB, socket string, env []string, command ...string) (stop func()) {
	t.Helper()
	said := &tail{}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(plainEnvironment(), env...)
	cmd.Stdout, cmd.Stderr = said, said
	dieWithUs(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait(); close(gone) }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-gone
		_ = os.Remove(socket)
	})
	t.Cleanup(stop)
	deadline := time.Now().Add(patience)
	for {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
		if err == nil {
			conn.Close()
			return stop
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v\n%s", command[0], err, said)
		}
		select {
		case err := <-gone:
			t.Fatalf("%s ended: %v\n%s", command[0], err, said)
		case <-time.After(10 * time.Millisecond): // between two attempts to connect
		}
	}
}

// startNginx starts nginx and the small program that it asks about tokens.
func startNginx(t testing.TB, dir string, clock *falseClock, tape *recording) *proxy {
	t.Helper()
	v, err := verify.New(verify.Config{
		Issuer: issuerURL, Audience: audience, Algorithms: []string{"ES256"},
		Keys: &tenMinutes{clock: clock, tape: tape}, Now: clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	// snippet: nginx-checker
	checker := v.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject", verify.FromContext(r.Context()).Subject)
		w.WriteHeader(http.StatusNoContent)
	}))
	// end
	serve(t, filepath.Join(dir, "checker.sock"), checker)

	text, err := os.ReadFile("proxies/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(text), "@DIR@", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "nginx.sock")
	startProxy(t, socket, nil, setting(t, "INTEROP_NGINX"), "-p", dir, "-c", config, "-e", "stderr", "-g", "daemon off; master_process off;")
	return newProxy("nginx auth_request", socket)
}

// tenMinutes is a key set kept for ten minutes by a clock that can be moved.
// It never asks again because of an unknown kid.
type tenMinutes struct {
	clock   *falseClock
	tape    *recording
	mu      sync.Mutex
	set     verify.KeySet
	fetched time.Time
}

// Key implements verify.KeySet.
func (k *tenMinutes) Key(ctx context.Context, kid string) (verify.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.clock.Now(); k.set == nil || now.Sub(k.fetched) >= 10*time.Minute {
		set, err := verify.StaticKeys(k.tape.now(now).set.body)
		if err != nil {
			return verify.Key{}, err
		}
		k.set, k.fetched = set, now
	}
	return k.set.Key(ctx, kid)
}

// haproxy is HAProxy with exported keys, which it reads when it starts. A job
// exports them twice a day and restarts it when they have changed.
type haproxy struct {
	*proxy
	t      testing.TB
	dir    string
	clock  *falseClock
	next   time.Time // of the job
	loaded string
	stop   func()
	starts int
}

func startHAProxy(t testing.TB, dir string, clock *falseClock, m moment) *haproxy {
	t.Helper()
	h := &haproxy{proxy: newProxy("HAProxy jwt_verify", filepath.Join(dir, "haproxy.sock")), t: t, dir: dir, clock: clock, stop: func() {}}
	h.job(m)
	return h
}

// job is what cron does: export, compare, restart.
func (h *haproxy) job(m moment) {
	h.t.Helper()
	if m.at.Before(h.next) {
		return
	}
	h.next = m.at.Add(12 * time.Hour)
	var blocks []string
	for _, text := range m.pem {
		blocks = append(blocks, string(text))
	}
	slices.Sort(blocks)
	if len(blocks) < 1 || len(blocks) > 2 {
		h.t.Fatalf("%d keys at %s; the configuration has room for two", len(blocks), m.at)
	}
	// The exported blocks are led by a comment with the state of the key.
	keys := make([]string, 0, len(blocks))
	for _, b := range blocks {
		_, key, _ := strings.Cut(b, "-----BEGIN")
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if all := strings.Join(keys, ""); all == h.loaded {
		return
	} else {
		h.loaded = all
	}
	for n, name := range []string{"1.pem", "2.pem"} {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(blocks[min(n, len(blocks)-1)]), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.stop()
	h.client.CloseIdleConnections()
	h.starts++
	env := append(h.clock.environment(false), "SOCKETS="+h.dir, "KEYS="+h.dir, "ISSUER="+issuerURL, "AUDIENCE="+audience)
	h.stop = startProxy(h.t, filepath.Join(h.dir, "haproxy.sock"), env, setting(h.t, "INTEROP_HAPROXY"), "-db", "-f", "proxies/haproxy.cfg")
}
