-- +goose Up

SELECT set_config('lock_timeout', COALESCE(NULLIF(current_setting('authserver.patience', true), ''), '500ms'), true); -- whoever waits for a table lock holds everybody up who comes later

-- What ended before its time and could still be alive as an access token, for
-- the revocation feed. A transaction that ends something adds its entry
-- without a number: numbers of a sequence would not be in the order of the
-- commits, and readers would miss the late ones for ever.
CREATE TABLE revocations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Given by whichever node finds the entry committed; NULL until then.
    seq        bigint UNIQUE CHECK (seq >= 1),
    kind       text NOT NULL CHECK (kind IN ('session', 'grant', 'user', 'client', 'key', 'all')),
    subject    text NOT NULL CHECK (subject <> ''),
    not_before timestamptz NOT NULL CHECK (not_before = date_trunc('second', not_before)),
    until      timestamptz NOT NULL CHECK (until > not_before)
);
CREATE INDEX revocations_unnumbered ON revocations (id) WHERE seq IS NULL;
CREATE INDEX revocations_until ON revocations (until);

-- The newest number that was given. Who numbers holds this row.
CREATE TABLE revocation_counter (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    newest bigint NOT NULL DEFAULT 0 CHECK (newest >= 0)
);
INSERT INTO revocation_counter (one) VALUES (true);

-- No access token of this user, or of anybody, is dated before this instant:
-- what is older is in the feed.
ALTER TABLE users ADD COLUMN tokens_from timestamptz;
ALTER TABLE server_state ADD COLUMN tokens_from timestamptz;

-- +goose Down
ALTER TABLE server_state DROP COLUMN tokens_from;
ALTER TABLE users DROP COLUMN tokens_from;
DROP TABLE revocation_counter, revocations;
