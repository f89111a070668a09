extension Migration {
    /// Many shards' work in one transaction: events in a numbered log that shards take up, jobs for large ones alone.
    static let fanout = Migration(
        number: 4, name: "fan-out in batches",
        sql: """
            -- The log of accepted events: numbers grow in the order of the relays' commits.
            CREATE SEQUENCE fanout_numbers;
            ALTER TABLE fanouts
                -- Null until the event was relayed.
                ADD COLUMN number bigint,
                ADD COLUMN reach smallint NOT NULL DEFAULT 0,
                -- Those with recipients.
                ADD COLUMN shards smallint[] NOT NULL DEFAULT '{}',
                -- Written whole by its shards, or by jobs.
                ADD COLUMN is_large boolean NOT NULL DEFAULT true,
                -- Higher goes first.
                ADD COLUMN priority smallint NOT NULL DEFAULT 0,
                -- 0 open, 1 paused, 2 cancelled
                ADD COLUMN state smallint NOT NULL DEFAULT 0,
                -- How many it is for, where that was counted.
                ADD COLUMN total bigint;
            CREATE INDEX fanouts_log ON fanouts (number) WHERE completed_at IS NULL;

            -- The named users of an event, by shard, until it is complete.
            CREATE TABLE fanout_named (
                event_id bigint NOT NULL,
                shard smallint NOT NULL,
                user_ids bigint[] NOT NULL,
                PRIMARY KEY (event_id, shard)
            );

            -- What was written and delivered, appended by each batch: no two batches wait for each other's row. Folded into
            -- `fanouts` once the event is complete.
            CREATE TABLE fanout_tallies (
                event_id bigint NOT NULL,
                recipients bigint NOT NULL DEFAULT 0,
                delivered bigint NOT NULL DEFAULT 0
            ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
            CREATE INDEX fanout_tallies_event ON fanout_tallies (event_id);

            -- Events up to `position` were taken up: written, or made into jobs. All rows up to `settled_sequence` were
            -- pushed, and with them the events up to `settled_position`.
            ALTER TABLE shards
                ADD COLUMN position bigint NOT NULL DEFAULT 0,
                ADD COLUMN settled_position bigint NOT NULL DEFAULT 0,
                ADD COLUMN settled_sequence bigint NOT NULL DEFAULT 0;

            -- What was under way goes on from its cursors, each job with a new number.
            INSERT INTO fanout_tallies (event_id, recipients, delivered)
                SELECT event_id, sum(recipients), sum(delivered_online) FROM fanout_jobs GROUP BY event_id;
            DELETE FROM fanout_jobs WHERE is_written;
            UPDATE fanouts f SET number = o.number, shards = o.shards
                FROM (
                    SELECT event_id, row_number() OVER (ORDER BY event_id) AS number, shards FROM (
                        SELECT f.event_id, array_agg(j.shard ORDER BY j.shard) AS shards
                        FROM fanouts f JOIN fanout_jobs j ON j.event_id = f.event_id AND NOT j.is_replay
                        WHERE f.completed_at IS NULL GROUP BY f.event_id
                    ) open
                ) o
                WHERE f.event_id = o.event_id;
            UPDATE fanouts SET completed_at = clock_timestamp()
                WHERE completed_at IS NULL AND shards_total IS NOT NULL AND number IS NULL;
            SELECT setval('fanout_numbers', (SELECT COALESCE(max(number), 0) + 1 FROM fanouts));
            UPDATE shards SET settled_sequence = next_sequence - 1,
                position = (SELECT last_value FROM fanout_numbers),
                settled_position = (SELECT last_value FROM fanout_numbers);
            ALTER TABLE fanouts DROP COLUMN shards_open;
            ALTER TABLE shards DROP COLUMN job;

            DROP INDEX fanout_jobs_open;
            ALTER TABLE fanout_jobs RENAME COLUMN written_cursor TO cursor;
            ALTER TABLE fanout_jobs DROP COLUMN pushed_cursor, DROP COLUMN sequence, DROP COLUMN delivered_online;
            CREATE INDEX fanout_jobs_open ON fanout_jobs (shard, streamer, id) WHERE state = 0;
            """)
}
