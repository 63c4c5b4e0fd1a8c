-- +goose Up

SELECT set_config('lock_timeout', COALESCE(NULLIF(current_setting('authserver.patience', true), ''), '500ms'), true); -- whoever waits for a table lock holds everybody up who comes later

-- The place of a session's tokens in the status lists, fixed at birth; NULL
-- where they have none. Families repeat it, because a rotation reads no session.
ALTER TABLE sessions ADD COLUMN status_index bigint;
ALTER TABLE families ADD COLUMN status_index bigint;
ALTER TABLE revocations ADD COLUMN status_index bigint;

-- The next place that nobody has. Nodes take blocks of them; a node that dies
-- wastes what is left of its block.
CREATE TABLE status_counter (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    next bigint NOT NULL DEFAULT 1 CHECK (next >= 1)
);
INSERT INTO status_counter (one) VALUES (true);

-- +goose Down
DROP TABLE status_counter;
ALTER TABLE revocations DROP COLUMN status_index;
ALTER TABLE families DROP COLUMN status_index;
ALTER TABLE sessions DROP COLUMN status_index;
