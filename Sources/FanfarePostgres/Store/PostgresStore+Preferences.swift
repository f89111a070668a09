package import FanfareCore
package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func preferences(of user: UserID) async throws(FanfareError) -> UserPreferences {
        try await self.read("preferences") { session in try session.preferences(of: user) }
    }

    package func setPreferences(_ change: PreferencesChange) async throws(FanfareError) -> UserPreferences {
        if case .set(let hours) = change.quietHours {
            let exists = try await self.read("time_zone_exists") { session in
                try session.timeZoneExists(hours.timeZone)
            }
            guard exists else { throw .badRequest("unknown time zone: \(hours.timeZone)") }
        }
        let ids = try await self.ids(of: [change.user], "set_preferences")
        guard let id = ids[change.user] else { throw .internal }
        let preferences = try await self.request("set_preferences") { session in
            try session.lockFollows(of: id, streamers: [])
            try session.write(change, for: id)
            return try session.preferences(of: change.user)
        }
        // Where this breaks off, maintenance goes on with it; but it is not in force yet, and so the caller hears.
        try await self.applyLevel(of: id, Shard(of: change.user)) { (operation, body) throws(FanfareError) in
            try await self.request(operation, body)
        }
        return preferences
    }

    package func pushPolicy(of user: UserID) async throws(FanfareError) -> PushPolicy {
        try await self.read("push_policy") { session in try self.policy(of: user, session) }
    }

    func policy(of user: UserID, _ session: PostgresSession) throws(PostgresError) -> PushPolicy {
        let rows = try session.query(
            """
            SELECT p.version, p.notify, p.mute_since, p.mute_until, p.quiet_from, p.quiet_to, p.time_zone,
                s.name, m.since, m.until
            FROM preferences p
            LEFT JOIN streamer_mutes m ON m.user_id = p.user_id
            LEFT JOIN users s ON s.id = m.streamer
            WHERE p.user_id = (SELECT id FROM users WHERE name = $1)
            """, [.text(user.rawValue)])
        guard !rows.isEmpty else { return PushPolicy() }
        var policy = PushPolicy(
            version: try rows.int64(0, 0), level: NotifyPreference(stored: try rows.int64(0, 1)) ?? .all)
        if let since = try rows.timestampOrNil(0, 2), let until = try rows.timestampOrNil(0, 3) {
            policy.mute = Mute(since: since, until: until)
        }
        if let hours = try rows.quietHours(0, from: 4) {
            policy.quietHours = hours
            policy.timeZone = try self.timeZones.rules(of: hours.timeZone, session)
        }
        for row in rows.indices where !rows.isNull(row, 7) {
            policy.mutedStreamers[UserID(unchecked: try rows.string(row, 7))] = Mute(
                since: try rows.timestamp(row, 8), until: try rows.timestamp(row, 9))
        }
        return policy
    }

    // MARK: The level

    /// Follows that one transaction changes at the most: their streamers' events wait for it.
    private static let levelStep = 200

    /// Brings the user's follows to the level of the preferences, in steps that anyone may go on with.
    /// - Parameter transact: runs one transaction.
    func applyLevel<Failure: Error>(
        of user: Int64, _ shard: Shard,
        _ transact: (String, @Sendable (PostgresSession) throws -> Int64?) async throws(Failure) -> Int64?
    ) async throws(Failure) {
        var cursor: Int64? = 0
        while let after = cursor {
            cursor = try await transact("apply_level") { session in
                try session.applyLevel(of: user, shard, after: after, limit: PostgresStore.levelStep)
            }
        }
    }

    /// Goes on where a caller broke off.
    func applyOpenLevels() async {
        let open = try? await self.fanout.run("open_levels") { session in
            let rows = try session.query(
                """
                SELECT p.user_id, u.shard FROM preferences p JOIN users u ON u.id = p.user_id
                WHERE NOT p.is_applied LIMIT 100
                """)
            var open: [(Int64, Shard)] = []
            for row in rows.indices { open.append((try rows.int64(row, 0), Shard(index: try rows.int(row, 1)))) }
            return open
        }
        for (user, shard) in open ?? [] {
            do {
                try await self.applyLevel(of: user, shard) { (operation, body) throws(EngineError) in
                    try await self.work(operation, body)
                }
            } catch {
                // The next turn tries again.
                return
            }
        }
    }
}

