-- +goose Up

-- Every indexed text is COLLATE "C": its order is that of its bytes, the same
-- in both stores, and no upgrade of the C library can break the index.

-- What a binary must know before it dares to start. One row.
CREATE TABLE schema_info (
    one             boolean PRIMARY KEY DEFAULT true CHECK (one),
    compatible_from integer NOT NULL CHECK (compatible_from >= 1)
);

-- What belongs to the whole installation. One row, made by the first start.
CREATE TABLE server_state (
    one            boolean PRIMARY KEY DEFAULT true CHECK (one),
    issuer         text NOT NULL CHECK (issuer <> ''),
    master_id      bytea NOT NULL CHECK (octet_length(master_id) = 8),
    ring_revision  bigint NOT NULL DEFAULT 0,
    -- Everything born before this instant is revoked (mass revocation).
    floor          timestamptz NOT NULL DEFAULT 'epoch'
);

CREATE TABLE users (
    id                 uuid PRIMARY KEY,
    email              text NOT NULL CHECK (email <> ''),
    email_key          text COLLATE "C" NOT NULL UNIQUE CHECK (email_key <> ''),
    created_at         timestamptz NOT NULL,
    disabled_at        timestamptz,
    roles              text[] NOT NULL DEFAULT '{}',
    credential_version integer NOT NULL DEFAULT 1 CHECK (credential_version >= 1)
);

-- Apart from users, so that a rehash does not wait for the row that births hold.
CREATE TABLE passwords (
    user_id    uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash       text NOT NULL CHECK (hash <> ''),
    scheme     text COLLATE "C" NOT NULL CHECK (scheme <> ''),
    changed_at timestamptz NOT NULL
);
CREATE INDEX passwords_scheme ON passwords (scheme);

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id),
    kind         text NOT NULL CHECK (kind IN ('browser', 'offline')),
    client       text NOT NULL CHECK (client <> ''),
    device_name  text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    absolute_end timestamptz NOT NULL CHECK (absolute_end > created_at),
    ended_at     timestamptz,
    end_reason   text,
    end_request  text,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_user ON sessions (user_id);

-- One row per family for its whole life. A rotation writes the moving columns
-- only; no index holds or filters on one of them, and the pages keep room, so
-- that a rotation is one HOT update.
CREATE TABLE families (
    -- Fixed at birth.
    id             uuid PRIMARY KEY,
    session_id     uuid NOT NULL REFERENCES sessions (id),
    user_id        uuid NOT NULL REFERENCES users (id),
    client         text NOT NULL CHECK (client <> ''),
    secret_hash    bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    scope          text NOT NULL,
    audience       text[] NOT NULL CHECK (cardinality(audience) > 0),
    auth_time      timestamptz NOT NULL,
    amr            text[] NOT NULL,
    binding        text NOT NULL CHECK (binding IN ('', 'client') OR binding LIKE 'dpop:_%' OR binding LIKE 'mtls:_%'),
    transport      text NOT NULL CHECK (transport IN ('body', 'cookie')),
    rotates        boolean NOT NULL CHECK (rotates OR binding <> ''),
    remembered     boolean NOT NULL DEFAULT false,
    idle_ttl       interval NOT NULL CHECK (idle_ttl > interval '0'),
    born_at        timestamptz NOT NULL,
    absolute_end   timestamptz NOT NULL CHECK (absolute_end > born_at),
    -- Moving, side by side; first those that seldom change.
    user_agent     text NOT NULL,
    ip             text NOT NULL,
    sender         bytea NOT NULL CHECK (octet_length(sender) = 16),
    generation     integer NOT NULL CHECK (generation >= 1),
    head_key       smallint NOT NULL CHECK (head_key BETWEEN 1 AND 255),
    foreign_streak smallint NOT NULL DEFAULT 0 CHECK (foreign_streak BETWEEN 0 AND 2),
    foreign_seen   boolean NOT NULL DEFAULT false,
    key_fresh      boolean NOT NULL DEFAULT false,
    head_born      timestamptz NOT NULL,
    used_at        timestamptz NOT NULL,
    retry_key      bytea CHECK (octet_length(retry_key) = 16),
    late_at        timestamptz,
    -- Written once.
    ended_at       timestamptz,
    end_reason     text,
    end_request    text,
    refused_at     timestamptz,
    refused_as     text,
    refused_request text,
    CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
    CHECK (NOT key_fresh OR retry_key IS NOT NULL)
) WITH (fillfactor = 75);
CREATE INDEX families_user ON families (user_id);
CREATE INDEX families_session ON families (session_id);
CREATE INDEX families_absolute_end ON families (absolute_end);

-- Signing keys and refresh root keys. The state follows from the instants.
CREATE TABLE keys (
    purpose      text COLLATE "C" NOT NULL CHECK (purpose IN ('sign', 'refresh')),
    algorithm    text COLLATE "C" NOT NULL CHECK (algorithm <> ''),
    number       integer NOT NULL CHECK (number >= 1 AND (purpose = 'sign' OR number <= 255)),
    kid          text COLLATE "C" NOT NULL UNIQUE CHECK (kid <> ''),
    sealed       bytea, -- NULL once destroyed
    master_id    bytea CHECK (octet_length(master_id) = 8),
    published_at timestamptz NOT NULL,
    active_at    timestamptz,
    revoked_at   timestamptz,
    signs_for    interval NOT NULL CHECK (signs_for >= interval '0'),
    PRIMARY KEY (purpose, algorithm, number),
    CHECK ((sealed IS NULL) = (master_id IS NULL))
);

-- Counters of failures; budget is a hash of what is counted.
CREATE TABLE budgets (
    budget       bytea PRIMARY KEY CHECK (octet_length(budget) = 16),
    failures     integer NOT NULL CHECK (failures >= 0),
    closed_until timestamptz NOT NULL,
    forget_at    timestamptz NOT NULL
);
CREATE INDEX budgets_forget_at ON budgets (forget_at);

CREATE TABLE known_networks (
    user_id  uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network  text COLLATE "C" NOT NULL CHECK (network <> ''),
    login_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX known_networks_login_at ON known_networks (login_at);

-- Who does the housekeeping. A lease is an accelerator: work done twice is harmless.
CREATE TABLE leases (
    name   text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL,
    until  timestamptz NOT NULL
);

CREATE TABLE audit_events (
    id         uuid PRIMARY KEY,
    at         timestamptz NOT NULL,
    kind       text NOT NULL CHECK (kind <> ''),
    actor      text NOT NULL CHECK (actor <> ''),
    user_id    uuid,
    session_id uuid,
    family_id  uuid,
    request_id text COLLATE "C" NOT NULL DEFAULT '',
    details    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_events_at ON audit_events (at);
CREATE INDEX audit_events_user ON audit_events (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX audit_events_session ON audit_events (session_id, at) WHERE session_id IS NOT NULL;
CREATE INDEX audit_events_family ON audit_events (family_id, at) WHERE family_id IS NOT NULL;
CREATE INDEX audit_events_request ON audit_events (request_id) WHERE request_id <> '';

INSERT INTO schema_info (one, compatible_from) VALUES (true, 1);

-- +goose Down
DROP TABLE audit_events, leases, known_networks, budgets, keys, families, sessions, passwords, users, server_state, schema_info;
