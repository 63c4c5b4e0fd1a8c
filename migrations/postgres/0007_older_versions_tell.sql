-- +goose Up

-- Not for long: while this waits, so does everybody who comes after it. Whoever
-- migrates tries again.
SET LOCAL lock_timeout = '500ms';

-- 0.1 ends sessions and disables users without telling the revocation feed, and
-- so does an operator's hand: while nodes of both versions run, verifiers would
-- go on taking the access tokens of whom an old node has banned. Versions that
-- tell it themselves say so in each of their transactions (authserver.tells).
-- +goose StatementBegin
CREATE FUNCTION tell_feed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    -- The next whole second; of a session 20 s more, see revocation.Settling.
    at timestamptz := date_trunc('second', now()) + interval '1 second' + TG_ARGV[1]::interval;
BEGIN
    INSERT INTO revocations (kind, subject, not_before, until, status_index)
    SELECT TG_ARGV[0], NEW.id::text, at, at + COALESCE(max(k.signs_for), interval '0') + interval '120 seconds',
        (to_jsonb(NEW) ->> 'status_index')::bigint
    FROM keys k WHERE k.purpose = 'sign';
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER sessions_tell_feed AFTER UPDATE OF ended_at ON sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL AND current_setting('authserver.tells', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION tell_feed('session', '20 seconds');
CREATE TRIGGER users_tell_feed AFTER UPDATE OF disabled_at ON users FOR EACH ROW
    WHEN (OLD.disabled_at IS NULL AND NEW.disabled_at IS NOT NULL AND current_setting('authserver.tells', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION tell_feed('user', '0 seconds');

-- +goose Down
DROP TRIGGER users_tell_feed ON users;
DROP TRIGGER sessions_tell_feed ON sessions;
DROP FUNCTION tell_feed();