extension PostgresSession {
    func timeZoneExists(_ name: String) throws(PostgresError) -> Bool {
        // PostgreSQL takes formulas like XYZ3 for zones, too; these are the names, less those that depend on the machine.
        try self.query(
            """
            SELECT EXISTS (
                SELECT FROM pg_timezone_names
                WHERE name = $1 AND name !~ '^(posix|right)/' AND name NOT IN ('localtime', 'posixrules', 'Factory')
            )
            """, [.text(name)]
        ).bool(0, 0)
    }

    /// As `follows.notify` has it.
    func level(of user: Int64) throws(PostgresError) -> Int16 {
        let rows = try self.query("SELECT notify FROM preferences WHERE user_id = $1", [.int8(user)])
        return rows.isEmpty ? 0 : Int16(try rows.int64(0, 0))
    }

    fileprivate func preferences(of user: UserID) throws(PostgresError) -> UserPreferences {
        let rows = try self.query(
            """
            SELECT p.notify, CASE WHEN p.mute_until > now() THEN p.mute_until END, p.quiet_from, p.quiet_to, p.time_zone,
                s.name, m.until
            FROM preferences p
            LEFT JOIN streamer_mutes m ON m.user_id = p.user_id AND m.until > now()
            LEFT JOIN users s ON s.id = m.streamer
            WHERE p.user_id = (SELECT id FROM users WHERE name = $1)
            ORDER BY s.name
            """, [.text(user.rawValue)])
        guard !rows.isEmpty else { return UserPreferences() }
        var preferences = UserPreferences(
            notify: NotifyPreference(stored: try rows.int64(0, 0)) ?? .all, muteUntil: try rows.timestampOrNil(0, 1),
            quietHours: try rows.quietHours(0, from: 2))
        for row in rows.indices where !rows.isNull(row, 5) {
            preferences.mutedStreamers.append(
                .init(streamer: UserID(unchecked: try rows.string(row, 5)), until: try rows.timestamp(row, 6)))
        }
        return preferences
    }

    fileprivate func write(_ change: PreferencesChange, for user: Int64) throws(PostgresError) {
        try self.touchPreferences(of: user)
        if let notify = change.notify {
            try self.query(
                """
                UPDATE preferences SET notify = $2, is_applied = is_applied AND notify = $2 WHERE user_id = $1
                """, [.int8(user), .int2(notify.stored)])
        }
        switch change.muteUntil {
        case .keep: break
        case .remove:
            try self.query(
                "UPDATE preferences SET mute_since = NULL, mute_until = NULL WHERE user_id = $1", [.int8(user)])
        case .set(let until):
            // A mute that is prolonged began when it began.
            try self.query(
                """
                UPDATE preferences SET mute_until = \(Self.time("$2")),
                    mute_since = CASE WHEN mute_until > now() THEN mute_since ELSE clock_timestamp() END
                WHERE user_id = $1
                """, [.int8(user), .int8(until.milliseconds)])
        }
        switch change.quietHours {
        case .keep: break
        case .remove:
            try self.query(
                "UPDATE preferences SET quiet_from = NULL, quiet_to = NULL, time_zone = NULL WHERE user_id = $1",
                [.int8(user)])
        case .set(let hours):
            try self.query(
                "UPDATE preferences SET quiet_from = $2, quiet_to = $3, time_zone = $4 WHERE user_id = $1",
                [.int8(user), .int2(Int16(hours.from)), .int2(Int16(hours.to)), .text(hours.timeZone)])
        }
    }

