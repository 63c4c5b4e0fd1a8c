-- +goose Up

-- Who fetched the key set, and which one they got last: the evidence behind
-- keys status. Networks and not the addresses of people; swept when unseen for
-- 30 days. The row without a network stands for all that were one too many.
CREATE TABLE verifiers (
    network    TEXT NOT NULL,
    user_agent TEXT NOT NULL CHECK (length(CAST(user_agent AS BLOB)) <= 256),
    etag       TEXT NOT NULL CHECK (etag <> ''),
    set_at     INTEGER NOT NULL, -- when that set gained or lost a key
    first_at   INTEGER NOT NULL,
    fetched_at INTEGER NOT NULL CHECK (fetched_at >= first_at),
    PRIMARY KEY (network, user_agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX verifiers_fetched_at ON verifiers (fetched_at);

-- +goose Down
DROP TABLE verifiers;
