package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/authserver/internal/refresh"
)

// BatchLimits implements refresh.Store. Two in flight keep the server busy
// while one of them waits for the disk.
func (Families) BatchLimits() refresh.BatchLimits {
	return refresh.BatchLimits{Size: 256, InFlight: batchesInFlight}
}

// rotateBatch is row 6 of the table for every member that is certainly there:
// its WHERE is narrower than refresh.Judge, its SET is refresh.Outcome.rotate.
// Of what a request proves it takes the strongest proof alone; a family bound
// to another one is left to Judge.
//
// It reads no row but the family's own and the one of server_state. What it asks
// of the user stands in the family, where a trigger on users writes it; where it
// does not, the member is one for rotateNewcomers. The floor is read, not locked:
// whoever raises it or ends a session writes the family row too, and then this
// statement, having waited for the row, checks its condition again on what it
// finds.
//
// "= ANY (ARRAY[...])" says = in a way that leads from the array to the family
// and never back, and the ends are one expression that no index answers: on
// tables that it takes for empty the planner would otherwise scan families, and
// keep that plan while they grow.
//
// A caller whose keys are older than the last revocation of a root key rotates
// nothing.
//
// The state is one row, read once for the whole batch: joined, it would be
// looked up for every member. What the caller knows from its own call is not
// returned.
const rotateBatch = "-- name: refresh.rotate_batch" + rotateSet + rotateFrom + rotateWhere + `
		AND f.roles IS NOT NULL` + rotateReturning

// rotateNewcomers is rotateBatch for families that do not know their user yet:
// those of a binary before migration 5. It asks users, which are read and not
// locked, and writes down what they say, once for each family. A change of the
// user meanwhile either overwrites that, or comes first: then roles are no
// longer NULL when the condition is checked again. They never become NULL again.
const rotateNewcomers = "-- name: refresh.rotate_newcomers" + rotateSet + `,
		roles = u.roles, tokens_from = u.tokens_from` + rotateFrom + `,
		users u` + rotateWhere + `
		AND f.roles IS NULL AND u.id = ANY (ARRAY[f.user_id]) AND u.disabled_at IS NULL` + rotateReturning

// What both are made of.
const (
	rotateSet = `
	UPDATE families f SET
		user_agent = a.user_agent, ip = a.ip, sender = a.sender,
		generation = f.generation + 1, head_key = a.new_key,
		foreign_streak = CASE WHEN f.foreign_seen THEN least(f.foreign_streak + 1, 2) ELSE 0 END,
		foreign_seen = false,
		key_fresh = a.retry_key IS NOT NULL AND a.retry_key IS DISTINCT FROM f.retry_key,
		retry_key = a.retry_key,
		head_born = COALESCE($1, now()), used_at = COALESCE($1, now())`
	rotateFrom = `
	FROM unnest($2::uuid[], $3::int4[], $4::int2[], $5::bytea[], $6::text[], $7::text[], $8::bytea[],
			$9::bytea[], $10::text[], $11::text[], $12::int2[], $13::interval[], $14::text[])
			WITH ORDINALITY AS a (id, generation, key, secret_hash, client, transport, retry_key,
				sender, user_agent, ip, new_key, idle_ttl, proven, n)`
	rotateWhere = `
	WHERE f.id = ANY (ARRAY[a.id]) AND f.generation = a.generation AND f.head_key = a.key AND f.secret_hash = a.secret_hash
		AND f.client = a.client AND f.transport = a.transport
		AND (f.binding = '' OR f.binding = a.proven) AND f.rotates AND f.generation < 2147483647
		AND f.ended_at IS NULL
		AND NOT f.disabled
		AND f.born_at >= (SELECT CASE WHEN roots_revision <= $15 THEN floor ELSE 'infinity' END FROM server_state WHERE one)
		AND least(f.absolute_end, f.used_at + least(f.idle_ttl, a.idle_ttl)) > COALESCE($1, now())`
	rotateReturning = `
	RETURNING a.n, f.session_id, f.user_id, f.scope, f.audience, f.auth_time, f.amr, f.binding, f.remembered, f.idle_ttl, f.born_at,
		f.absolute_end, f.key_fresh, f.foreign_streak, f.late_at,
		f.refused_at, f.refused_as, f.refused_request, f.roles, (SELECT floor FROM server_state WHERE one), f.used_at,
		greatest(f.tokens_from, (SELECT tokens_from FROM server_state WHERE one)),
		COALESCE(f.status_index, 0)`
)

// rotating is one of the two statements, by the name that it has on a connection.
type rotating struct{ name, sql string }

var (
	ordinary  = rotating{"rotate_batch", rotateBatch}
	newcomers = rotating{"rotate_newcomers", rotateNewcomers}
)

