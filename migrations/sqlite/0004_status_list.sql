-- +goose Up

-- The place of a session's tokens in the status lists, fixed at birth; NULL
-- where they have none. Families repeat it, because a rotation reads no session.
ALTER TABLE sessions ADD COLUMN status_index INTEGER;
ALTER TABLE families ADD COLUMN status_index INTEGER;
ALTER TABLE revocations ADD COLUMN status_index INTEGER;

-- The next place that nobody has. Nodes take blocks of them; a node that dies
-- wastes what is left of its block.
CREATE TABLE status_counter (
    one  INT NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    next INTEGER NOT NULL DEFAULT 1 CHECK (next >= 1)
) STRICT;
INSERT INTO status_counter (one) VALUES (1);

-- +goose Down
DROP TABLE status_counter;
ALTER TABLE revocations DROP COLUMN status_index;
ALTER TABLE families DROP COLUMN status_index;
ALTER TABLE sessions DROP COLUMN status_index;
