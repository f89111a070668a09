extension Migration {
    /// The inbox in partitions: ranges of sequences, which go as a whole when they are too old.
    static let inboxPartitions = Migration(
        number: 11, name: "inbox in partitions",
        sql: """
            ALTER TABLE instance
                -- New sequences begin here at the least.
                ADD COLUMN inbox_floor bigint NOT NULL DEFAULT 0,
                -- Entries up to here are gone.
                ADD COLUMN inbox_gone bigint NOT NULL DEFAULT 0;
            -- The event's entries lie at or above this sequence. Null: above those of the days before it was relayed.
            ALTER TABLE fanouts ADD COLUMN first_sequence bigint;

            -- What is there becomes the first partition, as it is. Programs before this one begin sequences anew with each
            -- day: there is room for those of some days.
            DO $$
            DECLARE
                range CONSTANT bigint := 4294967296;
                today CONSTANT bigint := floor((extract(epoch FROM clock_timestamp()) - 1735689600) / 86400);
                until bigint;
            BEGIN
                LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE;
                LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE;
                SELECT (GREATEST(max(next_sequence) / range, today) + 8) * range INTO until FROM shards;
                UPDATE instance SET inbox_floor = today * range;
                ALTER TABLE inbox RENAME TO inbox_p0;
                ALTER INDEX inbox_pkey RENAME TO inbox_p0_pkey;
                CREATE TABLE inbox (LIKE inbox_p0 INCLUDING DEFAULTS) PARTITION BY RANGE (sequence);
                ALTER TABLE inbox ADD PRIMARY KEY (user_id, sequence) INCLUDE (read);
                EXECUTE format(
                    'ALTER TABLE inbox ATTACH PARTITION inbox_p0 FOR VALUES FROM (MINVALUE) TO (%s)', until);
                INSERT INTO partitions (log, number, first_id, end_id, opened_at)
                    VALUES ('inbox', 0, 0, until, clock_timestamp());
            END $$;
            """)
}
