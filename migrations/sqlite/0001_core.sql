-- +goose Up

-- Ids are BLOBs of 16 bytes, instants INTEGER microseconds since 1970 UTC,
-- durations INTEGER microseconds, lists of strings JSON arrays. The key of a
-- one-row table is INT: INTEGER PRIMARY KEY would count its rows by itself.

-- What a binary must know before it dares to start. One row.
CREATE TABLE schema_info (
    one             INT NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    compatible_from INTEGER NOT NULL CHECK (compatible_from >= 1)
) STRICT;

-- What belongs to the whole installation. One row, made by the first start.
CREATE TABLE server_state (
    one            INT NOT NULL PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    issuer         TEXT NOT NULL CHECK (issuer <> ''),
    master_id      BLOB NOT NULL CHECK (length(master_id) = 8),
    ring_revision  INTEGER NOT NULL DEFAULT 0,
    -- Everything born before this instant is revoked (mass revocation).
    floor          INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE users (
    id                 BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    email              TEXT NOT NULL CHECK (email <> ''),
    email_key          TEXT NOT NULL UNIQUE CHECK (email_key <> ''),
    created_at         INTEGER NOT NULL,
    disabled_at        INTEGER,
    roles              TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(roles) AND json_type(roles) = 'array'),
    credential_version INTEGER NOT NULL DEFAULT 1 CHECK (credential_version BETWEEN 1 AND 2147483647)
) STRICT;

