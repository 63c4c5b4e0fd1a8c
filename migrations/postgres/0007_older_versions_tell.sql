-- +goose Up

-- Not for long: while this waits, so does everybody who comes after it. Whoever
-- migrates tries again.
SELECT set_config('lock_timeout', COALESCE(NULLIF(current_setting('authserver.patience', true), ''), '500ms'), true);
SET LOCAL statement_timeout = 0;

-- 0.1 ends sessions, disables users and raises the floor without telling the
-- revocation feed: while nodes of both versions run, verifiers would go on taking
-- the access tokens of whom an old node has banned. Versions that tell it
-- themselves say so in each of their transactions (authserver.tells). The clock is
-- read after the locks, as everywhere.
--
-- The functions run as their owner, who may write the feed: the role of a node of
-- 0.1 may not have been granted that. Nobody else can make a trigger of them, and no
-- operator of somebody's making fits where types are spelled out.
-- +goose StatementBegin
DO $$
DECLARE
    safe text := 'SECURITY DEFINER SET search_path = '
        || (SELECT string_agg(quote_ident(s), ', ') FROM unnest(current_schemas(false)) AS s) || ', pg_temp';
BEGIN
    EXECUTE 'CREATE FUNCTION feed_life() RETURNS interval LANGUAGE sql STABLE ' || safe || ' AS $f$
        SELECT COALESCE(max(signs_for), interval ''0'') + interval ''120 seconds'' FROM keys WHERE purpose = ''sign''
    $f$';
    EXECUTE 'CREATE FUNCTION tell_feed() RETURNS trigger LANGUAGE plpgsql ' || safe || ' AS $f$
    DECLARE
        -- The next whole second; of a session 20 s more, see revocation.Settling.
        at timestamptz := date_trunc(''second'', clock_timestamp()) + interval ''1 second'' + TG_ARGV[1]::interval;
        told jsonb := pg_catalog.to_jsonb(NEW); -- whoever may make functions here could make one for this row alone
    BEGIN
        -- An entry for everybody is enough for whoever has not used a session since.
        IF told ->> ''end_reason''::text IN (''floor'', ''root_key'') AND EXISTS (SELECT FROM server_state s WHERE s.tokens_from IS NOT NULL
            AND NOT EXISTS (SELECT FROM families f WHERE f.session_id = NEW.id AND f.used_at >= s.tokens_from - interval ''1 second'')) THEN
            RETURN NULL;
        END IF;
        INSERT INTO revocations (kind, subject, not_before, until, status_index)
        VALUES (TG_ARGV[0], NEW.id::text, at, at + feed_life(), (told ->> ''status_index''::text)::bigint);
        RETURN NULL;
    END $f$';
    EXECUTE 'CREATE FUNCTION tell_feed_of_floor() RETURNS trigger LANGUAGE plpgsql ' || safe || ' AS $f$
    DECLARE
        at timestamptz := date_trunc(''second'', clock_timestamp()) + interval ''1 second'';
    BEGIN
        IF NEW.tokens_from IS NULL OR NEW.tokens_from < at THEN
            NEW.tokens_from := at;
            INSERT INTO revocations (kind, subject, not_before, until) VALUES (''all'', NEW.issuer, at, at + feed_life());
        END IF;
        RETURN NEW;
    END $f$';
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION feed_life(), tell_feed(), tell_feed_of_floor() FROM PUBLIC;
CREATE TRIGGER users_tell_feed AFTER UPDATE OF disabled_at ON users FOR EACH ROW
    WHEN (OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL AND current_setting('authserver.tells', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION tell_feed('user', '0 seconds');
CREATE TRIGGER sessions_tell_feed AFTER UPDATE OF ended_at ON sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND current_setting('authserver.tells', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION tell_feed('session', '20 seconds');
CREATE TRIGGER server_state_tells_feed BEFORE UPDATE OF floor ON server_state FOR EACH ROW
    WHEN (NEW.floor > OLD.floor AND current_setting('authserver.tells', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION tell_feed_of_floor();

-- +goose Down
DROP TRIGGER server_state_tells_feed ON server_state;
DROP TRIGGER sessions_tell_feed ON sessions;
DROP TRIGGER users_tell_feed ON users;
DROP FUNCTION tell_feed_of_floor(), tell_feed(), feed_life();
