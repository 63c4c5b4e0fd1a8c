package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The absolute targets of a refresh were set beside a bare server on another
// machine: 74 us of its own CPU and 15 us of Postgres for each refresh. So on
// any machine they are these multiples of what the bare server takes there.
const (
	serverOverFloor   = 110.0 / 74
	postgresOverFloor = 25.0 / 15
)

// floorVerb makes this program the bare server: a process of its own, so that
// it has a heap and a scheduler to itself, as the server has.
const floorVerb = "bare-refresh"

// floor answers a refresh with nothing but what every server of its kind in Go
// does: net/http reads it, what arrives while statements are under way becomes
// one UPDATE with one commit, a token is signed with EdDSA. It knows no policy,
// no log, no metrics and no user, checks no token, and could not tell a replay.
type floor struct {
	pool *pgxpool.Pool
	key  ed25519.PrivateKey

	mu      sync.Mutex
	flying  int
	waiting []*passenger
}

// As many at once, and as many members, as the server has.
const (
	floorFlights = 2
	floorMembers = 256
)

type passenger struct {
	family     [16]byte
	generation int64
	err        error
	flight     []*passenger // set for whoever is to send the next statement
	landed     chan struct{}
}

// serveFloor is the bare server. The URL of the database is in the environment.
func serveFloor(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	return serveChild(&floor{pool: pool, key: key})
}

// ServeHTTP implements http.Handler.
func (f *floor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := f.refresh(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // whoever went away needs no answer
}

func (f *floor) refresh(r *http.Request) ([]byte, error) {
	var asked struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(asked.RefreshToken, tokenPrefix))
	if err != nil || len(raw) != tokenBytes {
		return nil, fmt.Errorf("no refresh token: %q", asked.RefreshToken)
	}
	p := &passenger{family: [16]byte(raw[2:18]), landed: make(chan struct{}, 1)}
	if f.rotate(p); p.err != nil {
		return nil, p.err
	}
	now, subject := time.Now(), hex.EncodeToString(p.family[:])
	access, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer, "aud": issuer, "sub": subject, "sid": subject, "jti": subject, "client_id": firstParty,
		"scope": scope, "iat": now.Unix(), "auth_time": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}).SignedString(f.key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": 600, "refresh_token": asked.RefreshToken, "scope": scope,
	})
}

// rotate is a group commit as the server's: whoever finds a free flight sends a
// statement at once, whoever lands hands the flight on to those who wait.
func (f *floor) rotate(p *passenger) {
	f.mu.Lock()
	if f.flying < floorFlights {
		f.flying++
		f.mu.Unlock()
		f.fly([]*passenger{p})
		return
	}
	f.waiting = append(f.waiting, p)
	f.mu.Unlock()
	<-p.landed
	if p.flight != nil {
		f.fly(p.flight)
	}
}

func (f *floor) fly(flight []*passenger) {
	err := f.update(flight)
	for _, p := range flight {
		if p.err = err; err == nil && p.generation == 0 {
			p.err = fmt.Errorf("no family %x", p.family)
		}
	}
	f.mu.Lock()
	if len(f.waiting) == 0 {
		f.flying--
	} else {
		n := min(len(f.waiting), floorMembers)
		next := f.waiting[:n:n]
		f.waiting = append([]*passenger(nil), f.waiting[n:]...)
		next[0].flight = next
		next[0].landed <- struct{}{}
	}
	f.mu.Unlock()
	for _, p := range flight[1:] {
		p.landed <- struct{}{}
	}
}

// update is the one-row update of the other rival, for all rows of a flight.
func (f *floor) update(flight []*passenger) error {
	ids := make([][16]byte, len(flight))
	by := make(map[[16]byte]*passenger, len(flight))
	for i, p := range flight {
		ids[i], by[p.family] = p.family, p
	}
	rows, err := f.pool.Query(context.Background(), `UPDATE families f SET generation = f.generation + 1, used_at = now(), head_born = now()
		FROM unnest($1::uuid[]) AS w (id) WHERE f.id = w.id RETURNING f.id, f.generation`, ids)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id [16]byte
		var generation int64
		if err := rows.Scan(&id, &generation); err != nil {
			return err
		}
		by[id].generation = generation
	}
	return rows.Err()
}

