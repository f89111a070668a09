package import FanfareEngines
package import FanfareModel

extension PostgresStore {
    package func notifications(_ query: InboxQuery) async throws(FanfareError) -> InboxPage {
        // Apart for unread ones, so that each has the plan that fits.
        let unread = query.unreadOnly ? "AND NOT i.read AND i.sequence > (SELECT up_to FROM who)" : ""
        return try await self.read("notifications") { session in
            // One statement, so that page and count are of one moment.
            let rows = try session.query(
                """
                WITH \(PostgresStore.who), page AS (
                    SELECT i.sequence, i.event_id, i.read OR i.sequence <= (SELECT up_to FROM who) AS read FROM inbox i
                    WHERE i.user_id = (SELECT id FROM who) AND i.sequence < $2 \(unread)
                    ORDER BY i.sequence DESC LIMIT $3
                )
                SELECT count.unread, p.sequence, p.event_id, e.type, e.data, e.created_at, p.read
                FROM (\(PostgresStore.unread)) count
                LEFT JOIN (page p JOIN events e ON e.id = p.event_id) ON true
                ORDER BY p.sequence DESC
                """,
                [
                    .text(query.user.rawValue), .int8(query.before ?? UInt64(Int64.max)),
                    .int8(Int64(min(max(query.limit, 0), 1000))),
                ])
            return InboxPage(entries: try PostgresStore.entries(rows, limit: .max), unread: try rows.int(0, 0))
        }
    }

    package func inbox(
        of user: UserID, after sequence: UInt64, limit: Int
    ) async throws(FanfareError) -> InboxTail {
        let limit = min(max(limit, 0), 10_000)
        return try await self.read("inbox_after") { session in
            let rows = try session.query(
                """
                WITH \(PostgresStore.who), page AS (
                    SELECT i.sequence, i.event_id, i.read OR i.sequence <= (SELECT up_to FROM who) AS read FROM inbox i
                    WHERE i.user_id = (SELECT id FROM who) AND i.sequence > $2
                    ORDER BY i.sequence LIMIT $3
                )
                SELECT top.sequence, p.sequence, p.event_id, e.type, e.data, e.created_at, p.read
                FROM (SELECT COALESCE(max(sequence), 0) AS sequence FROM inbox
                    WHERE user_id = (SELECT id FROM who)) top
                LEFT JOIN (page p JOIN events e ON e.id = p.event_id) ON true
                ORDER BY p.sequence
                """, [.text(user.rawValue), .int8(sequence), .int8(Int64(limit + 1))])
            let entries = try PostgresStore.entries(rows, limit: limit)
            let isTruncated = rows.count > limit && !rows.isNull(rows.count - 1, 1)
            return InboxTail(entries: entries, top: try rows.uint64(0, 0), isTruncated: isTruncated)
        }
    }

    package func inboxPosition(of user: UserID) async throws(FanfareError) -> UInt64 {
        try await self.read("inbox_position") { session in
            UInt64(
                try session.query(
                    """
                    SELECT COALESCE(max(sequence), 0) FROM inbox
                    WHERE user_id = (SELECT id FROM users WHERE name = $1)
                    """, [.text(user.rawValue)]
                ).onlyInt64())
        }
    }

    package func inboxPositions(of users: [UserID]) async throws(FanfareError) -> [UserID: UInt64] {
        guard !users.isEmpty else { return [:] }
        return try await self.read("inbox_positions") { session in
            let rows = try session.query(
                """
                SELECT u.name, top.sequence
                FROM users u CROSS JOIN LATERAL (SELECT max(sequence) AS sequence FROM inbox WHERE user_id = u.id) top
                WHERE u.name = ANY($1) AND top.sequence IS NOT NULL
                """, [.users(Array(users.prefix(1000)))])
            var positions: [UserID: UInt64] = [:]
            for row in rows.indices {
                positions[UserID(unchecked: try rows.string(row, 0))] = try rows.uint64(row, 1)
            }
            return positions
        }
    }

    package func markRead(user: UserID, _ which: MarkRead) async throws(FanfareError) -> MarkReadResult {
        try await self.request("mark_read") { session in
            let ids = try session.userIDs([user])
            guard let id = ids[user] else { return MarkReadResult(unread: 0, changed: 0) }
            // One at a time per user, so that each sees what the one before changed. A fan-out that commits meanwhile
            // only adds rows above all that are there: see `shards.job`.
            try session.query("INSERT INTO read_marks (user_id) VALUES ($1) ON CONFLICT DO NOTHING", [.int8(id)])
            let mark = try session.query("SELECT up_to FROM read_marks WHERE user_id = $1 FOR UPDATE", [.int8(id)])
                .onlyInt64()
            let changed: Int
            switch which {
            case .sequences(let sequences):
                changed = try session.query(
                    """
                    UPDATE inbox SET read = true
                    WHERE user_id = $1 AND sequence = ANY($2) AND sequence > $3 AND NOT read
                    """, [.int8(id), .int8s(sequences.map(Int64.init(clamping:))), .int8(mark)]
                ).affected
            case .upTo(let sequence):
                // Not above what is there now: what comes later is unread.
                let bound = try session.query(
                    "SELECT COALESCE(max(sequence), 0) FROM inbox WHERE user_id = $1 AND sequence <= $2",
                    [.int8(id), .int8(sequence)]
                ).onlyInt64()
                guard bound > mark else {
                    changed = 0
                    break
                }
                changed = Int(
                    try session.query(
                        """
                        SELECT count(*) FROM inbox
                        WHERE user_id = $1 AND sequence > $2 AND sequence <= $3 AND NOT read
                        """, [.int8(id), .int8(mark), .int8(bound)]
                    ).onlyInt64())
                try session.query("UPDATE read_marks SET up_to = $2 WHERE user_id = $1", [.int8(id), .int8(bound)])
            }
            let unread = try session.query("WITH \(PostgresStore.who) \(PostgresStore.unread)", [.text(user.rawValue)])
            return MarkReadResult(unread: try unread.int(0, 0), changed: changed)
        }
    }

    /// The user named $1, and up to where all is read.
    private static let who = """
        who AS (
            SELECT u.id, COALESCE(m.up_to, 0) AS up_to
            FROM users u LEFT JOIN read_marks m ON m.user_id = u.id WHERE u.name = $1
        )
        """

    /// Always counted, never kept: there is nothing that could drift.
    private static let unread = """
        SELECT count(*) AS unread FROM inbox
        WHERE user_id = (SELECT id FROM who) AND sequence > (SELECT up_to FROM who) AND NOT read
        """

    private static func entries(_ rows: PostgresRows, limit: Int) throws(PostgresError) -> [InboxEntry] {
        var entries: [InboxEntry] = []
        for row in rows.indices.prefix(limit) where !rows.isNull(row, 1) {
            entries.append(
                InboxEntry(
                    sequence: try rows.uint64(row, 1), event: EventID(try rows.int64(row, 2)),
                    type: try rows.string(row, 3), data: try rows.bytes(row, 4), createdAt: try rows.timestamp(row, 5),
                    isRead: try rows.bool(row, 6)))
        }
        return entries
    }
}
