extension Migration {
    /// Events that are to be, at a time.
    static let scheduled = Migration(
        number: 6, name: "scheduled events",
        sql: """
            CREATE TABLE scheduled_events (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                streamer bigint,
                created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                due_at timestamptz NOT NULL,
                -- When it is tried; later than `due_at` where it could not be done.
                run_at timestamptz NOT NULL,
                settled_at timestamptz,
                -- What became of it.
                event_id bigint,
                time_to_live integer,
                attempts integer NOT NULL DEFAULT 0,
                -- 0 waiting, 1 sent, 2 cancelled
                state smallint NOT NULL DEFAULT 0,
                type text NOT NULL,
                data text NOT NULL,
                user_ids bigint[] NOT NULL DEFAULT '{}'
            );
            CREATE INDEX scheduled_events_waiting ON scheduled_events (run_at, id) WHERE state = 0;
            CREATE INDEX scheduled_events_settled ON scheduled_events (settled_at) WHERE state > 0;
            """)
}
