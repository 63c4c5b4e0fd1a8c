-- +goose Up

-- Users before families, as everywhere, and not for long: while this waits, so
-- does everybody who comes after it. Whoever migrates tries again.
SELECT set_config('lock_timeout', COALESCE(NULLIF(current_setting('authserver.patience', true), ''), '500ms'), true);
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE families IN ACCESS EXCLUSIVE MODE;

-- A rotation writes one row and, but for server_state, reads no other: the
-- family repeats what a rotation asks of its user. roles are NULL where that is
-- not known, in families born by 0.1; users is asked then, and the next rotation
-- writes the answer here.
ALTER TABLE families ADD COLUMN roles text[];
ALTER TABLE families ADD COLUMN tokens_from timestamptz;
ALTER TABLE families ADD COLUMN disabled boolean NOT NULL DEFAULT false;

-- The ring's revision at which a refresh root key was revoked last: a node whose
-- keys are older may not rotate, or it would carry a family over to the next
-- root key, away from the revocation.
ALTER TABLE server_state ADD COLUMN roots_revision bigint NOT NULL DEFAULT 0;

-- Whoever changes users keeps the copies right, also an older binary or an
-- operator's hand. The rows are locked in the order of their ids, like
-- everywhere; a rotation under way either commits first and is overwritten, or
-- waits and finds the new values. A birth holds the user's row meanwhile, and is
-- seen because each statement of the function has a snapshot of its own.
-- +goose StatementBegin
CREATE FUNCTION users_tell_families() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'users are changed under isolation level read committed, and not %', current_setting('transaction_isolation')
            USING ERRCODE = 'feature_not_supported', HINT = 'Another level would not see the sessions that begin meanwhile.';
    END IF;
    PERFORM FROM families WHERE user_id = NEW.id AND ended_at IS NULL ORDER BY id FOR NO KEY UPDATE;
    UPDATE families SET roles = NEW.roles, tokens_from = NEW.tokens_from, disabled = NEW.disabled_at IS NOT NULL
    WHERE user_id = NEW.id AND ended_at IS NULL;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER users_tell_families AFTER UPDATE ON users FOR EACH ROW
    WHEN (NEW.roles <> OLD.roles OR NEW.disabled_at IS DISTINCT FROM OLD.disabled_at
        OR NEW.tokens_from IS DISTINCT FROM OLD.tokens_from)
    EXECUTE FUNCTION users_tell_families();

-- PostgreSQL parses every CHECK of a table again in every statement that updates
-- it, whatever columns it sets: 150 of the 390 us of a rotation that comes alone.
-- So families are checked once, at birth; audit sessions looks for what goes
-- wrong later.
-- +goose StatementBegin
DO $$
DECLARE checked name;
BEGIN
    FOR checked IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'families'::regclass AND contype = 'c' AND conname ~ '^families(_[a-z_]+)?_check[0-9]*$'
    LOOP
        EXECUTE format('ALTER TABLE families DROP CONSTRAINT %I', checked);
    END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION refuse_family() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'family % does not hold together: see trigger families_hold_together', NEW.id USING ERRCODE = 'check_violation';
END $$;
-- +goose StatementEnd
CREATE TRIGGER families_hold_together BEFORE INSERT ON families FOR EACH ROW
    WHEN ((NEW.client <> ''
        AND octet_length(NEW.secret_hash) = 32
        AND cardinality(NEW.audience) > 0
        AND (NEW.binding IN ('', 'client') OR NEW.binding LIKE 'dpop:_%' OR NEW.binding LIKE 'mtls:_%')
        AND NEW.transport IN ('body', 'cookie')
        AND (NEW.rotates OR NEW.binding <> '')
        AND NEW.idle_ttl > interval '0'
        AND NEW.absolute_end > NEW.born_at
        AND octet_length(NEW.sender) = 16
        AND NEW.generation >= 1
        AND NEW.head_key BETWEEN 1 AND 255
        AND NEW.foreign_streak BETWEEN 0 AND 2
        AND (NEW.retry_key IS NULL OR octet_length(NEW.retry_key) = 16)
        AND (NOT NEW.key_fresh OR NEW.retry_key IS NOT NULL)
        AND (NEW.ended_at IS NULL) = (NEW.end_reason IS NULL)) IS NOT TRUE)
    EXECUTE FUNCTION refuse_family();

-- +goose Down
DROP TRIGGER families_hold_together ON families;
DROP TRIGGER users_tell_families ON users;
DROP FUNCTION refuse_family, users_tell_families;
ALTER TABLE server_state DROP COLUMN roots_revision;
ALTER TABLE families DROP COLUMN disabled;
ALTER TABLE families DROP COLUMN tokens_from;
ALTER TABLE families DROP COLUMN roles;
