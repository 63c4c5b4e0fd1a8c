package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/store"
)

// clockSlack is how far the clocks of server and node may be apart before
// doctor says so.
const clockSlack = 2 * time.Second

// Doctor implements store.Engine.
func (db *DB) Doctor(ctx context.Context) (findings []store.Finding, err error) {
	err = db.read(ctx, "doctor.look", func(ctx context.Context, c *pgxpool.Conn) error {
		v, err := readVitals(ctx, c)
		if err != nil {
			return err
		}
		findings = append(v.durability(), v.timeouts()...)
		findings = append(findings, v.housekeeping()...)
		findings = append(findings, db.connections(v)...)
		return nil
	})
	return findings, err
}

// vitals is what doctor looks at.
type vitals struct {
	fsync, fullPageWrites, synchronousCommit string
	isolation                                string
	statementTimeout, idleSessionTimeout     string
	idleInTransactionTimeout                 string
	readOnly, autovacuum, trackCounts        string
	familiesOff                              bool          // autovacuum is switched off for families
	oldest                                   time.Duration // that a transaction is open which keeps dead rows of ours
	offset                                   time.Duration // of the server's clock against this node's
	pooled                                   bool
}

func readVitals(ctx context.Context, c *pgxpool.Conn) (v vitals, err error) {
	var backend uint32
	var oldestSeconds float64
	var server time.Time
	err = c.QueryRow(ctx, `-- name: doctor.settings
		SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
			current_setting('default_transaction_isolation'), current_setting('statement_timeout'),
			current_setting('idle_session_timeout'), current_setting('idle_in_transaction_session_timeout'),
			current_setting('transaction_read_only'), current_setting('autovacuum'), current_setting('track_counts'),
			COALESCE((SELECT 'autovacuum_enabled=false' = ANY (reloptions) OR 'autovacuum_enabled=off' = ANY (reloptions)
				FROM pg_class WHERE oid = to_regclass('families')), false),
			COALESCE((SELECT extract(epoch FROM clock_timestamp() - min(begun)) FROM (
				SELECT xact_start FROM pg_stat_activity WHERE datname = current_database() OR backend_xid IS NOT NULL
				UNION ALL SELECT prepared FROM pg_prepared_xacts) t (begun)), 0)::float8,
			pg_backend_pid()`,
	).Scan(&v.fsync, &v.fullPageWrites, &v.synchronousCommit, &v.isolation, &v.statementTimeout,
		&v.idleSessionTimeout, &v.idleInTransactionTimeout, &v.readOnly, &v.autovacuum, &v.trackCounts,
		&v.familiesOff, &oldestSeconds, &backend)
	if err != nil {
		return v, err
	}
	v.oldest = time.Duration(oldestSeconds * float64(time.Second))
	v.pooled = backend != c.Conn().PgConn().PID()

	before := time.Now()
	if err := c.QueryRow(ctx, `-- name: doctor.clock
		SELECT clock_timestamp()`).Scan(&server); err != nil {
		return v, err
	}
	v.offset = server.Sub(before.Add(time.Since(before) / 2))
	return v, nil
}

