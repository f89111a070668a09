extension Migration {
    /// Events that are kept once for a whole shard and read together with the inbox, and inbox entries that were put away.
    static let inbox = Migration(
        number: 2, name: "inbox",
        sql: """
            -- An event that everyone of the shard has in the inbox who followed its streamer when it was accepted, under
            -- the shard's number, without a row of his own. A row that he has under the same number goes before.
            CREATE TABLE broadcasts (
                shard smallint NOT NULL,
                sequence bigint NOT NULL,
                event_id bigint NOT NULL,
                streamer bigint NOT NULL,
                reach smallint NOT NULL,
                PRIMARY KEY (shard, sequence)
            );
            -- What a reader asks, streamer by streamer, answered without the table.
            CREATE INDEX broadcasts_streamer
                ON broadcasts (shard, streamer, sequence) INCLUDE (event_id, reach);
            -- What a change of a streamer's audience asks.
            CREATE INDEX broadcasts_event ON broadcasts (streamer, event_id);

            -- A user's follows that ended, beside `follows_open`.
            CREATE INDEX follows_ended_by ON follows (follower, streamer) WHERE until IS NOT NULL;

            -- Put away: always read, too.
            ALTER TABLE inbox ADD COLUMN archived boolean NOT NULL DEFAULT false;
            ALTER TABLE read_marks ADD COLUMN archived_up_to bigint NOT NULL DEFAULT 0;
            """)
}
