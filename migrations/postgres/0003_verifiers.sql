-- +goose Up

-- Who fetched the key set, and which one they got last: the evidence behind
-- keys status. Networks and not the addresses of people; swept when unseen for
-- 30 days. The row without a network stands for all that were one too many.
CREATE TABLE verifiers (
    network    text COLLATE "C" NOT NULL,
    user_agent text COLLATE "C" NOT NULL CHECK (octet_length(user_agent) <= 256),
    etag       text NOT NULL CHECK (etag <> ''),
    set_at     timestamptz NOT NULL, -- when that set gained or lost a key
    first_at   timestamptz NOT NULL,
    fetched_at timestamptz NOT NULL CHECK (fetched_at >= first_at),
    PRIMARY KEY (network, user_agent)
);
CREATE INDEX verifiers_fetched_at ON verifiers (fetched_at);

-- +goose Down
DROP TABLE verifiers;
