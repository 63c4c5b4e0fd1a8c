-- +goose Up

-- What ended before its time and could still be alive as an access token, for
-- the revocation feed. Writers follow each other here, so the numbers that
-- AUTOINCREMENT gives are in the order of the commits, and none is given twice:
-- sqlite_sequence is the counter.
CREATE TABLE revocations (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq >= 1),
    kind       TEXT NOT NULL CHECK (kind IN ('session', 'grant', 'user', 'client', 'key', 'all')),
    subject    TEXT NOT NULL CHECK (subject <> ''),
    not_before INTEGER NOT NULL CHECK (not_before % 1000000 = 0),
    until      INTEGER NOT NULL CHECK (until > not_before)
) STRICT;
CREATE INDEX revocations_until ON revocations (until);

-- No access token of this user, or of anybody, is dated before this instant:
-- what is older is in the feed.
ALTER TABLE users ADD COLUMN tokens_from INTEGER;
ALTER TABLE server_state ADD COLUMN tokens_from INTEGER;

-- +goose Down
ALTER TABLE server_state DROP COLUMN tokens_from;
ALTER TABLE users DROP COLUMN tokens_from;
DROP TABLE revocations;
