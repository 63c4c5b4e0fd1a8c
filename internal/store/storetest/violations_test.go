package storetest_test

import (
	"context"
	"database/sql"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/sqlite"
	"example.com/authserver/internal/store/storetest"
)

// broken is a database whose schema no longer refuses or mends anything, and the hand
// that breaks it.
type broken struct {
	store.Engine
	clock *storetest.Clock
	run   func(statement string) error
	// literal spells 16 bytes.
	literal func(id [16]byte) string
}

func brokenPostgres(t *testing.T) broken {
	url, clock := storetest.Postgres(t), storetest.NewClock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	db, err := postgres.Open(ctx, postgres.Options{URL: secret.NewText(url), MaxConns: 12, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	b := broken{
		Engine: db, clock: clock,
		run: func(statement string) error {
			_, err := conn.Exec(t.Context(), statement)
			return err
		},
		literal: func(id [16]byte) string { return "'" + hex.EncodeToString(id[:]) + "'::uuid" },
	}
	for _, statement := range []string{
		`DO $$ DECLARE c record; BEGIN
			FOR c IN SELECT conrelid::regclass AS at, conname FROM pg_constraint
				WHERE contype IN ('c', 'f') AND conrelid IN ('families'::regclass, 'sessions'::regclass, 'users'::regclass)
			LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.at, c.conname); END LOOP; END $$`,
		`DROP FUNCTION tell_feed, tell_feed_of_floor CASCADE`, // which would mend what is broken
	} {
		if err := b.run(statement); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func brokenSQLite(t *testing.T) broken {
	path, clock := filepath.Join(t.TempDir(), "authserver.db"), storetest.NewClock()
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	hand, err := sql.Open("sqlite", path+"?_pragma=ignore_check_constraints(1)&_pragma=foreign_keys(0)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	hand.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = hand.Close() })
	return broken{
		Engine: db, clock: clock,
		run: func(statement string) error {
			_, err := hand.ExecContext(t.Context(), statement)
			return err
		},
		literal: func(id [16]byte) string { return "x'" + hex.EncodeToString(id[:]) + "'" },
	}
}

// TestAuditSessions_findsWhatIsBroken breaks each invariant by hand and wants
// the audit to name it, and nothing before it was broken.
func TestAuditSessions_findsWhatIsBroken(t *testing.T) {
	for engine, open := range map[string]func(t *testing.T) broken{"postgres": brokenPostgres, "sqlite": brokenSQLite} {
		t.Run(engine, func(t *testing.T) {
			b := open(t)
			for _, c := range []struct{ invariant, subject, statement string }{
				{"family_has_session", "family", `DELETE FROM sessions WHERE id = SESSION`},
				{"family_has_user", "family", `DELETE FROM users WHERE id = USER`},
				{"session_has_user", "session", `DELETE FROM users WHERE id = USER`},
				{"session_has_family", "session", `DELETE FROM families WHERE id = FAMILY`},
				{"family_and_session_have_one_user", "family", `UPDATE sessions SET user_id = (SELECT id FROM users WHERE id <> USER ORDER BY id LIMIT 1) WHERE id = SESSION`},
				{"ended_session_has_no_living_family", "family", `UPDATE sessions SET ended_at = created_at, end_reason = 'logout' WHERE id = SESSION`},
				{"living_session_has_living_family", "session", `UPDATE families SET ended_at = born_at, end_reason = 'logout' WHERE id = FAMILY`},
				{"disabled_user_has_no_living_family", "family", `UPDATE users SET disabled_at = created_at WHERE id = USER`},
				{"disabled_user_has_no_living_session", "session", `UPDATE users SET disabled_at = created_at WHERE id = USER`},
				{"family_ends_within_session", "family", `UPDATE sessions SET absolute_end = created_at WHERE id = SESSION`},
				{"generation_from_one", "family", `UPDATE families SET generation = 0 WHERE id = FAMILY`},
				{"ended_with_reason", "family", `UPDATE families SET end_reason = 'logout' WHERE id = FAMILY`},
				{"session_ended_with_reason", "session", `UPDATE sessions SET end_reason = 'logout' WHERE id = SESSION`},
				{"refused_with_reason", "family", `UPDATE families SET refused_as = 'ended' WHERE id = FAMILY`},
				{"fresh_key_is_kept", "family", `UPDATE families SET key_fresh = true WHERE id = FAMILY`},
				{"unbound_family_rotates", "family", `UPDATE families SET rotates = false WHERE id = FAMILY`},
				{"streak_within_bounds", "family", `UPDATE families SET foreign_streak = 3 WHERE id = FAMILY`},
				{"head_used_after_birth", "family", `UPDATE families SET used_at = (SELECT created_at FROM users WHERE id = USER) WHERE id = FAMILY`},
				{"head_born_after_family", "family", `UPDATE families SET head_born = (SELECT created_at FROM users WHERE id = USER) WHERE id = FAMILY`},
				{"authenticated_before_birth", "family", `UPDATE families SET auth_time = absolute_end WHERE id = FAMILY`},
				{"ended_after_birth", "family", `UPDATE families SET ended_at = (SELECT created_at FROM users WHERE id = USER), end_reason = 'logout' WHERE id = FAMILY`},
				{"session_ended_after_birth", "session", `UPDATE sessions SET ended_at = (SELECT created_at FROM users WHERE id = USER), end_reason = 'logout' WHERE id = SESSION`},
				{"family_id_carries_user_tag", "family", `UPDATE families SET id = STRAY WHERE id = FAMILY`},
				{"reused_family_has_ended", "family", `UPDATE audit_events SET kind = 'refresh.reused', family_id = FAMILY WHERE session_id = SESSION`},
				{"session_said_to_have_ended_has", "session", `UPDATE audit_events SET kind = 'session.ended' WHERE session_id = SESSION`},
				{"instants_lie_in_the_past", "family", `UPDATE families SET used_at = absolute_end WHERE id = FAMILY`},
				{"ended_session_is_in_the_feed", "session", `UPDATE sessions SET ended_at = created_at, end_reason = 'logout' WHERE id = SESSION`},
				{"ended_family_is_in_the_feed", "family", `UPDATE families SET ended_at = born_at, end_reason = 'logout' WHERE id = FAMILY`},
				{"disabled_user_is_in_the_feed", "user", `UPDATE users SET disabled_at = (SELECT created_at FROM sessions WHERE id = SESSION) WHERE id = USER`},
				{"head_key_is_known", "family", `UPDATE families SET head_key = 77 WHERE id = FAMILY`},
				{"family_below_floor_has_ended", "family", `UPDATE server_state SET floor_swept = (SELECT absolute_end FROM families WHERE id = FAMILY)`},
			} {
				s := storetest.OneSession(t, b.Engine, b.clock)
				subject := "family " + s.Family.String()
				stray := s.Family
				stray[0], stray[1] = stray[0]^0xff, stray[1]^0xff
				switch {
				case c.subject == "session":
					subject = "session " + s.Session.String()
				case c.subject == "user":
					subject = "user " + s.User.String()
				case strings.Contains(c.statement, "STRAY"):
					subject = "family " + stray.String()
				}
				if found := about(t, b, subject); len(found) > 0 {
					t.Fatalf("before %s was broken: %v", c.invariant, found)
				}
				statement := strings.NewReplacer("SESSION", b.literal(s.Session), "FAMILY", b.literal(s.Family), "USER", b.literal(s.User), "STRAY", b.literal(stray)).Replace(c.statement)
				if err := b.run(statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
				if found := about(t, b, subject); !strings.Contains(strings.Join(found, " "), c.invariant) {
					t.Errorf("%s is broken for %s; the audit says %v", c.invariant, subject, found)
				}
			}
		})
	}
}

// TestAuditSessions_findsAKeyThatSignsBeforeItIsPublished: verifiers could not
// know it.
func TestAuditSessions_findsAKeyThatSignsBeforeItIsPublished(t *testing.T) {
	for engine, open := range map[string]func(t *testing.T) broken{"postgres": brokenPostgres, "sqlite": brokenSQLite} {
		t.Run(engine, func(t *testing.T) {
			b := open(t)
			s := storetest.OneSession(t, b.Engine, b.clock)
			ring, err := b.Keys().ReadRing(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			subject := "key " + ring.Keys[0].KID
			if found := about(t, b, subject); len(found) > 0 {
				t.Fatalf("before anything was broken: %v", found)
			}
			if err := b.run("UPDATE keys SET purpose = 'sign', published_at = (SELECT absolute_end FROM sessions WHERE id = " + b.literal(s.Session) + ")"); err != nil {
				t.Fatal(err)
			}
			if found := about(t, b, subject); len(found) != 1 || found[0] != "key_is_published_before_it_signs" {
				t.Errorf("the audit says %v", found)
			}
		})
	}
}

// about returns the invariants that the audit finds broken for one subject.
func about(t *testing.T, b broken, subject string) []string {
	t.Helper()
	violations, err := b.AuditSessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range violations {
		if v.Subject == subject {
			names = append(names, v.Invariant)
		}
	}
	return names
}

// TestDisabledUser_isRefusedWhateverTheFamilyRowsSay: a ban ends the families
// too, but the verdict does not rest on that.
func TestDisabledUser_isRefusedWhateverTheFamilyRowsSay(t *testing.T) {
	for engine, open := range map[string]func(t *testing.T) broken{"postgres": brokenPostgres, "sqlite": brokenSQLite} {
		t.Run(engine, func(t *testing.T) {
			b := open(t)
			s := storetest.OneSession(t, b.Engine, b.clock)
			if err := b.run("UPDATE users SET disabled_at = created_at WHERE id = " + b.literal(s.User)); err != nil {
				t.Fatal(err)
			}
			f, _, err := b.Families().Family(t.Context(), s.Family)
			if err != nil || f == nil || !f.EndedAt.IsZero() {
				t.Fatalf("want a family that lives: %+v, %v", f, err)
			}
			c := refresh.Call{
				Attempt: refresh.Attempt{
					Family: f.ID, Generation: f.Generation, Key: f.HeadKey, SecretHash: f.SecretHash, Client: f.Client,
					Transport: f.Transport, Sender: f.Sender, NewKey: 1, RequestID: "r",
				},
				Policy: refresh.Policy{IdleTTL: time.Hour, RetryWindow: time.Minute},
			}
			outs, err := b.Families().RotateBatch(t.Context(), []refresh.Call{c})
			if err != nil || outs[0] != nil {
				t.Errorf("the batch: %v, %v; want it undecided", outs, err)
			}
			out, err := b.Families().Redeem(t.Context(), c, time.Minute)
			if err != nil || out.Verdict != refresh.Revoked || out.Reason != refresh.ReasonDisabled {
				t.Errorf("alone: %s (%s), %v; want it revoked", out.Verdict, out.Reason, err)
			}
		})
	}
}
