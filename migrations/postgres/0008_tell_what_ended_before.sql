-- +goose Up

SET LOCAL statement_timeout = 0; -- it reads two tables of any size

-- What a version without a feed, or without the triggers of 0007, has ended not
-- long ago: verifiers still take its access tokens. No lock is taken meanwhile,
-- and none is needed: from 0007 on nothing ends that is not told of.
INSERT INTO revocations (kind, subject, not_before, until, status_index)
WITH ended AS (
    SELECT 'session' AS kind, s.id::text AS subject, date_trunc('second', s.ended_at) + interval '21 seconds' AS not_before, s.status_index
    FROM sessions s WHERE s.ended_at BETWEEN now() - feed_life() AND now()
    UNION ALL
    SELECT 'user', u.id::text, date_trunc('second', u.disabled_at) + interval '1 second', NULL
    FROM users u WHERE u.disabled_at BETWEEN now() - feed_life() AND now())
SELECT e.kind, e.subject, e.not_before, e.not_before + feed_life(), e.status_index FROM ended e
WHERE NOT EXISTS (SELECT FROM revocations r WHERE r.kind = e.kind AND r.subject = e.subject AND r.not_before >= e.not_before);

-- +goose Down
SELECT 1;
