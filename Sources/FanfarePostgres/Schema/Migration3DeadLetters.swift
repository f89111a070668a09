extension Migration {
    /// Dead letters that say where the work was to go, what kind of fault it was, and what it has to stay in order with.
    static let deadLetters = Migration(
        number: 3, name: "dead letters for operators",
        sql: """
            ALTER TABLE dead_letters
                ADD COLUMN streamer bigint,
                ADD COLUMN endpoint text NOT NULL DEFAULT '',
                ADD COLUMN order_key text NOT NULL DEFAULT '',
                -- As this program reacts to SQLSTATEs.
                ADD COLUMN error_class text GENERATED ALWAYS AS (
                    CASE
                        WHEN sql_state IS NULL THEN 'other'
                        WHEN sql_state IN ('40003', '25P03', '57P01', '57P02', '57P03', '57P04', '57P05')
                            THEN 'connection'
                        WHEN sql_state = '40002' THEN 'data'
                        WHEN sql_state = '26000' THEN 'conflict'
                        WHEN sql_state IN ('55P03', '55006', '57014') THEN 'timeout'
                        WHEN sql_state = '25006' THEN 'read_only'
                        WHEN left(sql_state, 2) = '08' THEN 'connection'
                        WHEN left(sql_state, 2) = '40' THEN 'conflict'
                        WHEN left(sql_state, 2) IN ('53', '57', '58', 'XX') THEN 'resources'
                        WHEN left(sql_state, 2) IN ('22', '23', '44', 'P0') THEN 'data'
                        ELSE 'statement'
                    END
                ) STORED,
                -- The letter whose replay failed again.
                ADD COLUMN replay_of bigint,
                -- The call that settled it, to know it again after a COMMIT whose answer was lost.
                ADD COLUMN settled_by text;
            DROP INDEX dead_letters_event;
            CREATE INDEX dead_letters_event ON dead_letters (event_id, user_id);
            CREATE INDEX dead_letters_settled ON dead_letters (settled_at) WHERE state <> 0;
            CREATE INDEX dead_letters_settled_by ON dead_letters (settled_by) WHERE settled_by IS NOT NULL;

            -- Whoever writes a letter says what failed; the rest is told from the event.
            CREATE FUNCTION describe_dead_letter() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE
                named text;
                earlier record;
            BEGIN
                SELECT e.streamer INTO NEW.streamer FROM events e WHERE e.id = NEW.event_id;
                SELECT u.name INTO named FROM users u WHERE u.id = NEW.user_id;
                NEW.endpoint := CASE
                    WHEN named IS NOT NULL THEN 'user:' || named
                    WHEN NEW.shard IS NOT NULL THEN 'shard:' || NEW.shard
                    ELSE NEW.kind END;
                NEW.order_key := CASE
                    WHEN NEW.streamer IS NOT NULL
                        THEN 'streamer:' || COALESCE((SELECT u.name FROM users u WHERE u.id = NEW.streamer), '?')
                    WHEN named IS NOT NULL THEN 'user:' || named
                    ELSE 'event:' || COALESCE(NEW.event_id::text, '?') END;
                IF TG_OP = 'INSERT' THEN
                    IF NEW.user_id IS NULL THEN
                        SELECT d.id, d.attempts, d.first_failed_at INTO earlier FROM dead_letters d
                        WHERE d.event_id = NEW.event_id AND d.user_id IS NULL AND d.kind = NEW.kind
                            AND d.shard IS NOT DISTINCT FROM NEW.shard AND d.state = 1
                        ORDER BY d.id DESC LIMIT 1;
                    ELSE
                        SELECT d.id, d.attempts, d.first_failed_at INTO earlier FROM dead_letters d
                        WHERE d.event_id = NEW.event_id AND d.user_id = NEW.user_id AND d.kind = NEW.kind
                            AND d.state = 1
                        ORDER BY d.id DESC LIMIT 1;
                    END IF;
                    IF FOUND THEN
                        NEW.replay_of := earlier.id;
                        NEW.attempts := NEW.attempts + earlier.attempts;
                        NEW.first_failed_at := LEAST(NEW.first_failed_at, earlier.first_failed_at);
                    END IF;
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER describe BEFORE INSERT OR UPDATE OF event_id ON dead_letters
                FOR EACH ROW EXECUTE FUNCTION describe_dead_letter();
            -- Describes those that are there.
            UPDATE dead_letters SET event_id = event_id;
            """)
}
