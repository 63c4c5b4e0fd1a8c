-- +goose Up

-- What a version without a feed, or without the triggers of 0007, has ended not
-- long ago: verifiers still take its access tokens. No lock is taken meanwhile,
-- and none is needed: from 0007 on nothing ends that is not told of.
INSERT INTO revocations (kind, subject, not_before, until, status_index)
WITH life AS (SELECT COALESCE(max(signs_for), interval '0') + interval '120 seconds' AS life FROM keys WHERE purpose = 'sign'),
ended AS (
    SELECT 'session' AS kind, s.id::text AS subject, date_trunc('second', s.ended_at) + interval '21 seconds' AS not_before, s.status_index
    FROM sessions s, life WHERE s.ended_at > now() - life.life
    UNION ALL
    SELECT 'user', u.id::text, date_trunc('second', u.disabled_at) + interval '1 second', NULL
    FROM users u, life WHERE u.disabled_at > now() - life.life)
SELECT e.kind, e.subject, e.not_before, e.not_before + life.life, e.status_index FROM ended e, life
WHERE NOT EXISTS (SELECT FROM revocations r WHERE r.kind = e.kind AND r.subject = e.subject);

-- +goose Down
SELECT 1;
