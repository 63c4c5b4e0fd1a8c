-- +goose Up

-- The ring's revision at which a refresh root key was revoked last: a server
-- whose keys are older may not rotate, or it would carry a family over to the
-- next root key, away from the revocation.
--
-- The rest of Postgres' migration has no counterpart: SQLite reads the user's row
-- from memory, and checks only constraints of the columns that a statement sets.
ALTER TABLE server_state ADD COLUMN roots_revision INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE server_state DROP COLUMN roots_revision;
