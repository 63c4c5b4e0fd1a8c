-- +goose Up

-- Nothing changes here: SQLite reads the user's row from memory and checks only
-- constraints of the columns that a statement sets. The number is Postgres'.
SELECT 1;

-- +goose Down
SELECT 1;
