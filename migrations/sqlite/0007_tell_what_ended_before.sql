-- +goose Up

-- What a version without a feed has ended not long ago: verifiers still take its
-- access tokens. Instants are microseconds.
INSERT INTO revocations (kind, subject, not_before, until, status_index)
WITH life (life, now) AS (
    SELECT coalesce(max(signs_for), 0) + 120000000, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) FROM keys WHERE purpose = 'sign'),
ended (kind, id, not_before, status_index) AS (
    SELECT 'session', lower(hex(s.id)), (s.ended_at / 1000000 + 21) * 1000000, s.status_index
    FROM sessions s, life WHERE s.ended_at > life.now - life.life
    UNION ALL
    SELECT 'user', lower(hex(u.id)), (u.disabled_at / 1000000 + 1) * 1000000, NULL
    FROM users u, life WHERE u.disabled_at > life.now - life.life),
told (kind, subject, not_before, status_index) AS (
    SELECT kind, substr(id, 1, 8) || '-' || substr(id, 9, 4) || '-' || substr(id, 13, 4) || '-' || substr(id, 17, 4) || '-' || substr(id, 21), not_before, status_index
    FROM ended)
SELECT t.kind, t.subject, t.not_before, t.not_before + life.life, t.status_index FROM told t, life
WHERE NOT EXISTS (SELECT 1 FROM revocations r WHERE r.kind = t.kind AND r.subject = t.subject);

-- +goose Down
SELECT 1;