    /// Makes sure that there is a row, with a new version.
    private func touchPreferences(of user: Int64) throws(PostgresError) {
        try self.query(
            """
            INSERT INTO preferences (user_id) VALUES ($1)
            ON CONFLICT (user_id) DO UPDATE SET version = preferences.version + 1
            """, [.int8(user)])
    }

    /// Milliseconds since 1970 as a time.
    static func time(_ parameter: String) -> String {
        "'1970-01-01T00:00:00Z'::timestamptz + \(parameter)::bigint * interval '1 millisecond'"
    }

    // MARK: Muted streamers

    /// The caller holds the lock on the user's follows.
    /// - Returns: false where `limit` others are muted: nothing was done.
    func mute(_ streamer: Int64, until: Timestamp, for user: Int64, limit: Int) throws(PostgresError) -> Bool {
        // Quiet hours put pushes off for less than a day: what happened in a mute is still known then.
        try self.query(
            "DELETE FROM streamer_mutes WHERE user_id = $1 AND until <= now() - interval '1 day'", [.int8(user)])
        let muted = try self.query(
            "SELECT count(*) FROM streamer_mutes WHERE user_id = $1 AND streamer <> $2", [.int8(user), .int8(streamer)])
        guard try muted.int(0, 0) < limit else { return false }
        try self.touchPreferences(of: user)
        try self.query(
            """
            INSERT INTO streamer_mutes (user_id, streamer, since, until) VALUES ($1, $2, clock_timestamp(), \(Self.time("$3")))
            ON CONFLICT (user_id, streamer) DO UPDATE SET until = EXCLUDED.until
            """, [.int8(user), .int8(streamer), .int8(until.milliseconds)])
        return true
    }

    /// - Returns: whether the streamer was muted.
    func unmute(_ streamer: Int64, for user: Int64) throws(PostgresError) -> Bool {
        let removed = try self.query(
            "DELETE FROM streamer_mutes WHERE user_id = $1 AND streamer = $2", [.int8(user), .int8(streamer)]
        ).affected
        guard removed > 0 else { return false }
        try self.touchPreferences(of: user)
        return true
    }

    // MARK: The level

    /// Follows `f` that are not what the preferences `p` make of them.
    private static let isOpen = "f.until IS NULL AND f.notify <> GREATEST(COALESCE(f.chosen, f.notify), p.notify)"

    /// One step.
    /// - Returns: where to go on; nil when all follows are as the preferences say.
    fileprivate func applyLevel(
        of user: Int64, _ shard: Shard, after cursor: Int64, limit: Int
    ) throws(PostgresError) -> Int64? {
        // Read before anything is locked: streamers come first in the order of locks.
        let rows = try self.query(
            """
            SELECT f.streamer FROM follows f JOIN preferences p ON p.user_id = f.follower
            WHERE f.follower = $1 AND f.streamer > $2 AND \(Self.isOpen) ORDER BY f.streamer LIMIT $3
            """, [.int8(user), .int8(cursor), .int8(Int64(limit))])
        var streamers: [Int64] = []
        for row in rows.indices { streamers.append(try rows.int64(row, 0)) }
        try self.lockFollows(of: user, streamers: streamers)
        if let last = streamers.last {
            let level = try self.level(of: user)
            let open = try self.openFollows(of: user, shard, streamers: streamers)
            try self.change(open.map { $0.with(chosen: $0.chosen, level: level) }, of: user, shard)
            return last
        }
        let done = try self.query(
            """
            UPDATE preferences p SET is_applied = true
            WHERE p.user_id = $1 AND NOT EXISTS (SELECT FROM follows f WHERE f.follower = p.user_id AND \(Self.isOpen))
            """, [.int8(user)])
        // The level changed under way: from the beginning.
        return done.affected > 0 ? nil : 0
    }
}

extension PostgresRows {
    /// Of three columns.
    fileprivate func quietHours(_ row: Int, from column: Int) throws(PostgresError) -> QuietHours? {
        guard !self.isNull(row, column) else { return nil }
        return QuietHours(
            from: try self.int(row, column), to: try self.int(row, column + 1),
            timeZone: try self.string(row, column + 2))
    }
}
