package obs_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/authserver/internal/httpd"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/obs"
	"example.com/authserver/internal/password"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/revocation"
	"example.com/authserver/internal/store"
)

// What the rooms and the listeners ask for.
var (
	_ refresh.Observer  = (*obs.Metrics)(nil)
	_ login.Observer    = (*obs.Metrics)(nil)
	_ password.Observer = (*obs.Metrics)(nil)
	_ keys.Observer     = (*obs.Metrics)(nil)
	_ httpd.Observer    = (*obs.Metrics)(nil)

	_ revocation.Observer = (*obs.Metrics)(nil)
)

func scrape(t *testing.T, m *obs.Metrics) string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestMetrics_everyVerdictIsThereFromTheStart(t *testing.T) {
	m := obs.New(obs.Build{Version: "1", Revision: "abc", Go: "go1"}, slog.New(slog.DiscardHandler))
	text := scrape(t, m)
	for _, outcome := range []string{"rotated", "replayed", "kept", "reused", "revoked", "expired", "unproven", "unknown"} {
		if want := `authserver_refresh_total{outcome="` + outcome + `"} 0`; !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if n := strings.Count(text, "authserver_refresh_total{"); n != 8 {
		t.Errorf("%d outcomes, want 8", n)
	}
	if !strings.Contains(text, `authserver_build_info{goversion="go1",revision="abc",version="1"} 1`) {
		t.Error("build_info is missing")
	}
}

// Names and units, as an operator's rules rely on them.
func TestMetrics_names(t *testing.T) {
	m := obs.New(obs.Build{}, slog.New(slog.DiscardHandler))
	m.WatchPool(func() store.Pool { return store.Pool{Max: 8, Open: 3, Busy: 1} })
	m.WatchHashing(func() int { return 2 }, func() int { return 5 })
	born := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	m.WatchKeys(func() (keys.Status, error) {
		return keys.Status{At: born.Add(time.Hour), Keys: []keys.Line{
			{Algorithm: keys.ES256, KID: "k1", State: keys.Active, PublishedAt: born},
			{Algorithm: keys.ES256, KID: "k0", State: keys.Gone, PublishedAt: born},
		}}, nil
	})
	m.WatchFeed(func() revocation.Status {
		return revocation.Status{Read: true, Age: 1500 * time.Millisecond, Entries: 3, Newest: 12, Streams: 2}
	})
	m.FeedRead(time.Millisecond, nil)
	m.WatchVerifiers(func() (keys.Evidence, bool) { return keys.Evidence{Newest: 5, Older: 2, Unknown: 1}, true }, func() uint64 { return 9 })
	m.Redeemed(refresh.Reused, refresh.ReasonTooOld)
	m.BatchDone(3, time.Millisecond, nil)
	m.BatchDone(1, time.Millisecond, errors.New("x"))
	m.LoggedIn("opened")
	m.Hashed("argon2id", 20*time.Millisecond)
	m.Shed()
	m.Issued("refresh", "access", "ES256")
	m.Signed("ES256", 40*time.Microsecond)
	m.Served("/v1/refresh", "POST", 200, time.Millisecond)
	text := scrape(t, m)
	for _, want := range []string{
		`authserver_refresh_total{outcome="reused"} 1`,
		"authserver_refresh_batch_size_sum 4", "authserver_refresh_batch_seconds_count 2", "authserver_refresh_batch_failures_total 1",
		`authserver_login_total{method="password",outcome="opened"} 1`,
		`authserver_password_hash_duration_seconds_count{kind="argon2id"} 1`, "authserver_password_hash_shed_total 1",
		"authserver_password_hash_inflight 2", "authserver_password_hash_queue 5",
		`authserver_tokens_issued_total{alg="ES256",grant="refresh",type="access"} 1`,
		`authserver_sign_duration_seconds_bucket{alg="ES256",le="5e-05"} 1`,
		`authserver_http_request_duration_seconds_count{code="200",method="POST",route="/v1/refresh"} 1`,
		`authserver_key_info{alg="ES256",kid="k1",state="active"} 1`, `authserver_key_info{alg="ES256",kid="k0",state="gone"} 1`,
		`authserver_key_age_seconds{alg="ES256",kid="k1"} 3600`,
		"authserver_revocation_feed_age_seconds 1.5", "authserver_revocation_feed_entries 3", "authserver_revocation_feed_seq 12",
		"authserver_revocation_feed_streams 2", "authserver_revocation_feed_read_seconds_count 1",
		`authserver_jwks_verifiers{holds="newest"} 5`, `authserver_jwks_verifiers{holds="older"} 2`,
		"authserver_jwks_fetches_unattributed_total 9",
		"authserver_db_pool_max_connections 8", "authserver_db_pool_open_connections 3", "authserver_db_pool_busy_connections 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, `authserver_key_age_seconds{alg="ES256",kid="k0"}`) {
		t.Error("a key that is gone has an age")
	}
}

func TestMetrics_countsOfManyAtOnceAddUp(t *testing.T) {
	m := obs.New(obs.Build{}, slog.New(slog.DiscardHandler))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 500 {
				m.Served("/v1/refresh", "POST", 200+i%5, time.Millisecond)
				m.Issued("refresh", "access", []string{"ES256", "EdDSA"}[i%2])
				m.Signed("ES256", time.Microsecond)
			}
		})
	}
	all.Wait()
	text := scrape(t, m)
	for _, want := range []string{
		`authserver_http_request_duration_seconds_count{code="204",method="POST",route="/v1/refresh"} 800`,
		`authserver_tokens_issued_total{alg="EdDSA",grant="refresh",type="access"} 2000`,
		`authserver_sign_duration_seconds_count{alg="ES256"} 4000`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestRing_theLogIsToldWhenReadingFailsAndWhenItWorksAgain(t *testing.T) {
	var log bytes.Buffer
	m := obs.New(obs.Build{}, obs.NewLogger(&log, slog.LevelInfo, obs.JSON))
	m.RingRead(time.Millisecond, 0, nil)
	for range 3 {
		m.RingRead(time.Millisecond, 0, io.ErrUnexpectedEOF)
	}
	for range 3 {
		m.RingRead(time.Millisecond, -1500*time.Millisecond, nil)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "unexpected EOF") || !strings.Contains(log.String(), "read again") {
		t.Errorf("the log says in %d lines:\n%s", n, &log)
	}
	text := scrape(t, m)
	for _, want := range []string{"authserver_key_ring_read_failures_total 3", "authserver_key_ring_read_seconds_count 7", "authserver_clock_offset_seconds -1.5"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestFeed_theLogIsToldWhenReadingFailsAndWhenItWorksAgain(t *testing.T) {
	var log bytes.Buffer
	m := obs.New(obs.Build{}, obs.NewLogger(&log, slog.LevelInfo, obs.JSON))
	m.FeedRead(time.Millisecond, nil)
	for range 3 {
		m.FeedRead(time.Millisecond, io.ErrUnexpectedEOF)
	}
	for range 3 {
		m.FeedRead(time.Millisecond, nil)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "unexpected EOF") || !strings.Contains(log.String(), "read again") {
		t.Errorf("the log says in %d lines:\n%s", n, &log)
	}
	if text := scrape(t, m); !strings.Contains(text, "authserver_revocation_feed_read_failures_total 3") {
		t.Error("the failures are not counted")
	}
}

func TestRing_stepsAreCountedAndTold(t *testing.T) {
	var log bytes.Buffer
	m := obs.New(obs.Build{}, obs.NewLogger(&log, slog.LevelInfo, obs.JSON))
	step := keys.Step{Do: keys.Publish, Key: keys.StoredKey{Purpose: keys.Sign, Algorithm: keys.ES256, Number: 2}, Why: "the standby is missing"}
	m.RingChanged([]keys.Step{step}, nil)
	m.RingChanged([]keys.Step{step}, keys.ErrRingChanged) // another node was first: no news
	m.RingChanged([]keys.Step{step}, io.ErrUnexpectedEOF)
	m.RingChanged(nil, io.ErrUnexpectedEOF)
	if n := strings.Count(log.String(), "\n"); n != 3 || !strings.Contains(log.String(), "sign ES256 2") || !strings.Contains(log.String(), "the standby is missing") {
		t.Errorf("the log says in %d lines:\n%s", n, &log)
	}
	text := scrape(t, m)
	for _, result := range []string{"done", "other_was_first", "failed"} {
		if want := `authserver_key_ring_changes_total{result="` + result + `",step="publish"} 1`; !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestLogger_formats(t *testing.T) {
	for format, want := range map[obs.Format]string{obs.JSON: `"level":"INFO","msg":"x","event":"y"`, obs.Text: "level=INFO msg=x event=y"} {
		var b bytes.Buffer
		log := obs.NewLogger(&b, slog.LevelInfo, format)
		log.Info("x", "event", "y")
		log.Debug("hidden")
		if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "hidden") {
			t.Errorf("%s: %s", format, &b)
		}
	}
}
