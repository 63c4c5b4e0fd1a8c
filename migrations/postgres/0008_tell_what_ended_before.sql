-- +goose Up

SET LOCAL statement_timeout = 0; -- it reads two tables of any size

-- What a version without a feed, or without the triggers of 0007, has ended not
-- long ago, perhaps by a clock that was ahead: verifiers still take its access
-- tokens. No lock is taken meanwhile, and none is needed: from 0007 on nothing
-- ends that is not told of.
INSERT INTO revocations (kind, subject, not_before, until, status_index)
WITH life AS MATERIALIZED (SELECT feed_life() AS life),
ended AS (
    SELECT 'session' AS kind, s.id::text AS subject, date_trunc('second', least(s.ended_at, now())) + interval '21 seconds' AS not_before, s.status_index
    FROM sessions s, life WHERE s.ended_at > now() - life.life
    UNION ALL
    SELECT 'user', u.id::text, date_trunc('second', least(u.disabled_at, now())) + interval '1 second', NULL
    FROM users u, life WHERE u.disabled_at > now() - life.life
        AND EXISTS (SELECT FROM sessions s WHERE s.user_id = u.id)) -- who never logged in has no token
SELECT e.kind, e.subject, e.not_before, e.not_before + life.life, e.status_index FROM ended e, life
WHERE NOT EXISTS (SELECT FROM revocations r WHERE r.kind = e.kind AND r.subject = e.subject AND r.not_before >= e.not_before);

-- +goose Down
SELECT 1;
