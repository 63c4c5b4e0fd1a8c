-- +goose Up

-- The sweep walks the table in the order of its rowids, and nothing else asks for
-- an absolute end: each birth and each deletion wrote a page of an index that no
-- statement reads.
DROP INDEX families_absolute_end;

-- The floor below which no living family is left: as long as it equals the floor,
-- nobody reads the whole table in search of one. An older binary does not write it,
-- and then it is read once more.
ALTER TABLE server_state ADD COLUMN floor_swept INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE server_state DROP COLUMN floor_swept;
CREATE INDEX families_absolute_end ON families (absolute_end);
