package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    /// Users are asked for and made in batches of this size.
    private static let batch = 1000

    @discardableResult
    package func ensureUsers(_ users: [UserID]) async throws(FanfareError) -> [UserID: UserKey] {
        try await self.read("ensure_users") { session in
            var keys: [UserID: UserKey] = [:]
            for start in stride(from: 0, to: users.count, by: PostgresStore.batch) {
                let ids = try session.ensureUsers(users[start..<min(start + PostgresStore.batch, users.count)])
                for (user, id) in ids { keys[user] = UserKey(id) }
            }
            return keys
        }
    }

    package func follow(_ follow: Follow) async throws(FanfareError) {
        guard follow.user != follow.streamer else { throw .badRequest("a user cannot follow himself") }
        let ids = try await self.ids(of: [follow.user, follow.streamer], "follow")
        guard let user = ids[follow.user], let streamer = ids[follow.streamer] else { throw .internal }
        let notify = follow.notify.stored
        try await self.request("follow") { session in
            let key: [PostgresValue] = [.int8(streamer), .shard(Shard(of: follow.user)), .int8(user)]
            let bound = try session.followBound(streamer: streamer, follower: user)
            let open = try session.query(
                """
                SELECT since, notify FROM follows
                WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL FOR UPDATE
                """, key)
            if !open.isEmpty {
                guard try open.int64(0, 1) != Int64(notify) else { return }
                guard try session.isNeeded(streamer, Shard(of: follow.user), since: try open.int64(0, 0)) else {
                    try session.query(
                        """
                        UPDATE follows SET notify = $4
                        WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                        """, key + [.int2(notify)])
                    return
                }
                try session.query(
                    """
                    UPDATE follows SET until = $4
                    WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                    """, key + [.int8(bound)])
            }
            try session.query(
                """
                INSERT INTO follows (streamer, shard, follower, since, notify) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT DO NOTHING
                """, key + [.int8(bound), .int2(notify)])
        }
    }

    package func unfollow(user: UserID, streamer: UserID) async throws(FanfareError) {
        let ids = try await self.ids(of: [user, streamer], "unfollow")
        guard let userID = ids[user], let streamerID = ids[streamer] else { throw .internal }
        try await self.request("unfollow") { session in
            let key: [PostgresValue] = [.int8(streamerID), .shard(Shard(of: user)), .int8(userID)]
            let bound = try session.followBound(streamer: streamerID, follower: userID)
            let open = try session.query(
                """
                SELECT since FROM follows
                WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL FOR UPDATE
                """, key)
            guard !open.isEmpty else { return }
            if try session.isNeeded(streamerID, Shard(of: user), since: try open.int64(0, 0)) {
                try session.query(
                    """
                    UPDATE follows SET until = $4
                    WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                    """, key + [.int8(bound)])
            } else {
                try session.query(
                    """
                    DELETE FROM follows WHERE streamer = $1 AND shard = $2 AND follower = $3 AND until IS NULL
                    """, key)
            }
        }
    }

    /// The users' ids, after making those that are new: apart from the transaction that needs them, so that it holds no
    /// lock on a name.
    func ids(of users: [UserID], _ operation: String) async throws(FanfareError) -> [UserID: Int64] {
        try await self.read(operation + "_users") { session in try session.ensureUsers(users[...]) }
    }
}

extension NotifyPreference {
    /// As `follows.notify` has it: an event reaches follows up to its `reach`.
    var stored: Int16 {
        switch self {
        case .all: 0
        case .live: 1
        case .none: 2
        }
    }

    /// The highest `stored` that an event of this type reaches.
    static func reach(of type: String) -> Int16 {
        type == "stream.live" ? NotifyPreference.live.stored : NotifyPreference.all.stored
    }
}

extension PostgresSession {
    /// Makes the users that are new, and returns the ids of all.
    func ensureUsers(_ users: ArraySlice<UserID>) throws(PostgresError) -> [UserID: Int64] {
        var ids = try self.userIDs(users)
        guard ids.count < users.count else { return ids }
        // In one order everywhere, so that two who make the same users do not deadlock.
        let missing = Set(users).filter { ids[$0] == nil }.sorted()
        guard !missing.isEmpty else { return ids }
        try self.query(
            """
            INSERT INTO users (name, shard) SELECT * FROM unnest($1::text[], $2::int2[]) ON CONFLICT DO NOTHING
            """, [.users(missing), .shards(missing.map(Shard.init(of:)))])
        ids.merge(try self.userIDs(missing[...])) { first, _ in first }
        return ids
    }

    /// The ids of those users who were ever seen.
    func userIDs(_ users: ArraySlice<UserID>) throws(PostgresError) -> [UserID: Int64] {
        let rows = try self.query("SELECT name, id FROM users WHERE name = ANY($1)", [.users(users)])
        var ids: [UserID: Int64] = [:]
        for row in rows.indices { ids[UserID(unchecked: try rows.string(row, 0))] = try rows.int64(row, 1) }
        return ids
    }

    /// Serialises the follows of one user, and lets no event of the streamer come between.
    /// - Returns: the streamer's newest event: what follows from now on is after it, what ended is up to it.
    func followBound(streamer: Int64, follower: Int64) throws(PostgresError) -> Int64 {
        try self.query("SELECT pg_advisory_xact_lock_shared(hashint8extended($1, 1))", [.int8(streamer)])
        try self.query("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", [.int8(follower)])
        return try self.query("SELECT COALESCE(max(id), 0) FROM events WHERE streamer = $1", [.int8(streamer)])
            .onlyInt64()
    }

    /// Events of this streamer wait for the lock that `followBound` shares: their ids are in the order of their commits.
    func lockEvents(of streamer: Int64) throws(PostgresError) {
        try self.query("SELECT pg_advisory_xact_lock(hashint8extended($1, 1))", [.int8(streamer)])
    }

    /// Whether an event counts on a follow that began after event `since`: one that is still being fanned out, or a
    /// broadcast, for as long as there is one.
    func isNeeded(_ streamer: Int64, _ shard: Shard, since: Int64) throws(PostgresError) -> Bool {
        // One statement: a fan-out that ends meanwhile is seen as the one or the other.
        try self.query(
            """
            SELECT EXISTS (SELECT FROM fanouts WHERE streamer = $1 AND completed_at IS NULL AND event_id > $3)
                OR EXISTS (SELECT FROM broadcasts WHERE shard = $2 AND streamer = $1 AND event_id > $3)
            """, [.int8(streamer), .shard(shard), .int8(since)]
        ).bool(0, 0)
    }
}
