-- +goose Up

-- Not for long: while this waits, so does everybody who comes after it. Whoever
-- migrates tries again.
SELECT set_config('lock_timeout', COALESCE(NULLIF(current_setting('authserver.patience', true), ''), '500ms'), true);

-- The sweep walks the table in the order in which its rows lie, and nothing else
-- asks for an absolute end: each birth and each vacuum paid for an index that no
-- statement reads.
DROP INDEX families_absolute_end;

-- The floor below which no living family is left: as long as it equals the floor,
-- nobody reads the whole table in search of one. An older binary does not write it,
-- and then it is read once more.
ALTER TABLE server_state ADD COLUMN floor_swept timestamptz NOT NULL DEFAULT 'epoch';

-- +goose Down
ALTER TABLE server_state DROP COLUMN floor_swept;
CREATE INDEX families_absolute_end ON families (absolute_end);
