extension Migration {
    /// Who hears of a large event before the others.
    static let ahead = Migration(
        number: 9, name: "those who hear first",
        sql: """
            -- The last day on which a user came or went, by this server's clock: no finer, so that it is written once a day.
            CREATE TABLE activity (
                user_id bigint PRIMARY KEY,
                -- Since 1970.
                day integer NOT NULL,
                shard smallint NOT NULL
            ) WITH (fillfactor = 80);
            CREATE INDEX activity_latest ON activity (shard, day DESC, user_id);

            -- Users of a shard whose rows are written before those of the others, in this order. Chosen once, when the
            -- shard begins with the event; the others' rows are written without them.
            CREATE TABLE fanout_ahead (
                event_id bigint NOT NULL,
                shard smallint NOT NULL,
                written integer NOT NULL DEFAULT 0,
                user_ids bigint[] NOT NULL,
                PRIMARY KEY (event_id, shard)
            ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
            """)
}
