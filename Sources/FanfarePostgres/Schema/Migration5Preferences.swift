extension Migration {
    /// What users want to hear of, and when; until when events are worth a push.
    static let preferences = Migration(
        number: 5, name: "preferences",
        sql: """
            -- No row: never asked for anything.
            CREATE TABLE preferences (
                user_id bigint PRIMARY KEY,
                version bigint NOT NULL DEFAULT 1,
                -- As in `follows`: the widest that holds for any streamer.
                notify smallint NOT NULL DEFAULT 0,
                -- False as long as there are follows that are wider.
                is_applied boolean NOT NULL DEFAULT true,
                mute_since timestamptz,
                mute_until timestamptz,
                -- Minutes of the day.
                quiet_from smallint,
                quiet_to smallint,
                time_zone text,
                CHECK ((mute_since IS NULL) = (mute_until IS NULL)),
                CHECK (num_nulls(quiet_from, quiet_to, time_zone) IN (0, 3))
            );
            CREATE INDEX preferences_open ON preferences (user_id) WHERE NOT is_applied;

            CREATE TABLE streamer_mutes (
                user_id bigint NOT NULL,
                streamer bigint NOT NULL,
                since timestamptz NOT NULL,
                until timestamptz NOT NULL,
                PRIMARY KEY (user_id, streamer)
            );

            -- What was chosen for this streamer, where the user's preferences make `notify` narrower.
            ALTER TABLE follows ADD COLUMN chosen smallint;

            ALTER TABLE events
                -- When it stops being worth a push.
                ADD COLUMN expires_at timestamptz,
                -- The stream whose end makes it so, too.
                ADD COLUMN stream_id bigint;
            """)
}