func (v vitals) durability() (found []store.Finding) {
	if v.fsync != "on" {
		found = append(found, store.Finding{
			Setting: "fsync", Seen: v.fsync, Expected: "on", Grave: true,
			Hint: "A crash of the database's machine can destroy the whole database. Set fsync = on and reload.",
		})
	}
	if v.fullPageWrites != "on" {
		found = append(found, store.Finding{
			Setting: "full_page_writes", Seen: v.fullPageWrites, Expected: "on", Grave: true,
			Hint: "A crash during a page write can corrupt tables. Set full_page_writes = on and reload.",
		})
	}
	switch v.synchronousCommit {
	case "on", "remote_apply", "remote_write":
	case "local":
		found = append(found, store.Finding{
			Setting: "synchronous_commit", Seen: "local", Expected: "on",
			Hint: "A failover loses the last rotations; clients that got them are answered, and each is logged as an error.",
		})
	default:
		found = append(found, store.Finding{
			Setting: "synchronous_commit", Seen: v.synchronousCommit, Expected: "on", Grave: true,
			Hint: "A crash forgets rotations and revocations that were answered. Remove the setting from server, database and role.",
		})
	}
	if v.readOnly != "off" {
		found = append(found, store.Finding{
			Setting: "transaction_read_only", Seen: v.readOnly, Expected: "off", Grave: true,
			Hint: "This server is a standby or the role is read only. Name the primary, or add target_session_attrs=read-write to the URL.",
		})
	}
	if v.offset.Abs() > clockSlack {
		found = append(found, store.Finding{
			Setting: "clock", Seen: v.offset.Round(time.Millisecond).String() + " from this node's",
			Expected: "within " + clockSlack.String(), Grave: true,
			Hint: "Tokens look expired or not yet valid. Run a time service (chrony, systemd-timesyncd) on both machines.",
		})
	}
	return found
}

func (v vitals) timeouts() (found []store.Finding) {
	if v.isolation != "read committed" {
		found = append(found, store.Finding{
			Setting: "default_transaction_isolation", Seen: v.isolation, Expected: "read committed",
			Hint: "Direct connections set it themselves; through a pooler batches run at this level and are retried more often.",
		})
	}
	if v.statementTimeout != "0" {
		found = append(found, store.Finding{
			Setting: "statement_timeout", Seen: v.statementTimeout, Expected: "0",
			Hint: "Transactions switch it off for themselves; reads of whole tables (doctor, audit, counting) may be cut off by it.",
		})
	}
	if v.idleSessionTimeout != "0" {
		found = append(found, store.Finding{
			Setting: "idle_session_timeout", Seen: v.idleSessionTimeout, Expected: "0",
			Hint: "The server closes pooled connections under this node, which then pays for new ones.",
		})
	}
	return found
}

func (v vitals) housekeeping() (found []store.Finding) {
	const bloat = "Every refresh leaves a dead row version; without vacuum the table grows and refreshes slow down."
	if v.autovacuum != "on" || v.trackCounts != "on" {
		found = append(found, store.Finding{
			Setting: "autovacuum",
			Seen:    "autovacuum " + v.autovacuum + ", track_counts " + v.trackCounts, Expected: "both on", Hint: bloat,
		})
	}
	if v.familiesOff {
		found = append(found, store.Finding{Setting: "families.autovacuum_enabled", Seen: "off", Expected: "on", Hint: bloat})
	}
	if v.oldest > time.Hour {
		found = append(found, store.Finding{
			Setting: "oldest transaction", Seen: v.oldest.Round(time.Second).String(), Expected: "under 1h0m0s",
			Hint: "A transaction that stays open keeps every dead row version, also from another database if it has written there. " +
				"Find it in pg_stat_activity by xact_start, or in pg_prepared_xacts.",
		})
	}
	return found
}

func (db *DB) connections(v vitals) (found []store.Finding) {
	pool := db.Pool()
	if 2*pool.Max > pool.ServerMax {
		found = append(found, store.Finding{
			Setting: "max_connections", Grave: pool.Max > pool.ServerMax,
			Seen:     fmt.Sprintf("%d for ordinary roles, of which this node may take %d", pool.ServerMax, pool.Max),
			Expected: "room for at least two nodes, so that a rollout can overlap",
			Hint:     "Lower AUTHSERVER_DATABASE_CONNS or raise max_connections.",
		})
	}
	if v.pooled {
		found = append(found, store.Finding{
			Setting: "pooler", Seen: "a connection pooler stands between this node and Postgres",
			Expected: "a direct connection, or pgbouncer 1.21 or later with max_prepared_statements above 0",
			Hint:     "With an older pooler add default_query_exec_mode=exec to the URL; batches cost more there.",
		})
	}
	return found
}
