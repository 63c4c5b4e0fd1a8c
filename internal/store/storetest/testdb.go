package storetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresVariable names the environment variable with the URL of a superuser's
// database on a throw-away Postgres cluster. Tests make databases of their own
// there and drop them.
const PostgresVariable = "AUTHSERVER_TEST_POSTGRES"

// Postgres makes a fresh, empty database, dropped when the test ends, and
// returns its URL. Without a cluster it skips the test; in CI, where every test
// must run, it fails it.
func Postgres(t testing.TB) string {
	t.Helper()
	return create(t, "")
}

var templates struct {
	sync.Mutex
	made map[string]string
}

// PostgresLike is Postgres with a database that was filled once in this
// process and is copied from then on, which is much faster than migrating each
// one. kind names the filling.
func PostgresLike(t testing.TB, kind string, fill func(url string) error) string {
	t.Helper()
	cluster(t)
	templates.Lock()
	defer templates.Unlock()
	name, ok := templates.made[kind]
	if !ok {
		name = freshName("template")
		mustRun(t, "CREATE DATABASE "+name)
		if err := fill(named(t, name)); err != nil {
			t.Fatalf("fill the template database %s: %v", kind, err)
		}
		if templates.made == nil {
			templates.made = make(map[string]string)
		}
		templates.made[kind] = name
	}
	return create(t, " TEMPLATE "+name)
}

func create(t testing.TB, from string) string {
	t.Helper()
	cluster(t)
	name := freshName("test")
	mustRun(t, "CREATE DATABASE "+name+from)
	t.Cleanup(func() { mustRun(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return named(t, name)
}

func freshName(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()) }

// cluster returns the superuser's URL.
func cluster(t testing.TB) string {
	t.Helper()
	base := os.Getenv(PostgresVariable)
	if base == "" && os.Getenv("CI") == "true" {
		t.Fatalf("%s is empty; want the URL of a superuser's database on a throw-away Postgres cluster", PostgresVariable)
	}
	if base == "" {
		t.Skipf("%s is empty: no Postgres to test with", PostgresVariable)
	}
	return base
}

// named returns the cluster's URL with another database in it.
func named(t testing.TB, database string) string {
	t.Helper()
	u, err := url.Parse(cluster(t))
	if err != nil || u.Scheme == "" {
		t.Fatalf("%s is no URL; want postgres://user@host:port/database", PostgresVariable)
	}
	u.Path = "/" + database
	return u.String()
}

func mustRun(t testing.TB, statement string) {
	t.Helper()
	if err := run(cluster(t), statement); err != nil {
		t.Fatal(err)
	}
}

func run(base, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", PostgresVariable, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
