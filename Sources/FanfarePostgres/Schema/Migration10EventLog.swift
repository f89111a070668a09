extension Migration {
    /// Events in partitions: ranges of ids, begun one after the other as time passes.
    static let eventLog = Migration(
        number: 10, name: "events as a log",
        sql: """
            -- Ranges of the ids of logs, each a table with the log's name and `_p` and the number. Ids are given from the
            -- range that was opened last, and above.
            CREATE TABLE partitions (
                log text NOT NULL,
                number bigint NOT NULL,
                first_id bigint NOT NULL,
                -- The first id after it.
                end_id bigint NOT NULL,
                -- Null: made ahead.
                opened_at timestamptz,
                -- When the next one was opened.
                ended_at timestamptz,
                -- The transactions that may still write in it, as they were once no other could begin to.
                writers text[],
                -- When the last of them was gone.
                closed_at timestamptz,
                -- Of events: entries above this sequence refer to none of them.
                last_sequence bigint,
                -- When it ceased to be read: the table goes as soon as nobody is in the way.
                retired_at timestamptz,
                PRIMARY KEY (log, number)
            );

            -- How many events of a type a streamer had, in each partition that is closed; in those that are gone together
            -- under -1. Streamer 0: users were named.
            CREATE TABLE event_counts (
                streamer bigint NOT NULL,
                type text NOT NULL,
                partition bigint NOT NULL,
                count bigint NOT NULL,
                PRIMARY KEY (streamer, type, partition)
            );
            CREATE INDEX event_counts_partition ON event_counts (partition);

            -- What is there becomes the first partition, as it is.
            DO $$
            DECLARE
                range CONSTANT bigint := 4294967296;
                last bigint;
                until bigint;
            BEGIN
                LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
                SELECT GREATEST(CASE WHEN s.is_called THEN s.last_value ELSE 0 END, (SELECT max(id) FROM events), 0)
                    INTO last FROM events_id_seq s;
                until := (last / range + 1) * range;
                ALTER TABLE events ALTER COLUMN id DROP IDENTITY;
                ALTER TABLE events RENAME TO events_p0;
                ALTER INDEX events_pkey RENAME TO events_p0_pkey;
                ALTER INDEX events_streamer RENAME TO events_p0_streamer;
                CREATE TABLE events (LIKE events_p0 INCLUDING DEFAULTS) PARTITION BY RANGE (id);
                ALTER TABLE events ADD PRIMARY KEY (id);
                CREATE INDEX events_streamer ON events (streamer, id) WHERE streamer IS NOT NULL;
                EXECUTE format(
                    'ALTER TABLE events ATTACH PARTITION events_p0 FOR VALUES FROM (MINVALUE) TO (%s)', until);
                CREATE SEQUENCE event_ids OWNED BY events.id;
                PERFORM setval('event_ids', GREATEST(last, 1), last > 0);
                ALTER TABLE events ALTER COLUMN id SET DEFAULT nextval('event_ids');
                INSERT INTO partitions (log, number, first_id, end_id, opened_at)
                    VALUES ('events', 0, 0, until, clock_timestamp());
            END $$;
            """)
}