// rotateOIDs are the types of the parameters of rotateBatch.
var rotateOIDs = []uint32{
	pgtype.TimestamptzOID, pgtype.UUIDArrayOID, pgtype.Int4ArrayOID, pgtype.Int2ArrayOID, pgtype.ByteaArrayOID,
	pgtype.TextArrayOID, pgtype.TextArrayOID, pgtype.ByteaArrayOID, pgtype.ByteaArrayOID, pgtype.TextArrayOID,
	pgtype.TextArrayOID, pgtype.Int2ArrayOID, 1187 /* interval[] */, pgtype.TextArrayOID, pgtype.Int8OID,
}

// binary asks for binary parameters and results alike.
var binary = []int16{pgtype.BinaryFormatCode}

// Keys of what a batch connection remembers.
const (
	pooledKey     = "authserver.pooled"
	statementsKey = "authserver.rotate." // and the name
)

// readyForBatches prepares a connection of the pool for batches. A connection
// whose backend is not the one that answered the handshake goes through a
// pooler; its settings would end up with strangers, so that they are made again
// in each batch.
//
// The plan is fixed: rows are found by primary key in the order of the array,
// in which two batches that share families cannot deadlock, and it is made once.
func readyForBatches(ctx context.Context, c *pgx.Conn) error {
	if err := teach(ctx, c); err != nil {
		return err
	}
	var backend uint32
	err := c.QueryRow(ctx, `-- name: batch.backend
		SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&backend)
	if err != nil {
		return fmt.Errorf("ask for the backend: %w", err)
	}
	if backend != c.PgConn().PID() {
		c.PgConn().CustomData()[pooledKey] = true
		return nil
	}
	if _, err := c.PgConn().Exec(ctx, batchSettings).ReadAll(); err != nil {
		return fmt.Errorf("set up a connection for batches: %w", err)
	}
	return nil
}

// batchSettings hold for the life of a connection. statement_timeout is off
// because it would cancel a commit.
const batchSettings = `-- name: batch.settings
	SET lock_timeout = '100ms'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '30s';
	SET default_transaction_isolation = 'read committed';
	SET plan_cache_mode = 'force_generic_plan'; SET enable_hashjoin = off; SET enable_mergejoin = off;
	SET enable_seqscan = off; SET jit = off`

// pooledBounds makes the settings of a batch that goes through a pooler, in
// the same implicit transaction and round trip.
const pooledBounds = `-- name: batch.pooled_bounds
	SELECT set_config('lock_timeout', '100ms', true), set_config('statement_timeout', '0', true),
		set_config('enable_seqscan', 'off', true)`

// RotateBatch implements refresh.Store: one statement, one round trip, one
// commit. Where families were met lately that do not know their user, what is
// undecided is tried once more as newcomers, in a commit of its own. ctx bounds
// the wait; when it ends, the connection is given up and what became of the batch
// is unknown. A crash leaves all of it or nothing, or all but the newcomers.
func (s Families) RotateBatch(ctx context.Context, batch []refresh.Call) ([]*refresh.Outcome, error) {
	outcomes, err := s.rotateTwice(ctx, ordinary, batch)
	if err != nil || time.Now().Unix() > s.db.newcomers.Load() {
		return outcomes, err
	}
	var undecided []refresh.Call
	var places []int
	for i, out := range outcomes {
		if out == nil {
			undecided, places = append(undecided, batch[i]), append(places, i)
		}
	}
	if len(undecided) == 0 {
		return outcomes, nil
	}
	known, err := s.rotateTwice(ctx, newcomers, undecided)
	if errors.Is(err, errWarned) {
		return nil, err
	}
	if err != nil {
		// The others have been rotated and are told so. These are judged alone: if
		// they were rotated as well, they now come with the token before the head.
		return outcomes, nil //nolint:nilerr // rotateOnce has told of it
	}
	for i, place := range places {
		if outcomes[place] = known[i]; known[i] != nil {
			s.db.newcomers.Store(time.Now().Add(newcomersFor).Unix())
		}
	}
	return outcomes, nil
}

// newcomersFor is for how long after a family that does not know its user
// others are looked for in each batch.
const newcomersFor = time.Minute

// rotateTwice tries once more what lost a tie, and what met a locked row, without those
// that are locked: another node rotates such a family, or somebody's forgotten psql holds
// it, and it is judged alone.
func (s Families) rotateTwice(ctx context.Context, how rotating, batch []refresh.Call) ([]*refresh.Outcome, error) {
	outcomes, err := s.rotateOnce(ctx, how, batch)
	if !errors.Is(err, refresh.ErrRefused) {
		return outcomes, err
	}
	switch {
	case lostTie(err):
		if s.db.retried != nil {
			s.db.retried("refresh."+how.name, err)
		}
		return s.rotateOnce(ctx, how, batch)
	case isLocked(err) && len(batch) > 1:
		return s.rotateFree(ctx, how, batch)
	}
	return outcomes, err
}

// freeOf returns the families whose rows nobody holds at this moment.
func (s Families) freeOf(ctx context.Context, ids [][16]byte) (free [][16]byte, err error) {
	conn, _, err := s.db.forBatch(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a database connection: %w", err)
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, `-- name: refresh.free
		SELECT id FROM families WHERE id = ANY ($1::uuid[]) FOR NO KEY UPDATE SKIP LOCKED`, pgx.QueryExecModeExec, ids)
	if err == nil {
		free, err = pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	}
	if err != nil {
		s.db.mind(conn, err)
	}
	return free, err
}

// rotateFree rotates those of a batch whose rows nobody holds. The others are Held.
func (s Families) rotateFree(ctx context.Context, how rotating, batch []refresh.Call) ([]*refresh.Outcome, error) {
	ids := make([][16]byte, len(batch))
	for i, c := range batch {
		ids[i] = c.Attempt.Family
	}
	free, err := s.freeOf(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("%w: ask which rows are free: %w", refresh.ErrRefused, err)
	}
	var calls []refresh.Call
	var places []int
	for i, family := range ids {
		if slices.Contains(free, family) {
			calls, places = append(calls, batch[i]), append(places, i)
		}
	}
	outcomes := slices.Repeat([]*refresh.Outcome{refresh.Held}, len(batch))
	if len(calls) == 0 {
		return outcomes, nil
	}
	rotated, err := s.rotateOnce(ctx, how, calls)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		outcomes[place] = rotated[i]
	}
	return outcomes, nil
}

func (s Families) rotateOnce(ctx context.Context, how rotating, batch []refresh.Call) ([]*refresh.Outcome, error) {
	conn, lent, err := s.db.forBatch(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a database connection for a batch of %d: %w", len(batch), err)
	}
	defer conn.Release()
	pg := conn.Conn().PgConn()
	forgetWarning(pg)

	r := rotations.Get().(*rotation)
	defer rotations.Put(r)
	r.board(batch, s.db.clock())
	outcomes := make([]*refresh.Outcome, len(batch))
	err = r.fly(ctx, pg, lent, how, batch, outcomes)
	if err == nil {
		err = warned(pg)
	}
	if err == nil {
		return outcomes, nil
	}
	err = fmt.Errorf("rotate a batch of %d: %w", len(batch), err)
	code := codeOf(err)
	switch {
	case code == "" || pg.IsClosed() || serverGoes(code) || warned(pg) != nil:
		// No answer, or none to rely on: nobody knows what was committed.
		s.db.mind(conn, err)
		abandon(conn)
		return nil, err
	case code == noSuchStatement || code == planChanged:
		abandon(conn) // the next connection prepares it anew
	}
	return nil, fmt.Errorf("%w: %w", refresh.ErrRefused, err)
}

// forBatch acquires a connection for a batch. Where the server grants no more of them, it is
// one that ordinary statements have: it is lent, and has not the settings of the others.
func (db *DB) forBatch(ctx context.Context) (conn *pgxpool.Conn, lent bool, err error) {
	if now := time.Now(); now.UnixNano() >= db.lending.Load() || db.batch.Stat().IdleConns() > 0 {
		conn, err = db.batch.Acquire(ctx)
		if codeOf(err) != tooManyConns {
			return conn, false, err
		}
		db.lending.Store(now.Add(lendingFor).UnixNano())
	}
	conn, err = db.main.Acquire(ctx)
	return conn, true, err
}

// lendingFor is for how long a server that granted no connection is not asked for another one:
// to refuse costs it a process, and whoever flies waits for that.
const lendingFor = time.Second

// fly sends the statement and reads the outcomes. Over a lent connection it brings its
// settings along, as through a pooler.
func (r *rotation) fly(ctx context.Context, pg *pgconn.PgConn, lent bool, how rotating, batch []refresh.Call, outcomes []*refresh.Outcome) error {
	if pooled, _ := pg.CustomData()[pooledKey].(bool); pooled || lent {
		return r.flyPooled(ctx, pg, how, batch, outcomes)
	}
	statement, ok := pg.CustomData()[statementsKey+how.name].(*pgconn.StatementDescription)
	if !ok {
		// Not at connect: the schema may not be there yet.
		var err error
		if statement, err = pg.Prepare(ctx, "refresh_"+how.name, how.sql, rotateOIDs); err != nil {
			return err
		}
		pg.CustomData()[statementsKey+how.name] = statement
	}
	result := pg.ExecStatement(ctx, statement, r.values[:], binary, binary)
	read := r.land(result, batch, outcomes)
	if _, err := result.Close(); err != nil {
		return err
	}
	return read
}

// flyPooled is fly through a pooler, with unnamed statements, which every
// pooler passes on.
func (r *rotation) flyPooled(ctx context.Context, pg *pgconn.PgConn, how rotating, batch []refresh.Call, outcomes []*refresh.Outcome) error {
	var b pgconn.Batch
	b.ExecParams(pooledBounds, nil, nil, nil, nil)
	b.ExecParams(how.sql, r.values[:], rotateOIDs, binary, binary)
	results := pg.ExecBatch(ctx, &b)
	var read error
	for n := 0; results.NextResult(); n++ {
		if n == 1 {
			read = r.land(results.ResultReader(), batch, outcomes)
		}
		if _, err := results.ResultReader().Close(); err != nil {
			break // Close reports it again
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	return read
}
