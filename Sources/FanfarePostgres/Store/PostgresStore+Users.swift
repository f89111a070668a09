package import FanfareModel

extension PostgresStore {
    /// Users are asked for and made in batches of this size.
    private static let batch = 1000

    @discardableResult
    package func ensureUsers(_ users: [UserID]) async throws(FanfareError) -> [UserID: UserKey] {
        // Most are known: that takes no write.
        let known = try await self.read("ensure_users") { session in
            try PostgresStore.keys(of: users) { batch in try session.userIDs(batch) }
        }
        let missing = users.filter { known[$0] == nil }
        guard !missing.isEmpty else { return known }
        let made = try await self.statements("make_users") { session in
            try PostgresStore.keys(of: missing) { batch in try session.ensureUsers(batch) }
        }
        return known.merging(made) { first, _ in first }
    }

    /// What `ids` says of all users, batch by batch.
    private static func keys(
        of users: [UserID], _ ids: (ArraySlice<UserID>) throws -> [UserID: Int64]
    ) throws -> [UserID: UserKey] {
        var keys: [UserID: UserKey] = [:]
        for start in stride(from: 0, to: users.count, by: PostgresStore.batch) {
            let batch = try ids(users[start..<min(start + PostgresStore.batch, users.count)])
            for (user, id) in batch { keys[user] = UserKey(id) }
        }
        return keys
    }

    /// The users' ids, after making those that are new: apart from the transaction that needs them, so that it holds no
    /// lock on a name.
    func ids(of users: [UserID], _ operation: String) async throws(FanfareError) -> [UserID: Int64] {
        try await self.statements(operation + "_users") { session in try session.ensureUsers(users[...]) }
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

    init?(stored: Int64) {
        guard let preference = NotifyPreference.allCases.first(where: { Int64($0.stored) == stored }) else {
            return nil
        }
        self = preference
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
}
