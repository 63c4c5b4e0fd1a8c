package faultproxy_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/authserver/internal/store/storetest"
	"example.com/authserver/test/prove/faultproxy"
)

// Each act has the effect that it says, on the server as well as on the client:
// a proxy that lies about one of them would prove nothing.
func TestProxy_actsDoWhatTheySay(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		direct := storetest.Postgres(t)
		behind := connect(t, direct, nil)
		exec(t, behind, `CREATE TABLE rows (n integer)`)
		toServer := func(kind byte, label string) func(faultproxy.Message) bool {
			return func(m faultproxy.Message) bool {
				return m.Direction == faultproxy.ToServer && m.Kind == kind && m.Label == label
			}
		}
		answer := func(m faultproxy.Message) bool {
			return m.Direction == faultproxy.ToClient && m.Kind == 'C' && m.Label == "commit"
		}
		const insert = "rows.insert"
		for i, c := range []struct {
			name    string
			fits    func(faultproxy.Message) bool
			act     faultproxy.Act
			code    string // of the error, if it has one
			fails   bool
			stands  bool // the row is there afterwards
			warning bool
		}{
			{name: "nothing", fits: func(faultproxy.Message) bool { return false }, stands: true},
			{name: "late", fits: answer, act: faultproxy.Delay(20 * time.Millisecond), stands: true},
			{name: "statement cut", fits: toServer('B', insert), act: faultproxy.Cut(), fails: true},
			{name: "commit cut", fits: toServer('Q', "commit"), act: faultproxy.Cut(), fails: true},
			{name: "cut after the commit", fits: toServer('Q', "commit"), act: faultproxy.CutAfter(), fails: true, stands: true},
			{name: "answer cut", fits: answer, act: faultproxy.Cut(), fails: true, stands: true},
			{name: "statement fails", fits: toServer('B', insert), act: faultproxy.Fail("40001"), fails: true, code: "40001"},
			{name: "sync fails", fits: toServer('S', insert), act: faultproxy.Fail("40P01"), fails: true, code: "40P01"},
			{name: "commit fails", fits: toServer('Q', "commit"), act: faultproxy.Fail("40001"), fails: true, code: "40001"},
			{name: "shutdown before the commit", fits: toServer('Q', "commit"), act: faultproxy.Fatal("57P01"), fails: true, code: "57P01"},
			{name: "shutdown after the commit", fits: answer, act: faultproxy.Fatal("57P01"), fails: true, code: "57P01", stands: true},
			{name: "warning", fits: answer, act: faultproxy.Warn(), stands: true, warning: true},
		} {
			p := faultproxy.New(t, direct)
			warned := false
			conn := connect(t, p.URL, func(_ *pgconn.PgConn, n *pgconn.Notice) { warned = warned || n.Severity == "WARNING" })
			p.Arm(func(m faultproxy.Message) faultproxy.Act {
				if c.fits(m) {
					return c.act
				}
				return faultproxy.Act{}
			})
			err := insertRow(t.Context(), conn, i)
			if (err != nil) != c.fails {
				t.Errorf("%s: %v", c.name, err)
			}
			var pg *pgconn.PgError
			if errors.As(err, &pg) != (c.code != "") || pg != nil && pg.Code != c.code {
				t.Errorf("%s: %v; want SQLSTATE %q", c.name, err, c.code)
			}
			if warned != c.warning {
				t.Errorf("%s: warned is %t", c.name, warned)
			}
			conn.Close(t.Context())
			// What was sent before a cut is still carried out: wait for the backend.
			for gone := false; !gone; {
				if err := behind.QueryRow(t.Context(), `SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
					AND backend_type = 'client backend'`).Scan(&gone); err != nil {
					t.Fatal(err)
				}
			}
			var stands bool
			if err := behind.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM rows WHERE n = $1)`, i).Scan(&stands); err != nil {
				t.Fatal(err)
			}
			if stands != c.stands {
				t.Errorf("%s: the row is there: %t; want %t", c.name, stands, c.stands)
			}
		}
	})
}

// What goes silent stays open and says nothing, until somebody gives up.
func TestProxy_aMuteConnectionSaysNothing(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		p := faultproxy.New(t, storetest.Postgres(t))
		conn := connect(t, p.URL, nil)
		p.Arm(func(m faultproxy.Message) faultproxy.Act {
			if m.Direction == faultproxy.ToServer && m.Kind == 'Q' {
				return faultproxy.Mute()
			}
			return faultproxy.Act{}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT 1`); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v; want the deadline", err)
		}
		if got := p.Injected()["mute"]; got != 1 {
			t.Errorf("%d connections fell silent; want 1", got)
		}
	})
}

// A connection may be refused as by a server that has none left.
func TestProxy_refusesConnections(t *testing.T) {
	t.Run("postgres", func(t *testing.T) {
		p := faultproxy.New(t, storetest.Postgres(t))
		p.Arm(func(m faultproxy.Message) faultproxy.Act {
			if m.Kind == 0 {
				return faultproxy.Fatal("53300")
			}
			return faultproxy.Act{}
		})
		_, err := pgx.Connect(t.Context(), p.URL)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "53300" {
			t.Errorf("%v; want SQLSTATE 53300", err)
		}
	})
}

func insertRow(ctx context.Context, conn *pgx.Conn, n int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "-- name: rows.insert\nINSERT INTO rows VALUES ($1)", n); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func connect(t *testing.T, url string, notice pgconn.NoticeHandler) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.OnNotice = notice
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
