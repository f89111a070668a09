extension Migration {
    /// Events for a great many, written once for each shard; pausing and cancelling; budgets of rows.
    static let broadcasts = Migration(
        number: 7, name: "broadcasts and controls",
        sql: """
            ALTER TABLE fanouts
                -- Written once for each shard, not for each recipient.
                ADD COLUMN is_broadcast boolean NOT NULL DEFAULT false,
                -- What bounds its rows per second beside the cluster's budget.
                ADD COLUMN budget text,
                ADD COLUMN relayed_at timestamptz,
                -- Recipients from whom it was taken back.
                ADD COLUMN withdrawn bigint NOT NULL DEFAULT 0;
            ALTER TABLE fanout_tallies
                ADD COLUMN withdrawn bigint NOT NULL DEFAULT 0,
                ADD COLUMN written_at timestamptz NOT NULL DEFAULT clock_timestamp();
            -- Of a cancelled event: takes back what is unread.
            ALTER TABLE fanout_jobs ADD COLUMN is_withdrawal boolean NOT NULL DEFAULT false;

            -- The event of a start: a stream that goes on makes no other.
            ALTER TABLE streams ADD COLUMN event_id bigint;
            CREATE INDEX streams_latest ON streams (streamer, id);

            -- Up to when the rows that were written use the budget up.
            CREATE TABLE fanout_budgets (
                name text PRIMARY KEY,
                used_until timestamptz NOT NULL DEFAULT '-infinity'
            ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
            """)
}
