extension Migration {
    /// The inbox in partitions of a week, so that what is old goes without a row being deleted.
    static let partitions = Migration(
        number: 4, name: "partitions",
        sql: """
            -- What is below this sequence is gone, or may be.
            CREATE TABLE retention (
                singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
                inbox_floor bigint NOT NULL DEFAULT 0
            );
            INSERT INTO retention DEFAULT VALUES;

            ALTER TABLE inbox RENAME TO inbox_before;
            ALTER INDEX inbox_pkey RENAME TO inbox_before_pkey;
            CREATE TABLE inbox (
                user_id bigint NOT NULL,
                sequence bigint NOT NULL,
                event_id bigint NOT NULL,
                read boolean NOT NULL DEFAULT false,
                archived boolean NOT NULL DEFAULT false,
                PRIMARY KEY (user_id, sequence) INCLUDE (read)
            ) PARTITION BY RANGE (sequence);
            -- Sequences of the day n after 2025-01-01 begin at n * 2^32: see `Week`. What was there before is one
            -- partition, whatever it holds.
            DO $$
            DECLARE
                span CONSTANT bigint := 7 * 4294967296;
                week bigint := floor(extract(epoch FROM now() - timestamptz '2025-01-01 00:00:00+00') / 604800);
            BEGIN
                week := GREATEST(week, (SELECT COALESCE(max(sequence), 0) / span + 1 FROM inbox_before));
                EXECUTE format(
                    'ALTER TABLE inbox ATTACH PARTITION inbox_before FOR VALUES FROM (MINVALUE) TO (%s)', week * span);
                FOR ahead IN 0..3 LOOP
                    EXECUTE format(
                        'CREATE TABLE inbox_w%s PARTITION OF inbox FOR VALUES FROM (%s) TO (%s)
                            WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02)',
                        week + ahead, (week + ahead) * span, (week + ahead + 1) * span);
                END LOOP;
            END $$;
            -- Whatever happens, there is a place for a row.
            CREATE TABLE inbox_default PARTITION OF inbox DEFAULT
                WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02);
            """)
}
