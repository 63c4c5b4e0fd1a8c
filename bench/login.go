package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/secret"
)

const thePassword = "a measured password, 2048 of them"

// hasher is one like the server's.
func hasher() (*password.Hasher, error) {
	c, err := configFor("", "")
	if err != nil {
		return nil, err
	}
	return password.New(c.Passwords(), nil)
}

// enrol makes accounts with one password in the cluster and returns their
// addresses.
func (b *bench) enrol(kind string, number int) ([]string, error) {
	h, err := hasher()
	if err != nil {
		return nil, err
	}
	hash, err := h.Hash(b.ctx, secret.NewText(thePassword))
	if err != nil {
		return nil, err
	}
	emails := make([]string, number)
	for n := range emails {
		emails[n] = fmt.Sprintf("%s-%d@bench.example", kind, n)
		user := [16]byte(id.NewUser())
		_, err := b.cluster.conn.Exec(b.ctx, `-- name: bench.enrol
			WITH born AS (INSERT INTO users (id, email, email_key, created_at) VALUES ($1, $2, $2, now()))
			INSERT INTO passwords (user_id, hash, scheme, changed_at) VALUES ($1, $3, $4, now())`,
			user, emails[n], hash.Encoded, hash.Scheme.String())
		if err != nil {
			return nil, err
		}
	}
	return emails, nil
}

func loginRequest(address, email string) []byte {
	body, _ := json.Marshal(map[string]string{"email": email, "password": thePassword}) // strings always marshal
	return post(address, "/v1/login", string(body))
}

// logins is how many logins and bare hashes take turns.
const logins = 60

// measureLogin compares logins, one after the other, with the hash alone: the
// same one, computed by the same code in this process.
func (b *bench) measureLogin() error {
	emails, err := b.enrol("login", 1)
	if err != nil {
		return err
	}
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	h, err := hasher()
	if err != nil {
		return err
	}
	w, err := dial(b.ctx, s.public)
	if err != nil {
		return err
	}
	defer w.conn.Close()
	request := loginRequest(s.public, emails[0])
	var bare, whole []time.Duration
	for n := range logins + 5 {
		began := time.Now()
		if _, err := h.Hash(b.ctx, secret.NewText(thePassword)); err != nil {
			return err
		}
		hashed := time.Now()
		status, body, err := w.do(request)
		if err != nil || status != 200 {
			return fmt.Errorf("login: %d %.500s %w", status, body, err)
		}
		if n >= 5 { // the first ones find cold caches
			bare, whole = append(bare, hashed.Sub(began)), append(whole, time.Since(hashed))
		}
	}
	hash, login := median(bare), median(whole)
	b.report.atMost("login beyond the bare hash", 100*(float64(login)/float64(hash)-1), "%", 10,
		"medians of %d: login %.2f ms, argon2id %s %.2f ms", logins, millis(login), h.Today(), millis(hash))
	return nil
}

// measureLogins lets eight clients log in as fast as they can, each on its own
// account.
func (b *bench) measureLogins() error {
	const clients = 8
	emails, err := b.enrol("logins", clients)
	if err != nil {
		return err
	}
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	callers := make([]caller, clients)
	for n := range callers {
		callers[n] = &loginCaller{sent: loginRequest(s.public, emails[n])}
	}
	t, err := drive(b.ctx, s.public, callers, b.seconds, 0, func() time.Duration { return cpuOf(s.pid()) }, b.cluster.cpu)
	if err != nil {
		return err
	}
	deferred := 0
	for _, c := range callers {
		deferred += c.(*loginCaller).deferred
	}
	b.report.note("login, 8 clients", t.rate(), "/s", "p50 %.1f ms, p99 %.1f ms; CPU each: server %.1f ms, Postgres %.2f ms; %d were turned away",
		millis(quantile(t.latencies, 0.5)), millis(quantile(t.latencies, 0.99)), t.each(t.cpu[0])/1000, t.each(t.cpu[1])/1000, deferred)
	return nil
}

// loginCaller logs one account in over and over.
type loginCaller struct {
	sent     []byte
	opened   int
	deferred int
}

// request implements caller.
func (l *loginCaller) request() []byte { return l.sent }

// answered implements caller. A server under storm may turn logins away, with
// 429 or 503, to keep its promise to the others.
func (l *loginCaller) answered(status int, body []byte) error {
	switch status {
	case 200:
		l.opened++
	case 429, 503:
		l.deferred++
	default:
		return fmt.Errorf("login: %d %.500s", status, body)
	}
	return nil
}

// measureStorm refreshes while 60 clients do nothing but log in.
func (b *bench) measureStorm() error {
	const stormers, clients = 60, 8
	emails, err := b.enrol("storm", stormers)
	if err != nil {
		return err
	}
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
		return err
	}
	storm := make([]caller, stormers)
	for n := range storm {
		storm[n] = &loginCaller{sent: loginRequest(s.public, emails[n])}
	}
	watched, stop := context.WithCancel(b.ctx)
	defer stop()
	rss := watchRSS(watched, s.pid())
	idle := memoryOf(s.pid(), "status", "VmRSS")

	seconds := max(b.seconds*2, 10) // resident memory shall have time to grow
	type result struct {
		tally
		err error
	}
	stormed := make(chan result, 1)
	go func() {
		t, err := drive(b.ctx, s.public, storm, seconds+2, 0)
		stormed <- result{t, err}
	}()
	refreshed, err := drive(b.ctx, s.public, refreshers(b.fleet, s.public, clients), seconds, 0)
	logins := <-stormed
	if err != nil {
		return err
	}
	if logins.err != nil {
		return logins.err
	}
	opened, deferred := 0, 0
	for _, c := range storm {
		opened, deferred = opened+c.(*loginCaller).opened, deferred+c.(*loginCaller).deferred
	}
	b.report.atMost("refresh p99 while 60 clients log in", millis(quantile(refreshed.latencies, 0.99)), "ms", 250,
		"%d clients refresh %.0f/s, p50 %.2f ms; %d logins succeeded, %d were turned away", clients, refreshed.rate(),
		millis(quantile(refreshed.latencies, 0.5)), opened, deferred)
	b.report.note("resident memory of the server in that storm", float64(rss.Load())/mib, "MiB", "the most seen in %d s; %d MiB before", seconds, idle/mib)
	return nil
}