// startFloor starts the bare server on the seeded cluster and returns its address.
func (b *bench) startFloor() (c *child, address string, err error) {
	return b.startSelf("bare server", []string{"DATABASE_URL=" + b.cluster.url(b.cluster.database)}, floorVerb)
}

// onFloor is a refresher whose answers come from the floor, which hands the same
// refresh token out again.
type onFloor struct{ *refresher }

// answered implements caller.
func (o onFloor) answered(status int, body []byte) error {
	if token := member(body, refreshMember); status != 200 || string(token) != string(o.token) || len(member(body, accessMember)) < 200 {
		return fmt.Errorf("refresh by the bare server: %d %.500s", status, body)
	}
	o.fleet.generations[o.now]++
	return nil
}

// measureFloor lets refreshes by the server, refreshes by the bare server and
// pgbench's updates take turns at 64 clients.
func (b *bench) measureFloor() error {
	s, err := b.startOnPostgres()
	if err != nil {
		return err
	}
	defer s.stop()
	bare, bareAddress, err := b.startFloor()
	if err != nil {
		return err
	}
	defer bare.stop(syscall.SIGTERM, 5*time.Second)

	const clients = 64
	turns := []struct {
		name string
		take func() (tally, error)
	}{
		{"server", func() (tally, error) {
			return drive(b.ctx, s.public, refreshers(b.fleet, s.public, clients), b.seconds, 0, func() time.Duration { return cpuOf(s.pid()) }, b.cluster.cpu)
		}},
		{"bare server", func() (tally, error) {
			callers := refreshers(b.fleet, bareAddress, clients)
			for i, c := range callers {
				callers[i] = onFloor{c.(*refresher)}
			}
			return drive(b.ctx, bareAddress, callers, b.seconds, 0, func() time.Duration { return cpuOf(bare.pid()) }, b.cluster.cpu)
		}},
		{"update", func() (tally, error) { return b.updates(clients) }},
	}
	taken := make([][]tally, len(turns))
	for round := range b.rounds {
		for i := range turns { // who begins has the table as the last one left it
			at := (round + i) % len(turns)
			if err := b.fleet.settle(b.ctx, b.cluster); err != nil {
				return err
			}
			t, err := turns[at].take()
			if err != nil {
				return fmt.Errorf("%s: %w", turns[at].name, err)
			}
			taken[at] = append(taken[at], t)
		}
		say("  round %d: %.0f refreshes/s, bare server %.0f/s, %.0f updates/s", round+1, taken[0][round].rate(), taken[1][round].rate(), taken[2][round].rate())
	}

	of := func(at int, value func(tally) float64) float64 { return medianOf(taken[at], value) }
	over := func(value func(tally) float64, above, below int) (float64, string) {
		var ratios []float64
		for round := range b.rounds {
			ratios = append(ratios, value(taken[above][round])/value(taken[below][round]))
		}
		return median(ratios), spread(ratios)
	}
	p99 := func(t tally) float64 { return millis(quantile(t.latencies, 0.99)) }
	server, postgres := func(t tally) float64 { return t.each(t.cpu[0]) }, func(t tally) float64 { return t.each(t.cpu[1]) }

	ratio, range_ := over(tally.rate, 1, 2)
	b.report.note("bare server / pgbench update, 64 clients", ratio, "", "median of %d rounds, %s: the floor", b.rounds, range_)
	ratio, range_ = over(tally.rate, 0, 2)
	b.report.atLeast("refresh / pgbench update, beside it", ratio, "", 0.8, "median of %d rounds, %s", b.rounds, range_)
	ratio, range_ = over(tally.rate, 0, 1)
	b.report.note("refresh / bare server, 64 clients", ratio, "", "%.0f/s and %.0f/s; %s", of(0, tally.rate), of(1, tally.rate), range_)
	ratio, range_ = over(server, 0, 1)
	b.report.atMost("CPU of the server / of the bare server", ratio, "", serverOverFloor, "%.0f and %.0f us; %s", of(0, server), of(1, server), range_)
	ratio, range_ = over(postgres, 0, 1)
	b.report.atMost("CPU of Postgres / under the bare server", ratio, "", postgresOverFloor, "%.0f and %.0f us; %s", of(0, postgres), of(1, postgres), range_)
	ratio, range_ = over(p99, 0, 1)
	b.report.note("refresh p99 / that of the bare server", ratio, "", "%.1f and %.1f ms; %s", of(0, p99), of(1, p99), range_)
	return nil
}