-- Apart from users, as on Postgres, where a rehash must not wait for the row
-- that births hold.
CREATE TABLE passwords (
    user_id    BLOB NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash       TEXT NOT NULL CHECK (hash <> ''),
    scheme     TEXT NOT NULL CHECK (scheme <> ''),
    changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX passwords_scheme ON passwords (scheme);

CREATE TABLE sessions (
    id           BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BLOB NOT NULL REFERENCES users (id),
    kind         TEXT NOT NULL CHECK (kind IN ('browser', 'offline')),
    client       TEXT NOT NULL CHECK (client <> ''),
    device_name  TEXT NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL,
    absolute_end INTEGER NOT NULL CHECK (absolute_end > created_at),
    ended_at     INTEGER,
    end_reason   TEXT,
    end_request  TEXT,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);

-- One row per family for its whole life. A rotation writes the moving columns
-- only; no index holds or filters on one of them, so that a rotation dirties
-- one page.
CREATE TABLE families (
    -- Fixed at birth.
    id             BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    session_id     BLOB NOT NULL REFERENCES sessions (id),
    user_id        BLOB NOT NULL REFERENCES users (id),
    client         TEXT NOT NULL CHECK (client <> ''),
    secret_hash    BLOB NOT NULL CHECK (length(secret_hash) = 32),
    scope          TEXT NOT NULL,
    audience       TEXT NOT NULL CHECK (json_valid(audience) AND json_array_length(audience) > 0),
    auth_time      INTEGER NOT NULL,
    amr            TEXT NOT NULL CHECK (json_valid(amr) AND json_type(amr) = 'array'),
    binding        TEXT NOT NULL CHECK (binding IN ('', 'client') OR binding GLOB 'dpop:?*' OR binding GLOB 'mtls:?*'),
    transport      TEXT NOT NULL CHECK (transport IN ('body', 'cookie')),
    rotates        INTEGER NOT NULL CHECK (rotates IN (0, 1) AND (rotates OR binding <> '')),
    remembered     INTEGER NOT NULL DEFAULT 0 CHECK (remembered IN (0, 1)),
    idle_ttl       INTEGER NOT NULL CHECK (idle_ttl > 0),
    born_at        INTEGER NOT NULL,
    absolute_end   INTEGER NOT NULL CHECK (absolute_end > born_at),
    -- Moving, side by side; first those that seldom change.
    user_agent     TEXT NOT NULL,
    ip             TEXT NOT NULL,
    sender         BLOB NOT NULL CHECK (length(sender) = 16),
    generation     INTEGER NOT NULL CHECK (generation BETWEEN 1 AND 2147483647),
    head_key       INTEGER NOT NULL CHECK (head_key BETWEEN 1 AND 255),
    foreign_streak INTEGER NOT NULL DEFAULT 0 CHECK (foreign_streak BETWEEN 0 AND 2),
    foreign_seen   INTEGER NOT NULL DEFAULT 0 CHECK (foreign_seen IN (0, 1)),
    key_fresh      INTEGER NOT NULL DEFAULT 0 CHECK (key_fresh IN (0, 1)),
    head_born      INTEGER NOT NULL,
    used_at        INTEGER NOT NULL,
    retry_key      BLOB CHECK (length(retry_key) = 16),
    late_at        INTEGER,
    -- Written once.
    ended_at       INTEGER,
    end_reason     TEXT,
    end_request    TEXT,
    refused_at     INTEGER,
    refused_as     TEXT,
    refused_request TEXT,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK (NOT key_fresh OR retry_key IS NOT NULL)
) STRICT;
CREATE INDEX families_user ON families (user_id);
CREATE INDEX families_session ON families (session_id);
CREATE INDEX families_absolute_end ON families (absolute_end);

-- Signing keys and refresh root keys. The state follows from the instants.
CREATE TABLE keys (
    purpose      TEXT NOT NULL CHECK (purpose IN ('sign', 'refresh')),
    algorithm    TEXT NOT NULL CHECK (algorithm <> ''),
    number       INTEGER NOT NULL CHECK (number >= 1 AND (purpose = 'sign' OR number <= 255)),
    kid          TEXT NOT NULL UNIQUE CHECK (kid <> ''),
    sealed       BLOB, -- NULL once destroyed
    master_id    BLOB CHECK (length(master_id) = 8),
    published_at INTEGER NOT NULL,
    active_at    INTEGER,
    revoked_at   INTEGER,
    signs_for    INTEGER NOT NULL CHECK (signs_for >= 0),
    PRIMARY KEY (purpose, algorithm, number),
    CHECK ((sealed IS NULL) = (master_id IS NULL))
) STRICT;

-- Counters of failures; budget is a hash of what is counted.
CREATE TABLE budgets (
    budget       BLOB NOT NULL PRIMARY KEY CHECK (length(budget) = 16),
    failures     INTEGER NOT NULL CHECK (failures >= 0),
    closed_until INTEGER NOT NULL,
    forget_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX budgets_forget_at ON budgets (forget_at);

CREATE TABLE known_networks (
    user_id  BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network  TEXT NOT NULL CHECK (network <> ''),
    login_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
) STRICT, WITHOUT ROWID;
CREATE INDEX known_networks_login_at ON known_networks (login_at);

-- Who does the housekeeping. A lease is an accelerator: work done twice is harmless.
CREATE TABLE leases (
    name   TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until  INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_events (
    id         BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind <> ''),
    actor      TEXT NOT NULL CHECK (actor <> ''),
    user_id    BLOB CHECK (length(user_id) = 16),
    session_id BLOB CHECK (length(session_id) = 16),
    family_id  BLOB CHECK (length(family_id) = 16),
    request_id TEXT NOT NULL DEFAULT '',
    details    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details) AND json_type(details) = 'object')
) STRICT;
CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_user ON audit_events (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_session ON audit_events (session_id, at) WHERE session_id IS NOT NULL;
CREATE INDEX audit_events_family ON audit_events (family_id, at) WHERE family_id IS NOT NULL;
CREATE INDEX audit_events_request ON audit_events (request_id) WHERE request_id <> '';

INSERT INTO schema_info (one, compatible_from) VALUES (1, 1);

-- +goose Down
DROP TABLE audit_events;
DROP TABLE leases;
DROP TABLE known_networks;
DROP TABLE budgets;
DROP TABLE keys;
DROP TABLE families;
DROP TABLE sessions;
DROP TABLE passwords;
DROP TABLE users;
DROP TABLE server_state;
DROP TABLE schema_info;
