extension Migration {
    /// Events whose stream ended within the hold-off.
    static let held = Migration(
        number: 8, name: "held events",
        sql: """
            ALTER TABLE fanouts
                -- Until then the stream may go on, and its event with it; null where nothing is held.
                ADD COLUMN held_until timestamptz;
            CREATE INDEX fanouts_held ON fanouts (held_until) WHERE held_until IS NOT NULL;
            """)
}
